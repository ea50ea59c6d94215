//! Why the newest of the gone results are gone.

use std::collections::{HashMap, VecDeque};

use crate::delivery::{Gone, QueryId};

/// A bounded memory: at the limit the oldest is forgotten, and is `unknown` from then on.
pub(super) struct Tombstones {
    max: usize,
    reasons: HashMap<QueryId, Gone>,
    oldest_first: VecDeque<QueryId>,
}

impl Tombstones {
    pub fn new(max: usize) -> Tombstones {
        Tombstones { max, reasons: HashMap::new(), oldest_first: VecDeque::new() }
    }

    /// Remembers; a second reason for the same id replaces the first.
    pub fn add(&mut self, id: QueryId, why: Gone) {
        if self.reasons.insert(id, why).is_some() {
            return;
        }
        self.oldest_first.push_back(id);
        if self.oldest_first.len() > self.max
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.reasons.remove(&oldest);
        }
    }

    pub fn why(&self, id: QueryId) -> Gone {
        self.reasons.get(&id).copied().unwrap_or(Gone::Unknown)
    }
}
