//! The results of all queries of a Leader, within one budget of bytes.
//!
//! Decides which results make room for others and when an unattended one goes; the caller decides what that means for
//! a query (fail it, cancel it, tell its client). At the budget finished results are evicted: first those acknowledged
//! to the end, then the longest unread. A running one never is, because its client would lose rows it is waiting for:
//! the query that asks for the space fails instead. Eviction begins only when it is sure to make enough room.
//!
//! Invariants: the bytes accounted are the sum over the results held and never exceed the budget; an id is either held
//! or gone, and why it is gone is remembered for the newest [`TOMBSTONES_MAX`].

use std::collections::HashMap;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::result::{ChunkingParams, NotAccepted, ResultBuffer};
use super::{Arrived, ChunkState, Gone, QueryId};

mod held;
mod tombstones;

use held::{Held, RESULT_BYTES};
use tombstones::Tombstones;

/// How many gone results are remembered with the reason: a few minutes of a busy Leader, in 32 KiB.
pub const TOMBSTONES_MAX: usize = 1024;

/// Limits of a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// `result_bytes_max`: bytes of all results together.
    pub bytes_max: u64,
    /// `result_ttl_s`: how long a finished result stays after its last read.
    pub ttl: Duration,
    /// `idle_s`: how long a running, or finished and never read, result stays while nobody attends to it.
    pub idle: Duration,
}

/// Why [`ResultStore::expire`] took a result away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was read, or failed, longer ago than its time to live.
    Ttl,
    /// Nobody attended to it; if its query still runs, it should be cancelled.
    Idle,
}

/// A refusal of the store. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not even evicting every finished result would make room. The query fails with `RESOURCE_EXHAUSTED`.
    #[error("result needs {needed_bytes} bytes more, but running queries hold {held_bytes} of {bytes_max} bytes")]
    OverBudget {
        /// What was to be added.
        needed_bytes: u64,
        /// What cannot be evicted.
        held_bytes: u64,
        /// The budget.
        bytes_max: u64,
    },
    /// The result is not here any more: its query should stop.
    #[error("result is gone: {0}")]
    Gone(Gone),
    /// The rows are no part of this result.
    #[error(transparent)]
    NotAccepted(#[from] NotAccepted),
}

/// What the store has done and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Bytes held now.
    pub bytes: u64,
    /// The most bytes ever held.
    pub bytes_peak: u64,
    /// Results held now.
    pub results: usize,
    /// Results ever evicted.
    pub evictions: u64,
}

/// The results of all queries.
pub struct ResultStore {
    limits: StoreLimits,
    results: HashMap<QueryId, Held>,
    tombstones: Tombstones,
    bytes: u64,
    bytes_peak: u64,
    evictions: u64,
}

impl ResultStore {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> ResultStore {
        ResultStore {
            limits,
            results: HashMap::new(),
            tombstones: Tombstones::new(TOMBSTONES_MAX),
            bytes: 0,
            bytes_peak: 0,
            evictions: 0,
        }
    }

    /// Begins the result of a running query. The id must be new: it is random, so a second use is a mistake of ours.
    ///
    /// Errors: [`StoreError::OverBudget`].
    pub fn open(
        &mut self,
        id: QueryId,
        schema: SchemaRef,
        chunking: ChunkingParams,
        now: Duration,
    ) -> Result<(), StoreError> {
        assert!(!self.results.contains_key(&id), "result {id} is opened twice");
        self.make_room(RESULT_BYTES)?;
        self.results.insert(id, Held::new(ResultBuffer::new(schema, chunking), now));
        self.grow(RESULT_BYTES);
        Ok(())
    }

    /// Adds accepted rows; does not count as attention. Hand over compact batches: a slice keeps its whole parent in
    /// memory while only its own rows are counted.
    ///
    /// Errors: as [`StoreError`] says; in each case the query cannot go on.
    pub fn append(&mut self, id: QueryId, arrived: impl Into<Arrived>) -> Result<(), StoreError> {
        let arrived = arrived.into();
        let held = self.results.get(&id).ok_or_else(|| StoreError::Gone(self.tombstones.why(id)))?;
        held.result.accepts(&arrived.batch)?;
        let cost = held.result.cost(&arrived.batch);
        self.make_room(cost)?;
        let held = self.results.get_mut(&id).expect("only results that have ended are evicted, and this one runs");
        held.result.append(arrived)?;
        self.grow(cost);
        Ok(())
    }

    /// Every result held, with its bytes.
    pub fn held(&self) -> impl Iterator<Item = (QueryId, u64)> {
        self.results.iter().map(|(id, held)| (*id, held.bytes()))
    }

    /// Corrects the estimated rows of a running query.
    pub fn set_estimate(&mut self, id: QueryId, rows: u64) {
        self.change(id, |held| held.result.set_estimate(rows));
    }

    /// All rows are there. False if the result is gone.
    pub fn finish(&mut self, id: QueryId, now: Duration) -> bool {
        self.end(id, now, ResultBuffer::finish)
    }

    /// The query failed: frees its rows and keeps the reason. False if the result is gone.
    pub fn fail(&mut self, id: QueryId, reason: &str, now: Duration) -> bool {
        self.end(id, now, |result| result.fail(reason))
    }

    /// The chunk with this index; see [`ResultBuffer::ask`]. Counts as attention, and as a read if it is there.
    pub fn ask(&mut self, id: QueryId, index: u64, now: Duration) -> ChunkState {
        let state = self.change(id, |held| {
            let state = held.result.ask(index, now);
            held.attended = now;
            if matches!(state, ChunkState::Ready(_)) {
                held.read = Some(now);
            }
            state
        });
        state.unwrap_or_else(|| ChunkState::Gone(self.tombstones.why(id)))
    }

    /// Somebody still waits for this result. Callers that wait for rows touch it well within `idle`. False if it is
    /// gone.
    pub fn touch(&mut self, id: QueryId, now: Duration) -> bool {
        self.change(id, |held| held.attended = now).is_some()
    }

    /// The client has all chunks up to and including `index`: frees their rows. False if the result is gone.
    pub fn acknowledge_through(&mut self, id: QueryId, index: u64, now: Duration) -> bool {
        let acknowledge = |held: &mut Held| {
            held.result.acknowledge_through(index);
            held.attended = now;
        };
        self.change(id, acknowledge).is_some()
    }

    /// Fixes all boundaries of a finished result and says how many chunks it has.
    pub fn fix_all(&mut self, id: QueryId) -> Option<u64> {
        self.change(id, |held| held.result.fix_all()).flatten()
    }

    /// Frees a result at once, running or not. False if it was gone already.
    pub fn cancel(&mut self, id: QueryId) -> bool {
        self.remove(id, Gone::Cancelled)
    }

    /// Takes away what has outlived its time and says why, in order of id. To be called about once a second.
    pub fn expire(&mut self, now: Duration) -> Vec<(QueryId, Why)> {
        let overdue = |(id, held): (&QueryId, &Held)| held.overdue(&self.limits, now).map(|why| (*id, why));
        let mut gone: Vec<(QueryId, Why)> = self.results.iter().filter_map(overdue).collect();
        gone.sort_by_key(|(id, _)| *id);
        for (id, why) in &gone {
            let reason = match why {
                Why::Ttl => Gone::Expired,
                Why::Idle => Gone::Abandoned,
            };
            self.remove(*id, reason);
        }
        gone
    }

    /// The result, to look at; or why it is gone.
    pub fn get(&self, id: QueryId) -> Result<&ResultBuffer, Gone> {
        self.results.get(&id).map(|held| &held.result).ok_or_else(|| self.tombstones.why(id))
    }

    /// What the store has done and holds.
    pub fn counters(&self) -> StoreCounters {
        StoreCounters {
            bytes: self.bytes,
            bytes_peak: self.bytes_peak,
            results: self.results.len(),
            evictions: self.evictions,
        }
    }

    fn end(&mut self, id: QueryId, now: Duration, end: impl FnOnce(&mut ResultBuffer)) -> bool {
        let change = |held: &mut Held| {
            held.ended.get_or_insert(now);
            end(&mut held.result);
        };
        self.change(id, change).is_some()
    }

    /// The one way to change a result held without adding rows: keeps the account.
    fn change<R>(&mut self, id: QueryId, change: impl FnOnce(&mut Held) -> R) -> Option<R> {
        let held = self.results.get_mut(&id)?;
        let before = held.bytes();
        let answer = change(held);
        let after = held.bytes();
        assert!(after <= before, "result {id} grew from {before} to {after} bytes unnoticed");
        self.bytes -= before - after;
        Some(answer)
    }

    fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.bytes_peak = self.bytes_peak.max(self.bytes);
        assert!(self.bytes <= self.limits.bytes_max, "{} bytes of {} held", self.bytes, self.limits.bytes_max);
    }

    fn remove(&mut self, id: QueryId, why: Gone) -> bool {
        let Some(held) = self.results.remove(&id) else { return false };
        self.bytes -= held.bytes();
        self.tombstones.add(id, why);
        true
    }

    fn make_room(&mut self, needed: u64) -> Result<(), StoreError> {
        let bytes_max = self.limits.bytes_max;
        if self.bytes.saturating_add(needed) <= bytes_max {
            return Ok(());
        }
        let ended = || self.results.iter().filter(|(_, held)| held.ended.is_some());
        let held_bytes = self.bytes - ended().map(|(_, held)| held.bytes()).sum::<u64>();
        if held_bytes.saturating_add(needed) > bytes_max {
            return Err(StoreError::OverBudget { needed_bytes: needed, held_bytes, bytes_max });
        }
        let mut victims: Vec<(bool, Duration, QueryId)> =
            ended().map(|(id, held)| (!held.result.is_acknowledged_to_the_end(), held.unread_since(), *id)).collect();
        victims.sort_unstable();
        for (_, _, id) in victims {
            if self.bytes + needed <= bytes_max {
                break;
            }
            self.remove(id, Gone::Evicted);
            self.evictions += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
