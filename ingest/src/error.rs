//! What can go wrong outside a row. A bad row is no error: it is a line of the rejects file.

use std::io;
use std::path::{Path, PathBuf};

use crate::date::Date;

/// Why a run, or the loading of a partition, was refused or failed. [`Error::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the data set folder {} does not exist", .0.display())]
    NoSuchFolder(PathBuf),
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    #[error("{} has no data/ folder", .0.display())]
    NoDataFolder(PathBuf),
    #[error("{} holds no CSV: no file data/YYYYMMDD/YYYYMMDD-HH.csv ({ignored} files of other names)", root.display())]
    NoCsv { root: PathBuf, ignored: usize },
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The CSV files of one day are more than one partition can index. Nothing of the run is committed.
    #[error("the CSV files of {date} have {bytes} bytes; one day may have {limit}")]
    DayTooLarge { date: Date, bytes: u64, limit: u64 },
    /// Nothing was ever committed here. A reader may parse the CSV files instead.
    #[error("there is no cache in {}: it has no manifest.json", .0.display())]
    NoCache(PathBuf),
    #[error("the manifest {} cannot be used: {reason}", path.display())]
    BadManifest { path: PathBuf, reason: String },
    #[error("the cache {} was made for {found}; this run is for {wanted}", path.display())]
    OtherLayout { path: PathBuf, found: String, wanted: String },
    #[error("another overlay-ingest is writing to the cache {}", .0.display())]
    CacheInUse(PathBuf),
    /// The cache is older than its CSV files.
    #[error("the cache is not up to date: {path} {difference}")]
    StaleCache { path: String, difference: &'static str },
    /// The bytes on disk are not those that were committed. Never decoded, never answered from.
    #[error("the partition file {} is corrupt: {reason}", path.display())]
    CorruptPartition { path: PathBuf, reason: String },
    /// Files of a day were listed under one name and read under another.
    #[error("the CSV files of {date} changed while they were in use")]
    FilesChanged { date: Date },
    #[error("cannot encode the partition of {date} as Parquet")]
    Encode { date: Date, source: parquet::errors::ParquetError },
    /// A data set is generated into a folder of its own.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    #[error("cannot generate a data set of {days} days and {sites} sites: {reason}")]
    Generate { days: u32, sites: u32, reason: String },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { action, path: path.to_owned(), source }
    }

    /// What to type or change next, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::NoSuchFolder(_) | Error::NotAFolder(_) => {
                "give the folder of a data set, or make one: overlay-ingest generate DIR"
            }
            Error::NoDataFolder(_) | Error::NoCsv { .. } => {
                "a data set is a folder with data/YYYYMMDD/YYYYMMDD-HH.csv; make one: overlay-ingest generate DIR"
            }
            Error::NoCache(_) | Error::StaleCache { .. } => "run overlay-ingest on the data set's folder",
            Error::BadManifest { .. } | Error::OtherLayout { .. } | Error::CorruptPartition { .. } => {
                "run overlay-ingest with --force: it reads the CSV files again"
            }
            Error::FilesChanged { .. } => "start it again once the files are whole",
            Error::NotEmpty(_) => "give a folder that does not exist yet, or remove what is in it",
            Error::CacheInUse(_) => "wait until it has ended, or give another folder with --cache",
            Error::DayTooLarge { .. } | Error::Io { .. } | Error::Encode { .. } | Error::Generate { .. } => {
                return None;
            }
        })
    }
}
