//! The little that ingest reads of a cluster's configuration file: the teams' days and where the cache is.
//!
//! Everything else in it, and whether it is right, is the business of `overlay config check`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use overlay_ingest::receipt::Team;
use overlay_ingest::{Date, DateRange};
use serde::Deserialize;

/// Read if none is named and it exists.
const DEFAULT_PATH: &str = "configs/one_host.json";

/// The configuration, as far as ingest needs it.
#[derive(Debug, Default)]
pub struct Config {
    /// Sorted by name.
    pub teams: Vec<Team>,
    name: Option<String>,
    root: Option<PathBuf>,
    cache: Option<PathBuf>,
}

/// The configuration file cannot be read or understood.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the configuration file {} cannot be used", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    teams: BTreeMap<String, TeamDates>,
    #[serde(default)]
    dataset: DatasetPaths,
}

#[derive(Deserialize)]
struct TeamDates {
    from: Date,
    to: Date,
}

#[derive(Deserialize, Default)]
struct DatasetPaths {
    name: Option<String>,
    root: Option<PathBuf>,
    cache: Option<PathBuf>,
}

impl Config {
    /// The named file, which must be there; else the default one, or nothing if that is not there.
    pub fn read(named: Option<&Path>) -> Result<Config, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => return Ok(Config::default()),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let file: File =
            serde_json::from_slice(&text).map_err(|source| ConfigError::Json { path: path.to_owned(), source })?;
        let team =
            |(name, dates): (String, TeamDates)| Team { name, range: DateRange { from: dates.from, to: dates.to } };
        Ok(Config {
            teams: file.teams.into_iter().map(team).collect(),
            name: file.dataset.name,
            root: file.dataset.root,
            cache: file.dataset.cache,
        })
    }

    /// The cache's folder, if the configuration is about this data set. Relative paths count from the current folder.
    pub fn cache_of(&self, dataset: &Path) -> Option<PathBuf> {
        self.is_about(dataset).then(|| self.cache.clone())?
    }

    /// The name of the data set, if the configuration is about it: the folder may have another one on each host.
    pub fn name_of(&self, dataset: &Path) -> Option<String> {
        self.is_about(dataset).then(|| self.name.clone())?
    }

    fn is_about(&self, dataset: &Path) -> bool {
        let root = self.root.as_ref().and_then(|root| root.canonicalize().ok());
        root.is_some() && root == dataset.canonicalize().ok()
    }
}
