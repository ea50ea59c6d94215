//! Partitions that lie in their Parquet files, because memory is full: opened, and read in pieces by each scan.
//!
//! What opening finds out, which zones there are and between which bounds they lie, is kept for the scans that follow, up
//! to [`FOOTER_BYTES_MAX`] a node. Beyond that a file is opened for every job anew. What is kept stays for as long as its
//! partition is held: scans go over all days in turn, so making room for the day at hand would only throw out the one that
//! is needed next. A file is immutable and named by its content, so what is kept of it cannot become old; every page is
//! still compared with what it was when the file was opened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use overlay_ingest::{Cache, Error, PartitionFile, PartitionId};

use super::cache_figures::{CacheFigures, Lookups};
use super::statistics::ZoneMap;

/// What is kept of all files of a node. A day of the 2020 fire season takes 27 kB, so this is enough for some 2,400.
pub const FOOTER_BYTES_MAX: u64 = 64 << 20;

/// A partition in its Parquet file.
#[derive(Debug)]
pub struct PartitionOnDisk {
    cache: Arc<Cache>,
    id: PartitionId,
    rows: u64,
    zone_rows: usize,
    kept: OnceLock<Arc<OpenPartition>>,
    footers: Arc<Footers>,
}

/// Its file, opened.
#[derive(Debug)]
pub struct OpenPartition {
    pub file: PartitionFile,
    /// From the bounds of its pages.
    pub map: ZoneMap,
}

/// What is kept of the files of one node.
#[derive(Debug)]
pub struct Footers {
    bytes_max: u64,
    bytes: AtomicU64,
    entries: AtomicU64,
    lookups: Lookups,
}

impl Default for Footers {
    fn default() -> Footers {
        Footers::new(FOOTER_BYTES_MAX)
    }
}

impl Footers {
    /// Of at most so many bytes.
    pub fn new(bytes_max: u64) -> Footers {
        let (bytes, entries) = (AtomicU64::new(0), AtomicU64::new(0));
        Footers { bytes_max, bytes, entries, lookups: Lookups::default() }
    }

    /// How it is used.
    pub fn figures(&self) -> CacheFigures {
        self.lookups.figures(self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|held| *held <= self.bytes_max)
        });
        if taken.is_ok() {
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenPartition {
    fn new(file: PartitionFile) -> OpenPartition {
        OpenPartition { map: ZoneMap::of_file(&file), file }
    }

    /// Its zones; one without rows if there are no rows.
    pub fn zone_count(&self) -> usize {
        self.file.zone_count().max(1)
    }

    fn memory_bytes(&self) -> u64 {
        self.file.memory_bytes() as u64
    }
}

impl PartitionOnDisk {
    /// The partition of this id in the cache; `None` if the cache has another of its day, or none.
    pub fn new(cache: &Arc<Cache>, id: PartitionId) -> Option<PartitionOnDisk> {
        let entry = cache.manifest().partition(id.date).filter(|entry| entry.id == id)?;
        Some(PartitionOnDisk {
            cache: Arc::clone(cache),
            id,
            rows: entry.rows,
            zone_rows: cache.manifest().zone_rows,
            kept: OnceLock::new(),
            footers: Arc::default(),
        })
    }

    /// The same, with room for what is kept of it in `footers`.
    pub(super) fn sharing(mut self, footers: &Arc<Footers>) -> PartitionOnDisk {
        assert!(self.kept.get().is_none(), "what is kept was counted elsewhere");
        self.footers = Arc::clone(footers);
        self
    }

    /// Whose rows these are.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Its rows, over all zones.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Its zones; one without rows if there are no rows.
    pub fn zone_count(&self) -> u32 {
        let zones = self.rows.div_ceil(self.zone_rows as u64).max(1);
        u32::try_from(zones).expect("a day has fewer rows than 32 bits count")
    }

    /// Its file, ready to be read. Fails like [`Cache::open_partition`].
    pub fn open(&self) -> Result<Arc<OpenPartition>, Error> {
        if let Some(kept) = self.kept.get() {
            self.footers.lookups.hit();
            return Ok(Arc::clone(kept));
        }
        self.footers.lookups.miss();
        let entry = self.cache.manifest().partition(self.id.date).expect("looked up when this was made");
        let opened = Arc::new(OpenPartition::new(self.cache.open_partition(entry)?));
        let bytes = opened.memory_bytes();
        // Two jobs may open it at the same time: the second one's is dropped after use.
        if self.footers.take(bytes) && self.kept.set(Arc::clone(&opened)).is_err() {
            self.footers.give_back(bytes);
        }
        Ok(opened)
    }
}

impl Drop for PartitionOnDisk {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.get() {
            self.footers.give_back(kept.memory_bytes());
        }
    }
}
