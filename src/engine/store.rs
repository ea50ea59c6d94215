//! The partitions that a node holds, in memory, cut into zones.
//!
//! A scan takes the partition that it needs once, at its start, and keeps it alive: replacing or giving up a
//! partition never changes an answer under way.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::RecordBatch;
use overlay_ingest::{Partition, PartitionId, PartitionStats};

use super::statistics::ZoneMap;
use super::typed_zones::TypedZones;
use super::zone_rows::ZoneRows;

/// A run of rows of one partition. It carries its own name, so that what is scanned can be compared with what was
/// asked for.
#[derive(Debug, Clone)]
pub struct Zone {
    pub partition: PartitionId,
    pub index: u32,
    pub rows: ZoneRows,
}

impl Zone {
    /// A zone that keeps these rows as they are.
    pub fn new(partition: PartitionId, index: u32, batch: &RecordBatch) -> Zone {
        Zone { partition, index, rows: ZoneRows::plain(batch) }
    }

    /// Its rows in the table's types.
    pub fn batch(&self) -> RecordBatch {
        self.rows.to_batch().expect("rows that were kept come out in the types that they had")
    }
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
    /// Cuts a partition into its zones, and keeps its rows as [`ZoneRows::compact`] does.
    pub fn new(partition: &Partition) -> HeldPartition {
        let zones = (0..partition.zone_count().max(1))
            .map(|index| match partition.zone_count() {
                0 => Zone::new(partition.id, 0, &partition.batch),
                _ => Zone::new(partition.id, index as u32, &partition.zone(index)),
            })
            .collect::<Vec<_>>();
        let map = ZoneMap::of(&zones);
        let all = ZoneRows::compact(&partition.batch);
        let mut start = 0;
        let zones = zones.into_iter().map(|zone| {
            let rows = all.slice(start, zone.rows.len());
            start += zone.rows.len();
            Zone { rows, ..zone }
        });
        let zones: Vec<Zone> = zones.collect();
        HeldPartition {
            id: partition.id,
            map,
            typed: TypedZones::of(&zones),
            zones,
            stats: partition.stats.clone(),
            csv_bytes: partition.csv_bytes,
        }
    }

    /// Rows over all zones.
    pub fn rows(&self) -> u64 {
        self.zones.iter().map(|zone| zone.rows.len() as u64).sum()
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
