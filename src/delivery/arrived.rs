//! Rows as they came to the Leader: as a batch, or as some rows of a block, which stays closed until somebody wants to see
//! rows. Most are only passed on.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::encoding::packed::Packed;

/// Accepted rows. Cheap to clone and to cut: the rows are shared.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrived {
    Batch(RecordBatch),
    /// `rows` rows of the block, the first `from` left out.
    Packed {
        block: Packed,
        from: usize,
        rows: usize,
    },
}

impl From<RecordBatch> for Arrived {
    fn from(batch: RecordBatch) -> Arrived {
        Arrived::Batch(batch)
    }
}

impl From<Packed> for Arrived {
    fn from(block: Packed) -> Arrived {
        let rows = block.rows();
        Arrived::Packed { block, from: 0, rows }
    }
}

impl Arrived {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Arrived::Batch(batch) => batch.num_rows(),
            Arrived::Packed { rows, .. } => *rows,
        }
    }

    /// Their columns.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Arrived::Batch(batch) => batch.schema(),
            Arrived::Packed { block, .. } => SchemaRef::clone(block.schema()),
        }
    }

    /// Some of these rows.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn slice(&self, offset: usize, length: usize) -> Arrived {
        assert!(offset + length <= self.rows(), "rows {offset} and {length} more of {}", self.rows());
        match self {
            Arrived::Batch(batch) => Arrived::Batch(batch.slice(offset, length)),
            Arrived::Packed { block, from, .. } => {
                Arrived::Packed { block: block.clone(), from: from + offset, rows: length }
            }
        }
    }

    /// These rows and those after them as one, if they follow each other in one block.
    pub fn joined(&self, next: &Arrived) -> Option<Arrived> {
        match (self, next) {
            (
                Arrived::Packed { block, from, rows },
                Arrived::Packed { block: other, from: next_from, rows: next_rows },
            ) if block.is_same(other) && from + rows == *next_from => {
                Some(Arrived::Packed { block: block.clone(), from: *from, rows: rows + next_rows })
            }
            _ => None,
        }
    }

    /// The rows as a batch. To be called where computing is in order: a block is read for it.
    ///
    /// # Errors
    /// None that is not a fault of ours: blocks were proven readable when they came, or made here.
    pub fn to_batch(&self) -> Result<RecordBatch, ArrowError> {
        Unpacked::default().batch(self)
    }
}

/// Reads blocks, and keeps the last one: neighbouring pieces are often of the same.
#[derive(Default)]
pub(super) struct Unpacked(Option<(Packed, RecordBatch)>);

impl Unpacked {
    /// The rows of a piece.
    pub fn batch(&mut self, piece: &Arrived) -> Result<RecordBatch, ArrowError> {
        let (block, from, rows) = match piece {
            Arrived::Batch(batch) => return Ok(batch.clone()),
            Arrived::Packed { block, from, rows } => (block, *from, *rows),
        };
        if let Some((known, batch)) = &self.0
            && known.is_same(block)
        {
            return Ok(batch.slice(from, rows));
        }
        let batch = block.to_batch().map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
        let slice = batch.slice(from, rows);
        self.0 = Some((block.clone(), batch));
        Ok(slice)
    }
}
