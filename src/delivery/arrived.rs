//! Rows as they came to the Leader: a batch, and the bytes it came in where a client could be given just those.

use arrow::array::RecordBatch;
use bytes::Bytes;

/// A batch of accepted rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived {
    pub batch: RecordBatch,
    /// Exactly these rows as an Arrow IPC stream of their own, dictionaries without unused values; it was checked when it
    /// came. The batch lies in the same memory, so keeping both costs no more than keeping one.
    pub ipc: Option<Bytes>,
}

impl From<RecordBatch> for Arrived {
    fn from(batch: RecordBatch) -> Arrived {
        Arrived { batch, ipc: None }
    }
}

impl Arrived {
    /// The first rows only.
    pub fn first(self, rows: usize) -> Arrived {
        if rows < self.batch.num_rows() { self.batch.slice(0, rows).into() } else { self }
    }

    /// These rows of it; all of them keep the bytes that they came in.
    pub(super) fn slice(&self, offset: usize, rows: usize) -> Arrived {
        let is_whole = rows == self.batch.num_rows();
        if is_whole { self.clone() } else { self.batch.slice(offset, rows).into() }
    }
}
