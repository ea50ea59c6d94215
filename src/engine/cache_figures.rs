//! How a cache is used: counted by the cache, told by the node.

use std::sync::atomic::{AtomicU64, Ordering};

/// The figures of one cache since the node's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Kept now.
    pub entries: u64,
    /// What they take in memory; 0 where that is not counted.
    pub bytes: u64,
    /// Times that what was looked for was there.
    pub hits: u64,
    /// Times that it was not, and had to be made.
    pub misses: u64,
}

/// Counts what was looked for.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Lookups {
    /// It was there.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// It was not.
    pub fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts, with what the cache holds.
    pub fn figures(&self, entries: u64, bytes: u64) -> CacheFigures {
        let (hits, misses) = (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed));
        CacheFigures { entries, bytes, hits, misses }
    }
}
