//! Which partitions of the data set this host knows, and getting them into memory.
//!
//! With a fresh Parquet cache the names come from its manifest and the rows from its files. Where the cache has none of
//! the dates, the CSV files are read instead: their digests give the same names at the start, and a date is parsed when
//! it is placed here, which gives the same rows. A host with a cache and no CSV files of the dates serves the cache as
//! it is. A cache that is older than its CSV is refused by name when a node starts: it would answer with yesterday's rows.
//!
//! While the node runs, only the commit of a cache's manifest says that data changed. A tree of CSV files has no such
//! point: a file that is being copied looks like one that is done. So a node without a cache keeps to the files as they
//! were at its start, until it is started again or a cache is committed in the place it is configured for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use overlay_ingest::manifest::FILE_NAME;
use overlay_ingest::schema::Layout;
use overlay_ingest::{Cache, Dataset, DateRange, Error, Partition, PartitionId, identify_date, parse_date};
use rayon::prelude::*;

pub use super::data_source::{DataSource, LocalDates};
use super::data_source::{Source, check_name};
use crate::config::DatasetConfig;
use crate::engine::on_disk::PartitionOnDisk;
use crate::routing::known::KnownPartition;

/// The data of some dates, as they lie on this host.
pub struct LocalData {
    config: DatasetConfig,
    range: DateRange,
    /// What is in use.
    view: RwLock<Arc<View>>,
    /// The manifest that was looked at last, taken over or not.
    seen: Mutex<Option<Stamp>>,
}

/// The partitions of one moment.
pub(super) struct View {
    source: Source,
    known: Arc<Vec<KnownPartition>>,
    csv_files: BTreeMap<PartitionId, u64>,
}

/// What tells one committed manifest from another without reading it: every commit makes a new file.
type Stamp = (Option<SystemTime>, u64);

/// A cache that was committed after the one in use.
pub struct NewerData(View);

impl NewerData {
    /// The partitions of the range, with their statistics.
    pub fn known(&self) -> &[KnownPartition] {
        &self.0.known
    }

    pub(super) fn view(&self) -> &View {
        &self.0
    }
}

impl LocalData {
    /// Finds the partitions of the range. Reads the cache's manifest, or the CSV files if it has none of the dates.
    pub fn open(config: &DatasetConfig, range: DateRange) -> Result<LocalData, Error> {
        let seen = stamp(&config.cache);
        let view = match Source::find(config, range)? {
            Source::Cache { cache, checked } => View::cached(cache, range, checked),
            Source::Csv(dataset) => View::listed(dataset, range)?,
        };
        let (view, seen) = (RwLock::new(Arc::new(view)), Mutex::new(seen));
        Ok(LocalData { config: config.clone(), range, view, seen })
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the rows come from.
    pub fn source(&self) -> DataSource {
        self.view().source.kind()
    }

    /// The partitions of the range, with their statistics where they are known before the rows are read.
    pub fn known(&self) -> Arc<Vec<KnownPartition>> {
        Arc::clone(&self.view().known)
    }

    /// CSV files behind the partitions.
    pub fn csv_files(&self, ids: &[PartitionId]) -> u64 {
        let view = self.view();
        ids.iter().filter_map(|id| view.csv_files.get(id)).sum()
    }

    /// The rows of a known partition; `None` if this host does not know it. [`Error::FilesChanged`] if its CSV files
    /// are not those that were listed.
    pub fn load(&self, id: &PartitionId) -> Result<Option<Partition>, Error> {
        self.view().load(id)
    }

    /// The cache, if one was committed since the last look; each commit is given once. Cheap where there is none: one
    /// look at one file. That its CSV files may be newer still is no matter here: it is newer than what is in use.
    ///
    /// Errors: the manifest cannot be used. The next commit will be given again.
    pub fn newer(&self) -> Result<Option<NewerData>, Error> {
        let stamp = stamp(&self.config.cache);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if stamp.is_none() || *seen == stamp {
                return Ok(None);
            }
            *seen = stamp;
        }
        let cache = match Cache::open(&self.config.cache) {
            Ok(cache) => cache,
            Err(Error::NoCache { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        check_name(&cache, &self.config)?;
        // Another team's dates were ingested: nothing changes for these.
        if self.source() == DataSource::Csv && cache.manifest().partitions(self.range).next().is_none() {
            return Ok(None);
        }
        let checked = self.source() != DataSource::CacheAlone;
        Ok(Some(NewerData(View::cached(Arc::new(cache), self.range, checked))))
    }

    /// Uses this from now on.
    pub fn take_over(&self, newer: NewerData) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer.0);
    }
}

impl View {
    fn cached(cache: Arc<Cache>, range: DateRange, checked: bool) -> View {
        let entries = || cache.manifest().partitions(range);
        let known = entries().map(|entry| KnownPartition {
            id: entry.id,
            csv_bytes: entry.csv_bytes,
            stats: Some(entry.stats.clone()),
        });
        let known = Arc::new(known.collect());
        let csv_files = entries().map(|entry| (entry.id, entry.sources.len() as u64)).collect();
        View { known, csv_files, source: Source::Cache { cache, checked } }
    }

    fn listed(dataset: Dataset, range: DateRange) -> Result<View, Error> {
        let dates: Vec<_> = dataset.dates(range).collect();
        let listed = dates.par_iter().map(|date| identify_date(&dataset, *date, Layout::default()));
        let listed = listed.collect::<Result<Vec<_>, Error>>()?;
        let csv_files = listed.iter().map(|(id, _)| (*id, dataset.files(id.date).len() as u64)).collect();
        let known = listed.into_iter().map(|(id, csv_bytes)| KnownPartition { id, csv_bytes, stats: None });
        Ok(View { known: Arc::new(known.collect()), csv_files, source: Source::Csv(dataset) })
    }

    /// The partition as a file that can be read whenever it is needed; `None` if there is no such file.
    pub(super) fn on_disk(&self, id: &PartitionId) -> Option<PartitionOnDisk> {
        match &self.source {
            Source::Cache { cache, .. } => PartitionOnDisk::new(cache, *id),
            Source::Csv(_) => None,
        }
    }

    /// The rows of a partition; `None` if it is not known.
    pub(super) fn load(&self, id: &PartitionId) -> Result<Option<Partition>, Error> {
        match &self.source {
            Source::Cache { cache, .. } => {
                let entry = cache.manifest().partition(id.date).filter(|entry| entry.id == *id);
                entry.map(|entry| cache.load(entry)).transpose()
            }
            Source::Csv(_) if !self.csv_files.contains_key(id) => Ok(None),
            Source::Csv(dataset) => {
                let partition = parse_date(dataset, id.date, Layout::default())?.partition;
                if partition.id == *id { Ok(Some(partition)) } else { Err(Error::FilesChanged { date: id.date }) }
            }
        }
    }
}

/// `None` if there is no manifest.
fn stamp(cache: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(cache.join(FILE_NAME)).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
