//! Which partitions of the data set this node knows, and getting them into memory.
//!
//! With a fresh Parquet cache the names come from its manifest and the rows from its files. Without any cache the CSV
//! files of the team's dates are parsed, which gives the same names and the same rows. A cache that is older than its
//! CSV is refused by name when a node starts: it would answer with yesterday's rows.
//!
//! While the node runs, only the commit of a cache's manifest says that data changed. A tree of CSV files has no such
//! point: a file that is being copied looks like one that is done. So a node without a cache keeps to the files as it
//! read them, until it is started again or a cache is committed in the place it is configured for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use overlay_ingest::manifest::FILE_NAME;
use overlay_ingest::schema::Layout;
use overlay_ingest::{Cache, Dataset, DateRange, Error, Partition, PartitionId, parse_date};
use rayon::prelude::*;

use crate::config::DatasetConfig;
use crate::routing::known::KnownPartition;

/// The data of some dates, as they lie on this host.
pub struct LocalData {
    cache: PathBuf,
    range: DateRange,
    /// What is in use.
    view: RwLock<Arc<View>>,
    /// The manifest that was looked at last, taken over or not.
    seen: Mutex<Option<Stamp>>,
}

/// The partitions of one moment.
struct View {
    source: Source,
    known: Arc<Vec<KnownPartition>>,
    csv_files: BTreeMap<PartitionId, u64>,
}

enum Source {
    Cache(Cache),
    /// Parsed at the start.
    Parsed(BTreeMap<PartitionId, Partition>),
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

    /// The rows of a partition; `None` if it is not known.
    pub fn load(&self, id: &PartitionId) -> Result<Option<Partition>, Error> {
        self.0.load(id)
    }
}

impl LocalData {
    /// Finds the partitions of the range. Reads the manifest, or parses the CSV files if there is no cache.
    pub fn open(config: &DatasetConfig, range: DateRange) -> Result<LocalData, Error> {
        let dataset = Dataset::open(&config.root)?;
        let seen = stamp(&config.cache);
        let view = match Cache::open(&config.cache) {
            Ok(cache) => {
                cache.manifest().check_fresh(&dataset, range)?;
                View::of_cache(cache, range)
            }
            Err(Error::NoCache { .. }) => View::parse(&dataset, range)?,
            Err(error) => return Err(error),
        };
        let (view, seen) = (RwLock::new(Arc::new(view)), Mutex::new(seen));
        Ok(LocalData { cache: config.cache.clone(), range, view, seen })
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the rows were parsed from CSV because there is no cache.
    pub fn is_parsed(&self) -> bool {
        matches!(self.view().source, Source::Parsed(_))
    }

    /// The partitions of the range, with their statistics.
    pub fn known(&self) -> Arc<Vec<KnownPartition>> {
        Arc::clone(&self.view().known)
    }

    /// CSV files behind the partitions.
    pub fn csv_files(&self, ids: &[PartitionId]) -> u64 {
        let view = self.view();
        ids.iter().filter_map(|id| view.csv_files.get(id)).sum()
    }

    /// The rows of a known partition; `None` if this host does not know it.
    pub fn load(&self, id: &PartitionId) -> Result<Option<Partition>, Error> {
        self.view().load(id)
    }

    /// The cache, if one was committed since the last look; each commit is given once. Cheap where there is none: one
    /// look at one file. That its CSV files may be newer still is no matter here: it is newer than what is in use.
    ///
    /// Errors: the manifest cannot be used. The next commit will be given again.
    pub fn newer(&self) -> Result<Option<NewerData>, Error> {
        let stamp = stamp(&self.cache);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if stamp.is_none() || *seen == stamp {
                return Ok(None);
            }
            *seen = stamp;
        }
        match Cache::open(&self.cache) {
            Ok(cache) => Ok(Some(NewerData(View::of_cache(cache, self.range)))),
            Err(Error::NoCache { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Uses this from now on.
    pub fn take_over(&self, newer: NewerData) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer.0);
    }
}

impl View {
    fn of_cache(cache: Cache, range: DateRange) -> View {
        let entries = || cache.manifest().partitions(range);
        let known = entries()
            .map(|entry| KnownPartition { id: entry.id, csv_bytes: entry.csv_bytes, stats: Some(entry.stats.clone()) })
            .collect();
        let csv_files = entries().map(|entry| (entry.id, entry.sources.len() as u64)).collect();
        View { known: Arc::new(known), csv_files, source: Source::Cache(cache) }
    }

    fn parse(dataset: &Dataset, range: DateRange) -> Result<View, Error> {
        let dates: Vec<_> = dataset.dates(range).collect();
        let parsed = dates
            .par_iter()
            .map(|date| parse_date(dataset, *date, Layout::default()))
            .collect::<Result<Vec<_>, Error>>()?;
        let known = parsed
            .iter()
            .map(|parsed| KnownPartition {
                id: parsed.partition.id,
                csv_bytes: parsed.partition.csv_bytes,
                stats: Some(parsed.partition.stats.clone()),
            })
            .collect();
        let csv_files = parsed.iter().map(|parsed| (parsed.partition.id, parsed.sources.len() as u64)).collect();
        let partitions = parsed.into_iter().map(|parsed| (parsed.partition.id, parsed.partition)).collect();
        Ok(View { known: Arc::new(known), csv_files, source: Source::Parsed(partitions) })
    }

    fn load(&self, id: &PartitionId) -> Result<Option<Partition>, Error> {
        match &self.source {
            Source::Cache(cache) => {
                let entry = cache.manifest().partition(id.date).filter(|entry| entry.id == *id);
                entry.map(|entry| cache.load(entry)).transpose()
            }
            Source::Parsed(partitions) => Ok(partitions.get(id).cloned()),
        }
    }
}

/// `None` if there is no manifest.
fn stamp(cache: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(cache.join(FILE_NAME)).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}
