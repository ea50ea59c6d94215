//! One query's rows, cut into numbered chunks while they are still coming.
//!
//! Decides where each chunk ends and what to say to somebody who asks for one. Leaves the number of rows to
//! [`super::chunking`], memory limits and lifetimes to [`super::store`], bytes to [`super::encoding`].
//!
//! A boundary is fixed when its chunk, or a later one, is first asked for and is there, and never moves. A chunk is
//! there once all its rows are and it is known whether it is the last: while the query runs that takes one row more
//! than the chunk holds, afterwards nothing. So only the newest chunk ever waits, and `is_last` is always true to fact.
//! An ask for what is not there yet fixes nothing, so nobody can make a result grow by asking.
//!
//! Invariants: chunks are consecutive, disjoint and together are all rows; only the last may be empty, and only in an
//! empty result. A failed result holds no rows: what cannot be completed is not worth memory.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::chunk::{ChunkState, Cut};
use super::chunking::{Chunking, ChunkingInput};
use super::columns::{self, OtherColumns};
use super::reading_speed::ReadingSpeed;
use super::rows::Rows;
use super::spool::Spooled;
use super::{Arrived, Gone};

/// How many times the rows that the strategy says a chunk may have that ends with a block: a block that goes on whole is
/// not read on its way, which saves more than the rows beyond cost their reader.
const WHOLE_BLOCK: usize = 8;

/// How a result is cut.
#[derive(Clone)]
pub struct ChunkingParams {
    /// Who says how many rows a chunk has.
    pub strategy: Arc<dyn Chunking>,
    /// Rows the result may have, as far as known at the start.
    pub estimate: u64,
    /// The limit of the query.
    pub limit: Option<u64>,
    /// `chunk_size`, in rows, at least 1.
    pub base: usize,
    /// The most rows of a chunk, at least 1.
    pub chunk_rows_max: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Running,
    Finished,
    Failed(Arc<str>),
}

/// One query's rows. Memory: the rows held, plus 8 bytes for each chunk that was ever asked for.
pub struct ResultBuffer {
    schema: SchemaRef,
    chunking: ChunkingParams,
    rows: Rows,
    phase: Phase,
    /// Offset after the last row of each chunk whose boundary is fixed.
    ends: Vec<u64>,
    /// Chunks below this index are acknowledged.
    acknowledged: u64,
    /// Chunks below this index have been asked for.
    asked: u64,
    /// Chunks below this index have been handed out.
    handed_out: u64,
    speed: ReadingSpeed,
}

/// A batch that is no part of this result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// Its columns are others.
    #[error(transparent)]
    OtherColumns(#[from] OtherColumns),
    /// The result is complete, or failed.
    #[error("the result has already ended")]
    Ended,
}

impl ResultBuffer {
    /// An empty result of a running query.
    pub fn new(schema: SchemaRef, chunking: ChunkingParams) -> ResultBuffer {
        ResultBuffer {
            schema,
            chunking,
            rows: Rows::default(),
            phase: Phase::Running,
            ends: Vec::new(),
            acknowledged: 0,
            asked: 0,
            handed_out: 0,
            speed: ReadingSpeed::default(),
        }
    }

    /// Columns of every chunk, also of the one chunk of an empty result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether this batch may be appended now.
    pub(super) fn accepts(&self, arrived: &Arrived) -> Result<(), NotAccepted> {
        if self.phase != Phase::Running {
            return Err(NotAccepted::Ended);
        }
        Ok(columns::check(&self.schema, &arrived.schema())?)
    }

    /// Puts accepted rows at the end. Hand over compact batches: a slice keeps its whole parent in memory, while only
    /// its own rows are counted.
    ///
    /// Errors: the batch has other columns, or the result has ended; nothing is appended then.
    pub fn append(&mut self, arrived: impl Into<Arrived>) -> Result<(), NotAccepted> {
        let arrived = arrived.into();
        self.accepts(&arrived)?;
        self.rows.append(arrived);
        Ok(())
    }

    /// Puts accepted rows at the end that lie on disk; their columns were looked at before they were written.
    ///
    /// Errors: the result has ended.
    pub fn append_spooled(&mut self, batch: Spooled) -> Result<(), NotAccepted> {
        if self.phase != Phase::Running {
            return Err(NotAccepted::Ended);
        }
        self.rows.append_spooled(batch);
        Ok(())
    }

    /// By how much [`Self::bytes`] would grow if these rows were appended.
    pub fn cost(&self, arrived: &Arrived) -> u64 {
        self.rows.cost(arrived)
    }

    /// Corrects the estimate while the query runs; boundaries already fixed stay.
    pub fn set_estimate(&mut self, rows: u64) {
        self.chunking.estimate = rows;
    }

    /// All rows are there. Does nothing to a result that has ended.
    pub fn finish(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Finished;
        }
    }

    /// There will never be all rows: frees those that came. Does nothing to a result that has ended.
    pub fn fail(&mut self, reason: &str) {
        if self.phase == Phase::Running {
            self.phase = Phase::Failed(reason.into());
            self.rows.clear();
        }
    }

    /// The chunk with this index, if it is there. Fixes its boundary and all before it. Reading acknowledges nothing.
    pub fn ask(&mut self, index: u64, now: Duration) -> ChunkState {
        if let Phase::Failed(reason) = &self.phase {
            return ChunkState::Failed(Arc::clone(reason));
        }
        if index < self.acknowledged {
            return ChunkState::Gone(Gone::Acknowledged);
        }
        if index >= self.asked {
            self.speed.asked(now);
            self.asked = index.saturating_add(1);
        }
        self.fix_until(index.saturating_add(1));
        let Some(chunk) = self.fixed_chunk(index) else {
            return match self.phase {
                Phase::Finished => ChunkState::OutOfRange { total_chunks: self.ends.len() as u64 },
                _ => ChunkState::NotYet,
            };
        };
        if index >= self.handed_out {
            self.speed.handed_out(chunk.rows() as u64);
            self.handed_out = index + 1;
        }
        ChunkState::Ready(chunk)
    }

    /// What was asked for is encoded, and can be read from now on.
    pub fn made(&mut self, now: Duration) {
        self.speed.made(now);
    }

    /// Once the query has finished: fixes all boundaries and says how many chunks there are. None before, or after a
    /// failure.
    pub fn fix_all(&mut self) -> Option<u64> {
        if self.phase == Phase::Finished {
            self.fix_until(u64::MAX);
        }
        self.total_chunks()
    }

    /// The client has all chunks up to and including this one: their memory is freed, batch by batch, and later asks
    /// say so. An index past the chunks fixed so far counts as the last of them.
    pub fn acknowledge_through(&mut self, index: u64) {
        let chunks = index.saturating_add(1).min(self.ends.len() as u64);
        if chunks > self.acknowledged {
            self.acknowledged = chunks;
            self.rows.release_before(self.start_of(chunks));
        }
    }

    /// Rows appended so far.
    pub fn rows_so_far(&self) -> u64 {
        self.rows.end()
    }

    /// All rows of the result; known once it has finished.
    pub fn total_records(&self) -> Option<u64> {
        (self.phase == Phase::Finished).then(|| self.rows.end())
    }

    /// All chunks of the result; known once it has finished and all boundaries are fixed.
    pub fn total_chunks(&self) -> Option<u64> {
        self.is_cut_to_the_end().then_some(self.ends.len() as u64)
    }

    /// Bytes of the rows held in memory, dictionaries counted once.
    pub fn bytes(&self) -> u64 {
        self.rows.bytes()
    }

    /// Bytes of the rows held on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.rows.disk_bytes()
    }

    /// Finished or failed.
    pub fn has_ended(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        match &self.phase {
            Phase::Failed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Every chunk there is or will be has been acknowledged.
    pub fn is_acknowledged_to_the_end(&self) -> bool {
        self.is_cut_to_the_end() && self.acknowledged == self.ends.len() as u64
    }

    fn is_cut_to_the_end(&self) -> bool {
        self.phase == Phase::Finished && self.ends.last() == Some(&self.rows.end())
    }

    fn start_of(&self, index: u64) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.ends[before as usize])
    }

    /// Fixes boundaries until there are `count`, or the next chunk is not there.
    fn fix_until(&mut self, count: u64) {
        while (self.ends.len() as u64) < count && !self.is_cut_to_the_end() {
            let start = self.ends.last().copied().unwrap_or(0);
            let end = self.next_end(start);
            match self.phase {
                Phase::Finished => self.ends.push(end.min(self.rows.end())),
                // One row more than the chunk holds: now it is known not to be the last.
                Phase::Running if end < self.rows.end() => self.ends.push(end),
                _ => return,
            }
        }
    }

    fn next_end(&self, start: u64) -> u64 {
        let input = self.chunking_input();
        let strategy = &self.chunking.strategy;
        let rows = strategy.next_rows(&input);
        assert!(rows >= 1, "{} gave a chunk without rows for {input:?}", strategy.name());
        let end = start.saturating_add(rows as u64);
        let with_a_batch = strategy.rows_to_end_with_a_batch(&input).and_then(|least| {
            let first = self.rows.first_batch_end(start.saturating_add(least.min(rows) as u64))?;
            if first.is_packed {
                let most = rows.saturating_mul(WHOLE_BLOCK).min(input.chunk_rows_max);
                return (first.offset - start <= most as u64).then_some(first.offset);
            }
            // Batches may be smaller than a reader wants: then a chunk has several.
            self.rows.last_batch_end(end).filter(|last| *last >= first.offset)
        });
        with_a_batch.unwrap_or(end)
    }

    fn chunking_input(&self) -> ChunkingInput {
        let chunks = self.ends.len() as u64;
        let previous = chunks.checked_sub(1).map(|last| (self.start_of(chunks) - self.start_of(last)) as usize);
        ChunkingInput {
            estimate: self.total_records().unwrap_or(self.chunking.estimate.max(self.rows.end())),
            limit: self.chunking.limit,
            base: self.chunking.base,
            chunk_rows_max: self.chunking.chunk_rows_max,
            previous_rows: previous,
            reader_rows_per_s: self.speed.rows_per_s(),
        }
    }

    fn fixed_chunk(&self, index: u64) -> Option<Cut> {
        if index >= self.ends.len() as u64 {
            return None;
        }
        let (start, end) = (self.start_of(index), self.start_of(index + 1));
        let is_last = self.is_cut_to_the_end() && index + 1 == self.ends.len() as u64;
        Some(Cut { index, pieces: self.rows.slices(start, end), is_last })
    }
}

#[cfg(test)]
mod tests;
