//! Where the rows of some dates come from on this host, found without reading them: a Parquet cache or CSV files.

use std::fmt;
use std::sync::Arc;

use overlay_ingest::manifest::FILE_NAME;
use overlay_ingest::{Cache, Dataset, Date, DateRange, Error};

use super::loading::memory_bytes;
use crate::config::DatasetConfig;

pub(super) enum Source {
    /// `checked`: against the CSV files that it was made from.
    Cache {
        cache: Arc<Cache>,
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
    pub fn find(config: &DatasetConfig, range: DateRange) -> Result<Source, Error> {
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
        if let Some(cache) = &cache {
            check_name(cache, config)?;
        }
        let cache = cache.filter(|cache| cache.manifest().partitions(range).next().is_some());
        match (dataset, cache) {
            (Ok(dataset), Some(cache)) if dataset.dates(range).next().is_some() => {
                cache.manifest().check_fresh(&dataset, range)?;
                Ok(Source::Cache { cache: Arc::new(cache), checked: true })
            }
            (_, Some(cache)) => Ok(Source::Cache { cache: Arc::new(cache), checked: false }),
            (Ok(dataset), None) => Ok(Source::Csv(dataset)),
            (Err(absent), None) => Err(absent),
        }
    }

    pub fn kind(&self) -> DataSource {
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

/// Whether the cache is one of this data set.
pub(super) fn check_name(cache: &Cache, config: &DatasetConfig) -> Result<(), Error> {
    if cache.manifest().dataset == config.name {
        return Ok(());
    }
    Err(Error::OtherLayout {
        path: config.cache.join(FILE_NAME),
        found: format!("data set {:?}", cache.manifest().dataset),
        wanted: format!("data set {:?}", config.name),
    })
}
