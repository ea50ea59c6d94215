//! A chunk, and what can be said to somebody who asks for one.

use std::sync::Arc;

use super::spool::{NotLoaded, Spooled};
use super::{Arrived, Gone};

/// A numbered run of a result's rows, all of them in memory. Cheap to clone: the rows are shared with the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// From 0, without gaps.
    pub index: u64,
    /// Its rows in order, in one or more pieces; no piece if it has no rows.
    pub pieces: Vec<Arrived>,
    /// No chunk follows this one.
    pub is_last: bool,
}

impl Chunk {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.pieces.iter().map(Arrived::rows).sum()
    }
}

/// A chunk as it was cut: some of its rows may be on disk. What the same index gives at every read is the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// From 0, without gaps.
    pub index: u64,
    /// Its rows in order; no piece if it has no rows.
    pub pieces: Vec<Piece>,
    /// No chunk follows this one.
    pub is_last: bool,
}

/// Some of the rows of one batch, in memory or on disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// In memory.
    Here(Arrived),
    /// On disk: so many rows from this one of the batch on.
    Spooled {
        /// The whole batch.
        batch: Spooled,
        /// The first row.
        offset: usize,
        /// How many.
        rows: usize,
    },
}

impl Cut {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        let rows = |piece: &Piece| match piece {
            Piece::Here(arrived) => arrived.rows(),
            Piece::Spooled { rows, .. } => *rows,
        };
        self.pieces.iter().map(rows).sum()
    }

    /// Whether [`Cut::load`] has nothing to read.
    pub fn is_in_memory(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Here(_)))
    }

    /// The chunk with all its rows; blocks while rows are read from disk.
    pub fn load(self, last: &mut LastLoaded) -> Result<Chunk, NotLoaded> {
        let mut pieces: Vec<Arrived> = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces {
            pieces.push(match piece {
                Piece::Here(arrived) => arrived,
                Piece::Spooled { batch, offset, rows } => last.load(&batch)?.slice(offset, rows),
            });
        }
        Ok(Chunk { index: self.index, pieces, is_last: self.is_last })
    }
}

/// The batch that was read from disk last: chunks that are read one after another often lie in the same.
#[derive(Debug, Default)]
pub struct LastLoaded(Option<(Spooled, Arrived)>);

impl LastLoaded {
    fn load(&mut self, batch: &Spooled) -> Result<Arrived, NotLoaded> {
        if let Some((_, arrived)) = self.0.as_ref().filter(|(last, _)| last == batch) {
            return Ok(arrived.clone());
        }
        let arrived = batch.load()?;
        self.0 = Some((batch.clone(), arrived.clone()));
        Ok(arrived)
    }
}

/// The answer to somebody who asks for a chunk.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkState {
    /// Here it is. The same index gives the same chunk again.
    Ready(Cut),
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
