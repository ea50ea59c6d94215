//! The results of all queries of a Leader, within one budget of bytes in memory and one of bytes on disk.
//!
//! Decides where new rows go, which results make room for others and when an unattended one goes; the caller writes and
//! reads the disk, and decides what an end means for a query (fail it, cancel it, tell its client).
//!
//! A result that grows puts its new rows on disk once it holds more memory than is still free. So a giant that nobody
//! reads takes half of the memory, a second one a quarter, and there is always as much left for a small result as the
//! largest holds; nobody's rows are moved, so nobody waits for another's disk. (Set aside: moving the oldest out. It
//! keeps the rows that are read next in memory a little more often, and needs rows that are in two places while a
//! writer, a reader and a cancel meet.) With the disk full, memory is used to its last byte.
//!
//! When both are full, finished results are evicted: first those acknowledged to the end, then those that nobody has begun
//! to read, then those that somebody reads; of each the longest unread first. A running one never is, because its client would lose rows it is waiting for: the query that asks for the space fails
//! instead. Eviction begins only when it is sure to make enough room.
//!
//! Invariants: the bytes accounted are the sum over the results held and never exceed the budget; an id is either held
//! or gone, and why it is gone is remembered for the newest [`TOMBSTONES_MAX`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::result::{ChunkingParams, NotAccepted, ResultBuffer};
use super::rows::SPOOLED_BYTES;
use super::spool::{SpoolSpace, Spooled};
use super::{Arrived, ChunkState, Gone, QueryId};

mod held;
mod tombstones;

use held::{Held, RESULT_BYTES, Worth};
use tombstones::Tombstones;

/// How many gone results are remembered with the reason: a few minutes of a busy Leader, in 32 KiB.
pub const TOMBSTONES_MAX: usize = 1024;

/// Limits of a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// `result_bytes_max`: bytes of all results together in memory.
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
    #[error(
        "result needs {needed_bytes} bytes more, but running queries hold {held_bytes} of {bytes_max} bytes \
         (limits.result_bytes_max) and {disk_bytes} of {disk_bytes_max} on disk (limits.result_disk_bytes_max)"
    )]
    OverBudget {
        /// What was to be added.
        needed_bytes: u64,
        /// What cannot be evicted.
        held_bytes: u64,
        /// The budget in memory.
        bytes_max: u64,
        /// What is on disk.
        disk_bytes: u64,
        /// The budget on disk.
        disk_bytes_max: u64,
    },
    /// The result is not here any more: its query should stop.
    #[error("result is gone: {0}")]
    Gone(Gone),
    /// The rows are no part of this result.
    #[error(transparent)]
    NotAccepted(#[from] NotAccepted),
}

/// Where the next rows of a result go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// There is room for them in memory.
    Memory,
    /// The caller writes them, and hands over where: [`ResultStore::append_spooled`]. If the disk has no room after all,
    /// [`ResultStore::append`] still finds what room memory has.
    Disk,
}

/// What the store has done and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Bytes held in memory now.
    pub bytes: u64,
    /// The most bytes ever held in memory.
    pub bytes_peak: u64,
    /// Bytes on disk now.
    pub disk_bytes: u64,
    /// The most bytes ever on disk.
    pub disk_bytes_peak: u64,
    /// Results held now.
    pub results: usize,
    /// Results ever evicted.
    pub evictions: u64,
}

/// The results of all queries.
pub struct ResultStore {
    limits: StoreLimits,
    disk: Arc<SpoolSpace>,
    results: HashMap<QueryId, Held>,
    tombstones: Tombstones,
    bytes: u64,
    bytes_peak: u64,
    evictions: u64,
}

impl ResultStore {
    /// An empty store that has no disk.
    pub fn new(limits: StoreLimits) -> ResultStore {
        ResultStore::with_disk(limits, Arc::default())
    }

    /// An empty store whose results may go to disk as long as there is space.
    pub fn with_disk(limits: StoreLimits, disk: Arc<SpoolSpace>) -> ResultStore {
        ResultStore {
            limits,
            disk,
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
        self.make_room(RESULT_BYTES, 0)?;
        self.results.insert(id, Held::new(ResultBuffer::new(schema, chunking), now));
        self.grow(RESULT_BYTES);
        Ok(())
    }

    /// Says where these rows of a running query go, having made room for them there if that took an eviction.
    ///
    /// Errors: as [`StoreError`] says; in each case the query cannot go on.
    pub fn place(&mut self, id: QueryId, arrived: &Arrived) -> Result<Place, StoreError> {
        let held = self.results.get(&id).ok_or_else(|| StoreError::Gone(self.tombstones.why(id)))?;
        held.result.accepts(arrived)?;
        let cost = held.result.cost(arrived);
        let free_after = self.limits.bytes_max.saturating_sub(self.bytes.saturating_add(cost));
        // What takes no more than its address would there gains nothing on disk.
        let keeps_its_share = cost <= SPOOLED_BYTES || held.bytes().saturating_add(cost) <= free_after;
        if !keeps_its_share && self.disk.has_room_for(cost) && self.has_room_for(SPOOLED_BYTES) {
            return Ok(Place::Disk);
        }
        self.make_room(cost, cost)
    }

    /// Adds accepted rows to those in memory; does not count as attention. Hand over compact batches: a slice keeps its
    /// whole parent in memory while only its own rows are counted.
    ///
    /// Errors: as [`StoreError`] says; in each case the query cannot go on.
    pub fn append(&mut self, id: QueryId, arrived: impl Into<Arrived>) -> Result<(), StoreError> {
        let arrived = arrived.into();
        let held = self.results.get(&id).ok_or_else(|| StoreError::Gone(self.tombstones.why(id)))?;
        held.result.accepts(&arrived)?;
        let cost = held.result.cost(&arrived);
        self.make_room(cost, 0)?;
        let held = self.results.get_mut(&id).expect("only results that have ended are evicted, and this one runs");
        held.result.append(arrived)?;
        self.grow(cost);
        Ok(())
    }

    /// Adds accepted rows that were written to disk, as [`ResultStore::place`] said.
    ///
    /// Errors: as [`StoreError`] says; in each case the query cannot go on, and the rows on disk are let go.
    pub fn append_spooled(&mut self, id: QueryId, batch: Spooled) -> Result<(), StoreError> {
        if !self.results.contains_key(&id) {
            return Err(StoreError::Gone(self.tombstones.why(id)));
        }
        self.make_room(SPOOLED_BYTES, 0)?;
        let held = self.results.get_mut(&id).expect("only results that have ended are evicted, and this one runs");
        held.result.append_spooled(batch)?;
        self.grow(SPOOLED_BYTES);
        Ok(())
    }

    /// Every result held, with its bytes in memory.
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

    /// What was asked for last is encoded, and can be read from now on. Nothing happens if the result is gone.
    pub fn made(&mut self, id: QueryId, now: Duration) {
        let _gone = self.change(id, |held| held.result.made(now));
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

    /// Its reader has all of it and does not come again: it goes without a trace, since there are thousands of such a
    /// second, and those that went for other reasons are to be remembered.
    pub fn let_go(&mut self, id: QueryId) {
        if let Some(held) = self.results.remove(&id) {
            self.bytes -= held.bytes();
        }
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
            disk_bytes: self.disk.bytes(),
            disk_bytes_peak: self.disk.bytes_peak(),
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

    fn has_room_for(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(bytes) <= self.limits.bytes_max
    }

    /// Makes room for so many bytes in memory, or else for so many on disk if that is more than none: by evicting, but
    /// only if it is sure to be enough. What an evicted result had on disk is free at once, unless it is being read.
    fn make_room(&mut self, needed: u64, on_disk: u64) -> Result<Place, StoreError> {
        if self.has_room_for(needed) {
            return Ok(Place::Memory);
        }
        let ended = || self.results.iter().filter(|(_, held)| held.ended.is_some());
        let of_ended: u64 = ended().map(|(_, held)| held.bytes()).sum();
        let disk_of_ended: u64 = ended().map(|(_, held)| held.result.disk_bytes()).sum();
        let held_bytes = self.bytes - of_ended;
        let disk_held = self.disk.bytes().saturating_sub(disk_of_ended);
        let bytes_max = self.limits.bytes_max;
        let memory_would_do = held_bytes.saturating_add(needed) <= bytes_max;
        let disk_would_do = on_disk > 0
            && disk_held.saturating_add(on_disk) <= self.disk.bytes_max()
            && held_bytes.saturating_add(SPOOLED_BYTES) <= bytes_max;
        let over_budget = |disk_bytes, disk_bytes_max| StoreError::OverBudget {
            needed_bytes: needed,
            held_bytes,
            bytes_max,
            disk_bytes,
            disk_bytes_max,
        };
        if !memory_would_do && !disk_would_do {
            return Err(over_budget(self.disk.bytes(), self.disk.bytes_max()));
        }
        let mut victims: Vec<(Worth, Duration, QueryId)> =
            ended().map(|(id, held)| (held.worth(), held.unread_since(), *id)).collect();
        victims.sort_unstable();
        for (_, _, id) in victims {
            self.remove(id, Gone::Evicted);
            self.evictions += 1;
            if self.has_room_for(needed) {
                return Ok(Place::Memory);
            }
            if on_disk > 0 && self.disk.has_room_for(on_disk) && self.has_room_for(SPOOLED_BYTES) {
                return Ok(Place::Disk);
            }
        }
        // Only where somebody still reads what was evicted from the disk.
        Err(over_budget(self.disk.bytes(), self.disk.bytes_max()))
    }
}

#[cfg(test)]
mod tests;
