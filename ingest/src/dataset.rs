//! The tree of a data set: which files belong to which day, which are refused, which are ignored.
//!
//! `ROOT/data/YYYYMMDD/YYYYMMDD-HH.csv` is read; nothing else is. A CSV file in a folder that is no real date, and a
//! symbolic link that leads out of the root, are *refused*: they look like data and are not taken. Whatever else lies
//! under `data/` is *ignored*: listed and counted. What is in the files is not looked at here.
//!
//! Invariant: the walk ends, reads nothing outside the root, and tells of every file under `data/` once.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::date::{Date, DateRange};
use crate::error::Error;

/// Why a file that looks like data was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Gzip bytes under a `.csv` name.
    Gzip,
    /// The folder's name is not a real date.
    BadDirectoryName,
    /// A symbolic link, of a file or a folder, to something outside the data set's folder, or to nothing.
    SymlinkOutside,
}

impl Refusal {
    /// As it is written in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Gzip => "gzip",
            Refusal::BadDirectoryName => "bad_directory_name",
            Refusal::SymlinkOutside => "symlink_outside",
        }
    }
}

/// A CSV file, or something refused in its place, as the walk saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path below the data set's folder, with `/` on every system: `data/20200810/20200810-01.csv`.
    pub path: String,
    pub bytes: u64,
    /// Modification time in nanoseconds of Unix time; 0 where the file system has none.
    pub modified_ns: i64,
    pub refused: Option<Refusal>,
}

/// A data set's folder, walked once.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The folder's name unless [`Dataset::named`] otherwise; part of every partition's id.
    pub name: String,
    /// The folder as it was given.
    pub root: PathBuf,
    days: BTreeMap<Date, Vec<SourceFile>>,
    refused: Vec<SourceFile>,
    ignored: Vec<String>,
}

impl Dataset {
    /// Walks the tree. Refused by name: a folder that does not exist, has no `data/`, or holds no CSV.
    pub fn open(root: impl Into<PathBuf>) -> Result<Dataset, Error> {
        let root = root.into();
        let real_root = match root.canonicalize() {
            Ok(path) if path.is_dir() => path,
            Ok(_) => return Err(Error::NotAFolder(root)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::NoSuchFolder(root)),
            Err(source) => return Err(Error::Io { action: "open", path: root, source }),
        };
        let data = root.join("data");
        if !data.is_dir() {
            return Err(Error::NoDataFolder(root));
        }
        let mut walk = Walk { real_root: &real_root, days: BTreeMap::new(), refused: Vec::new(), ignored: Vec::new() };
        if walk.leads_outside(&data) {
            walk.refused.push(refused_link("data".into(), &data)?);
        } else {
            walk.data_folder(&data)?;
        }
        let Walk { days, refused, ignored, .. } = walk;
        let has_csv = days.values().any(|files| !files.is_empty()) || !refused.is_empty();
        if !has_csv {
            return Err(Error::NoCsv { root, ignored: ignored.len() });
        }
        Ok(Dataset { name: folder_name(&root, &real_root), root, days, refused, ignored })
    }

    /// The same under another name: partitions are named after the data set, which must have one name on every host,
    /// while its folder may be called anything.
    pub fn named(mut self, name: &str) -> Dataset {
        self.name = name.to_owned();
        self
    }

    /// The days in the range that have a file, in order.
    pub fn dates(&self, range: DateRange) -> impl Iterator<Item = Date> {
        self.days.keys().copied().filter(move |&date| range.contains(date))
    }

    /// The files of a day, sorted by path; empty if there is no such day.
    pub fn files(&self, date: Date) -> &[SourceFile] {
        self.days.get(&date).map_or(&[], Vec::as_slice)
    }

    /// Bytes of a day's files that will be read.
    pub fn csv_bytes(&self, date: Date) -> u64 {
        self.files(date).iter().filter(|file| file.refused.is_none()).map(|file| file.bytes).sum()
    }

    /// Refused files that belong to no day, sorted by path.
    pub fn undated_refused(&self) -> &[SourceFile] {
        &self.refused
    }

    /// Paths below the data set's folder of files under `data/` that are no CSV of a day, sorted.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

/// The last name of the path as given, so that a link `2020-fire -> /mnt/disk7` keeps its name; of the real folder if
/// the path ends in `..`.
fn folder_name(root: &Path, real_root: &Path) -> String {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| real_root.to_owned());
    let name = absolute.file_name().or(real_root.file_name()).unwrap_or("dataset".as_ref());
    name.to_string_lossy().into_owned()
}

struct Walk<'a> {
    real_root: &'a Path,
    days: BTreeMap<Date, Vec<SourceFile>>,
    refused: Vec<SourceFile>,
    ignored: Vec<String>,
}

impl Walk<'_> {
    fn data_folder(&mut self, data: &Path) -> Result<(), Error> {
        for (name, entry) in sorted_entries(data)? {
            let path = entry.path();
            let below = format!("data/{name}");
            let date = name.parse::<Date>().ok();
            if is_link(&entry) && self.leads_outside(&path) {
                match date {
                    Some(date) => self.days.entry(date).or_default().push(refused_link(below, &path)?),
                    None => self.refused.push(refused_link(below, &path)?),
                }
            } else if !path.is_dir() {
                self.ignored.push(below);
            } else if let Some(date) = date {
                self.day_folder(&path, &below, date)?;
            } else {
                self.strange_folder(&path, &below, Some(Refusal::BadDirectoryName))?;
            }
        }
        Ok(())
    }

    fn day_folder(&mut self, folder: &Path, below: &str, date: Date) -> Result<(), Error> {
        for (name, entry) in sorted_entries(folder)? {
            let path = entry.path();
            let below = format!("{below}/{name}");
            let named = is_hourly_name(&name, date);
            if named && is_link(&entry) && self.leads_outside(&path) {
                self.days.entry(date).or_default().push(refused_link(below, &path)?);
                continue;
            }
            // Follows links, which lead inside from here on; a folder or a pipe of the right name is no file.
            match fs::metadata(&path) {
                Ok(metadata) if named && metadata.is_file() => {
                    self.days.entry(date).or_default().push(source_file(below, &metadata, None));
                }
                Ok(metadata) if metadata.is_dir() && !is_link(&entry) => self.strange_folder(&path, &below, None)?,
                Err(source) if named => return Err(Error::Io { action: "look at", path, source }),
                _ => self.ignored.push(below),
            }
        }
        Ok(())
    }

    /// A folder that is no day's: its CSV files are refused, if so told, and the others ignored, at any depth. Links
    /// are not followed, so the walk ends.
    fn strange_folder(&mut self, folder: &Path, below: &str, refusal: Option<Refusal>) -> Result<(), Error> {
        let mut open = vec![(folder.to_owned(), below.to_owned())];
        while let Some((folder, below)) = open.pop() {
            for (name, entry) in sorted_entries(&folder)? {
                let path = entry.path();
                let below = format!("{below}/{name}");
                let metadata = fs::symlink_metadata(&path).map_err(Error::io("look at", &path))?;
                let is_csv = Path::new(&name).extension().is_some_and(|end| end.eq_ignore_ascii_case("csv"));
                if metadata.is_dir() {
                    open.push((path, below));
                } else if is_csv && refusal.is_some() {
                    self.refused.push(source_file(below, &metadata, refusal));
                } else {
                    self.ignored.push(below);
                }
            }
        }
        Ok(())
    }

    fn leads_outside(&self, link: &Path) -> bool {
        !link.canonicalize().is_ok_and(|target| target.starts_with(self.real_root))
    }
}

fn is_link(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_symlink())
}

fn refused_link(below: String, link: &Path) -> Result<SourceFile, Error> {
    let metadata = fs::symlink_metadata(link).map_err(Error::io("look at", link))?;
    Ok(source_file(below, &metadata, Some(Refusal::SymlinkOutside)))
}

fn source_file(path: String, metadata: &Metadata, refused: Option<Refusal>) -> SourceFile {
    let modified_ns = metadata.modified().ok().map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    });
    SourceFile { path, bytes: metadata.len(), modified_ns, refused }
}

fn is_hourly_name(name: &str, date: Date) -> bool {
    let hour = name.strip_prefix(&date.to_string()).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".csv"));
    hour.is_some_and(|hour| hour.len() == 2 && hour.bytes().all(|b| b.is_ascii_digit()) && hour < "24")
}

/// Names that are not UTF-8 are shown with replacement characters; they can never be a day or an hour.
fn sorted_entries(folder: &Path) -> Result<Vec<(String, DirEntry)>, Error> {
    let read = Error::io("list", folder);
    let entries: std::io::Result<Vec<DirEntry>> = fs::read_dir(folder).and_then(Iterator::collect);
    let mut named: Vec<(String, DirEntry)> =
        entries.map_err(read)?.into_iter().map(|entry| (entry.file_name().to_string_lossy().into(), entry)).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(named)
}
