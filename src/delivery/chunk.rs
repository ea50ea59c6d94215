//! A chunk, and what can be said to somebody who asks for one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::Gone;

/// A numbered run of a result's rows. Cheap to clone: the rows are shared with the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// From 0, without gaps.
    pub index: u64,
    /// Its rows in order, in one or more pieces; no piece if it has no rows.
    pub pieces: Vec<RecordBatch>,
    /// The same rows as an Arrow IPC stream of their own, where they came so.
    pub ipc: Option<Bytes>,
    /// No chunk follows this one.
    pub is_last: bool,
}

impl Chunk {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.pieces.iter().map(RecordBatch::num_rows).sum()
    }
}

/// The answer to somebody who asks for a chunk.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkState {
    /// Here it is. The same index gives the same chunk again.
    Ready(Chunk),
    /// The query runs and has not produced it: ask again when there are more rows or the query has ended.
    NotYet,
    /// The result is complete and has only this many chunks.
    OutOfRange {
        /// How many there are.
        total_chunks: u64,
    },
    /// The query failed, for this reason; there are no chunks any more.
    Failed(Arc<str>),
    /// It was there, and is not any more.
    Gone(Gone),
}
