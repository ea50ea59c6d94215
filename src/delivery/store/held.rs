//! One result in the store, and how long it may stay.
//!
//! Two clocks: a result that was read, or failed, stays for its time to live; one that nobody has read yet, running or
//! finished, stays as long as somebody attends to it.

use std::time::Duration;

use super::{StoreLimits, Why};
use crate::delivery::result::ResultBuffer;

/// What a result costs without rows, so that many empty ones have a bound too.
pub(super) const RESULT_BYTES: u64 = 1024;

/// Which of the finished results go first where room is needed, the first named first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Its client has said that it has every chunk.
    Acknowledged,
    /// Nobody has asked for a chunk: its client may never come.
    Unread,
    /// Somebody has some of its chunks, for which the others are the rest.
    BegunToRead,
}

pub(super) struct Held {
    pub result: ResultBuffer,
    /// When somebody last asked for a chunk or touched it; at first, when it was opened.
    pub attended: Duration,
    /// When a chunk was last handed out.
    pub read: Option<Duration>,
    /// When it finished or failed.
    pub ended: Option<Duration>,
}

impl Held {
    /// The empty result of a query that runs from now on.
    pub fn new(result: ResultBuffer, now: Duration) -> Held {
        Held { result, attended: now, read: None, ended: None }
    }

    /// What it costs now.
    pub fn bytes(&self) -> u64 {
        RESULT_BYTES + self.result.bytes()
    }

    /// What it is worth once it has ended.
    pub fn worth(&self) -> Worth {
        match self.read {
            _ if self.result.is_acknowledged_to_the_end() => Worth::Acknowledged,
            None => Worth::Unread,
            Some(_) => Worth::BegunToRead,
        }
    }

    /// Since when nobody read it: from its end if it never was read.
    pub fn unread_since(&self) -> Duration {
        self.read.max(self.ended).unwrap_or(self.attended)
    }

    /// Why it should go now, if it should.
    pub fn overdue(&self, limits: &StoreLimits, now: Duration) -> Option<Why> {
        let is_failed = self.result.failure().is_some();
        if self.ended.is_some() && now.saturating_sub(self.unread_since()) >= limits.ttl {
            return Some(Why::Ttl);
        }
        // A failed result holds no rows and its reason is worth keeping for its time to live.
        let is_waiting = self.ended.is_none() || (self.read.is_none() && !is_failed);
        let unattended = now.saturating_sub(self.attended.max(self.ended.unwrap_or_default()));
        (is_waiting && unattended >= limits.idle).then_some(Why::Idle)
    }
}
