//! Which partitions of the data set this node knows, and getting them into memory.
//!
//! With a fresh Parquet cache the names come from its manifest and the rows from its files. Without any cache the CSV
//! files of the team's dates are parsed, which gives the same names and the same rows. A cache that is older than its
//! CSV is refused by name: it would answer with yesterday's rows.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use overlay_ingest::schema::Layout;
use overlay_ingest::{Cache, Dataset, DateRange, Error, Partition, PartitionId, parse_date};
use rayon::prelude::*;

use crate::config::DatasetConfig;
use crate::routing::known::KnownPartition;

/// The data of some dates, as they lie on this host.
pub struct LocalData {
    source: Source,
    known: Vec<KnownPartition>,
    csv_files: BTreeMap<PartitionId, u64>,
}

enum Source {
    Cache(Cache),
    /// Parsed at the start, taken out as they are loaded.
    Parsed(Mutex<BTreeMap<PartitionId, Partition>>),
}

impl LocalData {
    /// Finds the partitions of the range. Reads the manifest, or parses the CSV files if there is no cache.
    pub fn open(config: &DatasetConfig, range: DateRange) -> Result<LocalData, Error> {
        let dataset = Dataset::open(&config.root)?;
        match Cache::open(&config.cache) {
            Ok(cache) => {
                cache.manifest().check_fresh(&dataset, range)?;
                let entries = || cache.manifest().partitions(range);
                let known = entries()
                    .map(|entry| KnownPartition {
                        id: entry.id,
                        csv_bytes: entry.csv_bytes,
                        stats: Some(entry.stats.clone()),
                    })
                    .collect();
                let csv_files = entries().map(|entry| (entry.id, entry.sources.len() as u64)).collect();
                Ok(LocalData { known, csv_files, source: Source::Cache(cache) })
            }
            Err(Error::NoCache { .. }) => LocalData::parse(&dataset, range),
            Err(error) => Err(error),
        }
    }

    fn parse(dataset: &Dataset, range: DateRange) -> Result<LocalData, Error> {
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
        Ok(LocalData { known, csv_files, source: Source::Parsed(Mutex::new(partitions)) })
    }

    /// Whether the rows were parsed from CSV because there is no cache.
    pub fn is_parsed(&self) -> bool {
        matches!(self.source, Source::Parsed(_))
    }

    /// The partitions of the range, with their statistics.
    pub fn known(&self) -> &[KnownPartition] {
        &self.known
    }

    /// CSV files behind the partitions.
    pub fn csv_files(&self, ids: &[PartitionId]) -> u64 {
        ids.iter().filter_map(|id| self.csv_files.get(id)).sum()
    }

    /// The rows of a known partition; `None` if this host does not know it.
    pub fn load(&self, id: &PartitionId) -> Result<Option<Partition>, Error> {
        match &self.source {
            Source::Cache(cache) => {
                let entry = cache.manifest().partition(id.date).filter(|entry| entry.id == *id);
                entry.map(|entry| cache.load(entry)).transpose()
            }
            Source::Parsed(partitions) => {
                Ok(partitions.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned())
            }
        }
    }
}
