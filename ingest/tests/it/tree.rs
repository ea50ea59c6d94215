//! Data sets made for a test, and the words the tests are told in.

use std::fs;
use std::path::{Path, PathBuf};

use overlay_ingest::generate::{GenerateOptions, generate};
use overlay_ingest::progress::Silent;
use overlay_ingest::run::{Outcome, RunOptions, run};
use overlay_ingest::{Cache, Dataset, Date, DateRange, Error, Layout};
use tempfile::TempDir;

/// Small zones, so that a small day has several.
pub const LAYOUT: Layout = Layout { zone_rows: 64 };

pub struct Tree {
    pub folder: TempDir,
}

impl Tree {
    /// An empty data set called `set`.
    pub fn empty() -> Tree {
        let tree = Tree { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(tree.root().join("data")).unwrap();
        tree
    }

    pub fn generated(days: u32, sites: u32) -> Tree {
        let tree = Tree { folder: tempfile::tempdir().unwrap() };
        let options = GenerateOptions { days, sites, ..GenerateOptions::default() };
        generate(&tree.root(), &options).unwrap();
        tree
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("set")
    }

    pub fn cache(&self) -> PathBuf {
        self.root().join(".overlay")
    }

    /// Writes `data/NAME`, with its folders.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join("data").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn dataset(&self) -> Dataset {
        Dataset::open(self.root()).unwrap()
    }

    pub fn options(&self) -> RunOptions {
        RunOptions { cache: self.cache(), range: DateRange::ALL, layout: LAYOUT, force: false }
    }

    pub fn try_run(&self, options: &RunOptions) -> Result<Outcome, Error> {
        run(&Dataset::open(self.root())?, options, &Silent)
    }

    pub fn run(&self) -> Outcome {
        self.try_run(&self.options()).unwrap()
    }

    /// Names in the cache's folder, without the lock.
    pub fn cache_files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.cache())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock")
            .collect();
        names.sort();
        names
    }

    pub fn rejects(&self) -> Vec<serde_json::Value> {
        match &Cache::open(self.cache()).unwrap().manifest().rejects {
            Some(file) => read_json_lines(&self.cache().join(&file.file)),
            None => Vec::new(),
        }
    }
}

pub fn read_json_lines(path: &Path) -> Vec<serde_json::Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn date(text: &str) -> Date {
    text.parse().unwrap()
}

pub fn range(from: &str, to: &str) -> DateRange {
    DateRange { from: date(from), to: date(to) }
}

/// A good row of 2020-08-10T01:00 for this site.
pub fn row(site: &str) -> String {
    format!(
        "\"41.7\",\"-124.2\",\"2020-08-10T01:00\",\"PM2.5\",\"17.3\",\"UG/M3\",\"18.0\",\"62\",\"2\",\"Site, {site}\",\
         \"Agency \",\"{site}\",\"{site}\"\n"
    )
}
