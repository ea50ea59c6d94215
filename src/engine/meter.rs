//! What nodes spent on one query, counted as their answers come in, so that it can be billed while it runs.
//!
//! Every zone brings what it cost; the end of a node's scan brings what no zone said. Answers that come twice are
//! counted twice: the work was done twice.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// An amount of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    pub cpu: Duration,
    /// Over every link on the way to the reader.
    pub bytes_sent: u64,
    pub rows_scanned: u64,
}

/// The work of one query that nobody has taken note of yet.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Spent>);

impl Meter {
    /// So much more was spent.
    pub fn add(&self, more: Spent) {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spent.cpu = spent.cpu.saturating_add(more.cpu);
        spent.bytes_sent = spent.bytes_sent.saturating_add(more.bytes_sent);
        spent.rows_scanned = spent.rows_scanned.saturating_add(more.rows_scanned);
    }

    /// What was spent since the last time.
    pub fn take(&self) -> Spent {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
