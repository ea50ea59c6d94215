//! The partitions that a node holds, as Arrow, cut into zones.
//!
//! A scan takes the partition that it needs once, at its start, and keeps it alive: replacing or giving up a
//! partition never changes an answer under way.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::RecordBatch;
use overlay_ingest::{Partition, PartitionId, PartitionStats};

use super::statistics::ZoneMap;
use super::typed_zones::TypedZones;

/// A run of rows of one partition. It carries its own name, so that what is scanned can be compared with what was
/// asked for.
#[derive(Debug, Clone)]
pub struct Zone {
    pub partition: PartitionId,
    pub index: u32,
    pub batch: RecordBatch,
}

/// One partition in memory. There is always at least one zone; that of an empty partition has no rows.
#[derive(Debug)]
pub struct HeldPartition {
    pub id: PartitionId,
    pub zones: Vec<Zone>,
    pub map: ZoneMap,
    /// The same and more, for predicates that plain comparisons decide.
    pub typed: TypedZones,
    pub stats: PartitionStats,
    /// Bytes of the CSV files it came from.
    pub csv_bytes: u64,
}

impl HeldPartition {
    /// Cuts a partition into its zones, without copying rows.
    pub fn new(partition: &Partition) -> HeldPartition {
        let zones = (0..partition.zone_count().max(1))
            .map(|index| Zone {
                partition: partition.id,
                index: index as u32,
                batch: match partition.zone_count() {
                    0 => partition.batch.clone(),
                    _ => partition.zone(index),
                },
            })
            .collect::<Vec<_>>();
        HeldPartition {
            id: partition.id,
            map: ZoneMap::of(&zones),
            typed: TypedZones::of(&zones),
            zones,
            stats: partition.stats.clone(),
            csv_bytes: partition.csv_bytes,
        }
    }

    /// Rows over all zones.
    pub fn rows(&self) -> u64 {
        self.zones.iter().map(|zone| zone.batch.num_rows() as u64).sum()
    }
}

/// What a node holds. Its size is bounded by whoever loads into it.
#[derive(Debug, Default)]
pub struct Store {
    held: RwLock<BTreeMap<PartitionId, Arc<HeldPartition>>>,
}

impl Store {
    /// The partition under exactly this id, if it is held.
    pub fn get(&self, id: &PartitionId) -> Option<Arc<HeldPartition>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Holds the partition from now on, under `id`.
    pub fn insert(&self, partition: HeldPartition) {
        self.insert_as(partition.id, partition);
    }

    /// Puts a partition under an id that may not be its own. Only a test that wants to see the mistake caught does so.
    pub fn insert_as(&self, id: PartitionId, partition: HeldPartition) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(partition));
    }

    /// Gives the partition up; scans under way keep it until they end.
    pub fn remove(&self, id: &PartitionId) -> Option<Arc<HeldPartition>> {
        self.held.write().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    /// The ids held, ascending.
    pub fn ids(&self) -> Vec<PartitionId> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Rows held in all.
    pub fn rows(&self) -> u64 {
        self.held.read().unwrap_or_else(PoisonError::into_inner).values().map(|partition| partition.rows()).sum()
    }
}
