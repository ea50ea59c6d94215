//! What a cache holds, and the one point of commit.
//!
//! `manifest.json` names every file of the cache with its digest; a file that it does not name does not exist. It is
//! written last, by rename, after everything it names has reached the disk: a reader sees the old cache or the new one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Refusal, SourceFile};
use crate::date::{Date, DateRange};
use crate::error::Error;
use crate::partition_id::PartitionId;
use crate::rejects::Reason;
use crate::schema::{LAYOUT_VERSION, Layout};
use crate::stats::PartitionStats;

/// Version of the manifest's own form.
pub const FORMAT_VERSION: u32 = 1;

/// The manifest's name in the folder of a cache.
pub const FILE_NAME: &str = "manifest.json";

/// Everything a cache holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    /// Name of the data set: its folder's, or that of the configuration.
    pub dataset: String,
    pub layout_version: u32,
    pub zone_rows: usize,
    /// One per day, sorted by date.
    pub partitions: Vec<PartitionEntry>,
    /// Refused files that belong to no day.
    pub refused: Vec<SourceEntry>,
    /// The rejected rows of all partitions, if there are any.
    pub rejects: Option<RejectsFile>,
    /// How often each concentration occurs; absent in caches that were made before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<CountsFile>,
}

/// One partition and what it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionEntry {
    pub id: PartitionId,
    /// Name of the Parquet file in the cache's folder; its content decides it.
    pub file: String,
    pub file_bytes: u64,
    /// blake3 of the file, in hexadecimal.
    pub file_digest: String,
    pub rows: u64,
    pub csv_bytes: u64,
    /// Sorted by path.
    pub sources: Vec<SourceEntry>,
    pub rejects: Option<RejectsSpan>,
    pub stats: PartitionStats,
}

/// A CSV file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// Path below the data set's folder.
    pub path: String,
    pub bytes: u64,
    pub modified_ns: i64,
    /// blake3 in hexadecimal; of a refused link, of the text of its target.
    pub digest: String,
    /// Lines that are not blank: `ok + rejected`.
    pub rows_in: u64,
    pub ok: u64,
    pub rejected: u64,
    /// Rejected rows by reason.
    pub reasons: BTreeMap<Reason, u64>,
    pub refused: Option<Refusal>,
}

/// The rejects file of the cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RejectsFile {
    /// Its name in the cache's folder.
    pub file: String,
    pub rows: u64,
    pub bytes: u64,
    /// blake3 of the file, in hexadecimal.
    pub digest: String,
}

/// The file of [`crate::counts`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountsFile {
    /// Its name in the cache's folder.
    pub file: String,
    pub bytes: u64,
    /// blake3 of the file, in hexadecimal.
    pub digest: String,
}

/// Where the rejects of one partition are in the rejects file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectsSpan {
    pub offset: u64,
    pub bytes: u64,
    pub rows: u64,
}

impl SourceEntry {
    /// A file that has not been read yet.
    pub(crate) fn of(file: &SourceFile) -> SourceEntry {
        SourceEntry {
            path: file.path.clone(),
            bytes: file.bytes,
            modified_ns: file.modified_ns,
            digest: String::new(),
            rows_in: 0,
            ok: 0,
            rejected: 0,
            reasons: BTreeMap::new(),
            refused: file.refused,
        }
    }
}

impl Manifest {
    pub(crate) fn new(dataset: &str, layout: Layout) -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            dataset: dataset.to_owned(),
            layout_version: LAYOUT_VERSION,
            zone_rows: layout.zone_rows,
            partitions: Vec::new(),
            refused: Vec::new(),
            rejects: None,
            counts: None,
        }
    }

    /// Reads a cache's manifest. [`Error::NoCache`] if there is none.
    pub fn read(cache: &Path) -> Result<Manifest, Error> {
        let path = cache.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(Error::NoCache(cache.to_owned()));
            }
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        };
        let bad = |reason: String| Error::BadManifest { path: path.clone(), reason };
        let manifest = match serde_json::from_slice::<Manifest>(&text) {
            Ok(manifest) if manifest.format_version == FORMAT_VERSION => manifest,
            // Another version may have another form, and then that is what is wrong.
            other => {
                #[derive(Deserialize)]
                struct Version {
                    format_version: u32,
                }
                let version: Version = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
                if version.format_version != FORMAT_VERSION {
                    let found = version.format_version;
                    return Err(bad(format!("it has format version {found}, known is {FORMAT_VERSION}")));
                }
                other.map_err(|error| bad(error.to_string()))?
            }
        };
        manifest.check().map_err(bad)?;
        Ok(manifest)
    }

    /// What the rest of the code relies on, of a file that anybody could have edited.
    fn check(&self) -> Result<(), String> {
        if self.zone_rows == 0 {
            return Err("zone_rows is 0".into());
        }
        if !self.partitions.is_sorted_by(|a, b| a.id.date < b.id.date) {
            return Err("its partitions are not sorted by date, each once".into());
        }
        let files = self.partitions.iter().map(|entry| &entry.file).chain(self.rejects.iter().map(|file| &file.file));
        let files = files.chain(self.counts.iter().map(|counts| &counts.file));
        for file in files {
            let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if !plain || file.starts_with('.') || file.is_empty() {
                return Err(format!("{file:?} is not the name of a file in the cache"));
            }
        }
        Ok(())
    }

    /// Makes this the cache's manifest, whole or not at all. Everything it names must have been synced before.
    pub(crate) fn commit(&self, cache: &Path) -> Result<(), Error> {
        let path = cache.join(FILE_NAME);
        let mut text = serde_json::to_vec_pretty(self).expect("a struct of plain values written to memory");
        text.push(b'\n');
        let commit = || {
            let mut file = AtomicWriteFile::open(&path)?;
            file.write_all(&text)?;
            file.commit()
        };
        commit().map_err(Error::io("write", &path))
    }

    /// The entry of a day.
    pub fn partition(&self, date: Date) -> Option<&PartitionEntry> {
        let index = self.partitions.binary_search_by_key(&date, |entry| entry.id.date).ok()?;
        Some(&self.partitions[index])
    }

    /// The entries of the days in the range.
    pub fn partitions(&self, range: DateRange) -> impl Iterator<Item = &PartitionEntry> {
        self.partitions.iter().filter(move |entry| range.contains(entry.id.date))
    }

    /// Whether the cache was made from the files that are there now, by name, size and modification time.
    /// [`Error::StaleCache`] names the first file, by date and path, that differs.
    pub fn check_fresh(&self, dataset: &Dataset, range: DateRange) -> Result<(), Error> {
        let known = self.partitions(range).flat_map(|entry| &entry.sources);
        let known =
            known.map(|entry| (entry.path.as_str(), (entry.bytes, entry.modified_ns))).collect::<BTreeMap<_, _>>();
        let found = dataset.dates(range).flat_map(|date| dataset.files(date));
        let found = found.map(|file| (file.path.as_str(), (file.bytes, file.modified_ns))).collect::<BTreeMap<_, _>>();
        let difference = |path: &str| match (known.get(path), found.get(path)) {
            (Some(_), None) => Some("is gone"),
            (None, Some(_)) => Some("is new"),
            (Some(known), Some(found)) if known.0 != found.0 => Some("has another size"),
            (Some(known), Some(found)) if known.1 != found.1 => Some("was modified"),
            _ => None,
        };
        let mut paths: Vec<&str> = known.keys().chain(found.keys()).copied().collect();
        paths.sort_unstable();
        match paths.into_iter().find_map(|path| Some((path, difference(path)?))) {
            Some((path, difference)) => Err(Error::StaleCache { path: path.to_owned(), difference }),
            None => Ok(()),
        }
    }

    /// Whether this is the name of a file of the cache.
    pub(crate) fn names(&self, file: &str) -> bool {
        self.partitions.iter().any(|entry| entry.file == file)
            || self.rejects.as_ref().is_some_and(|rejects| rejects.file == file)
            || self.counts.as_ref().is_some_and(|counts| counts.file == file)
    }

    /// Whether rows were rejected or files refused.
    pub fn holds_rejects(&self) -> bool {
        let sources = self.partitions.iter().flat_map(|entry| &entry.sources).chain(&self.refused);
        sources.into_iter().any(|source| source.rejected > 0 || source.refused.is_some())
    }
}
