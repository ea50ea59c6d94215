//! What a node says of a partition whose files it has: the id, how much CSV it was made from, and, once somebody has
//! counted, rows and bounds. Numbers here serve placement, pruning and estimates; they never decide which rows are
//! right.
//!
//! Invariant: equal digests of two lists mean equal lists, and no list has the digest `UNLISTED`.

use overlay_ingest::PartitionId;
pub use overlay_ingest::PartitionStats;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The digest announced by a node that has not listed its files yet: it says nothing of what it knows.
pub const UNLISTED: u64 = 0;

/// One partition whose files a node has, loaded or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownPartition {
    pub id: PartitionId,
    /// Bytes of CSV it was made from: the weight of the partition in placement, known before it is parsed.
    pub csv_bytes: u64,
    /// `None` until the partition was parsed or its Parquet manifest read.
    pub stats: Option<PartitionStats>,
}

/// The digest under which a node announces its list. Order counts: callers list by id.
pub fn known_digest(known: &[KnownPartition]) -> u64 {
    let text = serde_json::to_vec(known).expect("the list has no map with keys other than text");
    match xxh3_64(&text) {
        UNLISTED => 1,
        digest => digest,
    }
}
