//! Which partitions of the data set this host knows, and getting them into memory.
//!
//! With a fresh Parquet cache the names come from its manifest and the rows from its files. Where the cache has none of
//! the dates, the CSV files are read instead: their digests give the same names at the start, and a date is parsed when
//! it is placed here, which gives the same rows. A host with a cache and no CSV files of the dates serves the cache as
//! it is. A cache that is older than its CSV is refused by name: it would answer with yesterday's rows.

use std::collections::BTreeMap;
use std::fmt;

use overlay_ingest::manifest::FILE_NAME;
use overlay_ingest::schema::Layout;
use overlay_ingest::{Cache, Dataset, Date, DateRange, Error, Partition, PartitionId, identify_date, parse_date};
use rayon::prelude::*;

use super::loading::memory_bytes;
use crate::config::DatasetConfig;
use crate::routing::known::KnownPartition;

/// The data of some dates, as they lie on this host.
pub struct LocalData {
    source: Source,
    known: Vec<KnownPartition>,
    csv_files: BTreeMap<PartitionId, u64>,
}

enum Source {
    /// `checked`: against the CSV files that it was made from.
    Cache {
        cache: Cache,
        checked: bool,
    },
    Csv(Dataset),
}

/// Where the rows of a node come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSource {
    /// The Parquet cache, made from the CSV files that are there.
    Cache,
    /// The Parquet cache; there are no CSV files of these dates here to compare it with.
    CacheAlone,
    /// The CSV files; there is no cache of these dates here.
    Csv,
}

impl DataSource {
    /// What a person should know of it; `None` if all is as usual.
    pub fn remark(self, config: &DatasetConfig) -> Option<String> {
        let cache = config.cache.display();
        match self {
            DataSource::Cache => None,
            DataSource::CacheAlone => {
                Some(format!("no CSV files in {}: the cache {cache} is served as it is", config.root.display()))
            }
            DataSource::Csv => Some(format!("no cache in {cache}: the CSV files are parsed")),
        }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataSource::Cache => "cache",
            DataSource::CacheAlone => "cache without CSV",
            DataSource::Csv => "CSV",
        })
    }
}

impl Source {
    /// Where the rows of the range are to come from; nothing is read but the cache's manifest.
    fn find(config: &DatasetConfig, range: DateRange) -> Result<Source, Error> {
        let dataset = match Dataset::open(&config.root) {
            Ok(dataset) => Ok(dataset.named(&config.name)),
            Err(absent @ (Error::NoSuchFolder(_) | Error::NoDataFolder(_) | Error::NoCsv { .. })) => Err(absent),
            Err(error) => return Err(error),
        };
        let cache = match Cache::open(&config.cache) {
            Ok(cache) => Some(cache),
            Err(Error::NoCache(_)) => None,
            Err(error) => return Err(error),
        };
        if let Some(cache) = &cache
            && cache.manifest().dataset != config.name
        {
            return Err(Error::OtherLayout {
                path: config.cache.join(FILE_NAME),
                found: format!("data set {:?}", cache.manifest().dataset),
                wanted: format!("data set {:?}", config.name),
            });
        }
        let cache = cache.filter(|cache| cache.manifest().partitions(range).next().is_some());
        match (dataset, cache) {
            (Ok(dataset), Some(cache)) if dataset.dates(range).next().is_some() => {
                cache.manifest().check_fresh(&dataset, range)?;
                Ok(Source::Cache { cache, checked: true })
            }
            (_, Some(cache)) => Ok(Source::Cache { cache, checked: false }),
            (Ok(dataset), None) => Ok(Source::Csv(dataset)),
            (Err(absent), None) => Err(absent),
        }
    }

    fn kind(&self) -> DataSource {
        match self {
            Source::Cache { checked: true, .. } => DataSource::Cache,
            Source::Cache { checked: false, .. } => DataSource::CacheAlone,
            Source::Csv(_) => DataSource::Csv,
        }
    }
}

/// The dates of a range that are on this host, found without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDates {
    pub source: DataSource,
    /// Ascending.
    pub dates: Vec<Date>,
    /// `None` where nobody has counted.
    pub rows: Option<u64>,
    pub csv_bytes: u64,
    /// For all of them, dictionaries apart; an estimate where nobody has counted.
    pub memory_bytes: u64,
}

impl LocalDates {
    /// Looks; fails for what would keep a node from starting.
    pub fn look(config: &DatasetConfig, range: DateRange) -> Result<LocalDates, Error> {
        let found = Source::find(config, range)?;
        let source = found.kind();
        Ok(match found {
            Source::Cache { cache, .. } => {
                let entries: Vec<_> = cache.manifest().partitions(range).collect();
                let rows: u64 = entries.iter().map(|entry| entry.rows).sum();
                let csv_bytes: u64 = entries.iter().map(|entry| entry.csv_bytes).sum();
                let dates = entries.iter().map(|entry| entry.id.date).collect();
                LocalDates {
                    source,
                    dates,
                    rows: Some(rows),
                    csv_bytes,
                    memory_bytes: memory_bytes(Some(rows), csv_bytes),
                }
            }
            Source::Csv(dataset) => {
                let dates: Vec<Date> = dataset.dates(range).collect();
                let csv_bytes: u64 = dates.iter().map(|date| dataset.csv_bytes(*date)).sum();
                LocalDates { source, dates, rows: None, csv_bytes, memory_bytes: memory_bytes(None, csv_bytes) }
            }
        })
    }
}

impl LocalData {
    /// Finds the partitions of the range. Reads the cache's manifest, or the CSV files if it has none of the dates.
    pub fn open(config: &DatasetConfig, range: DateRange) -> Result<LocalData, Error> {
        match Source::find(config, range)? {
            Source::Cache { cache, checked } => Ok(LocalData::cached(cache, range, checked)),
            Source::Csv(dataset) => LocalData::listed(dataset, range),
        }
    }

    fn cached(cache: Cache, range: DateRange, checked: bool) -> LocalData {
        let entries = || cache.manifest().partitions(range);
        let known = entries().map(|entry| KnownPartition {
            id: entry.id,
            csv_bytes: entry.csv_bytes,
            stats: Some(entry.stats.clone()),
        });
        let known = known.collect();
        let csv_files = entries().map(|entry| (entry.id, entry.sources.len() as u64)).collect();
        LocalData { known, csv_files, source: Source::Cache { cache, checked } }
    }

    fn listed(dataset: Dataset, range: DateRange) -> Result<LocalData, Error> {
        let dates: Vec<_> = dataset.dates(range).collect();
        let listed = dates.par_iter().map(|date| identify_date(&dataset, *date, Layout::default()));
        let listed = listed.collect::<Result<Vec<_>, Error>>()?;
        let csv_files = listed.iter().map(|(id, _)| (*id, dataset.files(id.date).len() as u64)).collect();
        let known = listed.into_iter().map(|(id, csv_bytes)| KnownPartition { id, csv_bytes, stats: None }).collect();
        Ok(LocalData { known, csv_files, source: Source::Csv(dataset) })
    }

    /// Where the rows come from.
    pub fn source(&self) -> DataSource {
        self.source.kind()
    }

    /// The partitions of the range, with their statistics where they are known before the rows are read.
    pub fn known(&self) -> &[KnownPartition] {
        &self.known
    }

    /// CSV files behind the partitions.
    pub fn csv_files(&self, ids: &[PartitionId]) -> u64 {
        ids.iter().filter_map(|id| self.csv_files.get(id)).sum()
    }

    /// The rows of a known partition; `None` if this host does not know it. [`Error::FilesChanged`] if its CSV files
    /// are not those that were listed.
    pub fn load(&self, id: &PartitionId) -> Result<Option<Partition>, Error> {
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

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
