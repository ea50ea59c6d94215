//! The partitions that a node holds, cut into zones: in memory, or, where that is full, in their Parquet files.
//!
//! A scan takes the partition that it needs once, at its start, and keeps it alive: replacing or giving up a
//! partition never changes an answer under way. Of one that lies in its file ([`super::on_disk`]) each scan reads what it
//! needs; the file of one that was replaced may be gone by then, and the scan of it fails by name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use arrow::array::RecordBatch;
use overlay_ingest::{Partition, PartitionId, PartitionStats};

use super::on_disk::{Footers, PartitionOnDisk};
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
    /// What it takes in memory, but for what is small beside the rows.
    pub memory_bytes: u64,
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
        let typed = TypedZones::of(&zones);
        HeldPartition {
            id: partition.id,
            map,
            memory_bytes: (all.memory_bytes() + typed.memory_bytes()) as u64,
            typed,
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

/// Where a partition lies.
#[derive(Debug, Clone)]
pub enum Stored {
    InMemory(Arc<HeldPartition>),
    OnDisk(Arc<PartitionOnDisk>),
}

impl Stored {
    /// Its rows, over all zones.
    pub fn rows(&self) -> u64 {
        match self {
            Stored::InMemory(held) => held.rows(),
            Stored::OnDisk(on_disk) => on_disk.rows(),
        }
    }
}

/// What a node holds. Its size is bounded by whoever loads into it.
#[derive(Debug, Default)]
pub struct Store {
    held: RwLock<BTreeMap<PartitionId, Stored>>,
    footers: Arc<Footers>,
}

impl Store {
    fn held(&self) -> RwLockReadGuard<'_, BTreeMap<PartitionId, Stored>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, id: PartitionId, stored: Stored) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).insert(id, stored);
    }

    /// The partition under exactly this id, wherever it lies.
    pub fn find(&self, id: &PartitionId) -> Option<Stored> {
        self.held().get(id).cloned()
    }

    /// The partition under exactly this id, if it is in memory.
    pub fn get(&self, id: &PartitionId) -> Option<Arc<HeldPartition>> {
        match self.find(id)? {
            Stored::InMemory(held) => Some(held),
            Stored::OnDisk(_) => None,
        }
    }

    /// Holds the partition in memory from now on, under its id.
    pub fn insert(&self, partition: HeldPartition) {
        self.insert_as(partition.id, partition);
    }

    /// Puts a partition under an id that may not be its own. Only a test that wants to see the mistake caught does so.
    pub fn insert_as(&self, id: PartitionId, partition: HeldPartition) {
        self.put(id, Stored::InMemory(Arc::new(partition)));
    }

    /// Answers for the partition from its file from now on.
    pub fn insert_on_disk(&self, partition: PartitionOnDisk) {
        let partition = partition.sharing(&self.footers);
        self.put(partition.id(), Stored::OnDisk(Arc::new(partition)));
    }

    /// What is kept of the files of those that lie in them.
    pub fn footers(&self) -> &Footers {
        &self.footers
    }

    /// Gives the partition up; scans under way keep it until they end.
    pub fn remove(&self, id: &PartitionId) -> Option<Stored> {
        self.held.write().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    /// The ids held, ascending.
    pub fn ids(&self) -> Vec<PartitionId> {
        self.held().keys().copied().collect()
    }

    /// Of those, the ones that lie in their files.
    pub fn ids_on_disk(&self) -> Vec<PartitionId> {
        let held = self.held();
        held.iter().filter(|(_, stored)| matches!(stored, Stored::OnDisk(_))).map(|(id, _)| *id).collect()
    }

    /// Rows held in all.
    pub fn rows(&self) -> u64 {
        self.held().values().map(Stored::rows).sum()
    }

    /// Bytes that the partitions in memory take.
    pub fn memory_bytes(&self) -> u64 {
        let bytes = |stored: &Stored| match stored {
            Stored::InMemory(held) => held.memory_bytes,
            Stored::OnDisk(_) => 0,
        };
        self.held().values().map(bytes).sum()
    }
}
