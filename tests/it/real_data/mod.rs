//! The real data set, ingested once, asked through every kind of overlay, and compared with known answers.
//!
//! Every test here is ignored by default and fails, rather than skips, where the data set or the oracle is missing. One
//! test at a time has the machine: six processes that hold a million rows are enough for it.

mod answers;
mod combinations;
mod faults;
mod load;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::{Dataset, DateRange, Layout, Manifest};
use serde_json::{Value, json};

use crate::csv_text::{self, CONCENTRATION, PARAMETER, concentration};
use crate::program::{Place, project};

/// What every test asks: the classic query, and how many rows it has.
pub const CLASSIC: [&str; 4] = ["query", "PM2.5", "5", "35"];
pub const CLASSIC_ROWS: usize = 225_521;

/// The machine, for one test; and the data set, ingested.
pub struct Real {
    _alone: MutexGuard<'static, ()>,
    pub manifest: &'static Manifest,
}

/// Waits for the other tests. Ingests when the first one comes.
pub fn real() -> Real {
    static ALONE: Mutex<()> = Mutex::new(());
    static MANIFEST: OnceLock<Manifest> = OnceLock::new();
    // A test that failed has ended its processes all the same.
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let manifest = MANIFEST.get_or_init(|| {
        let dataset = Dataset::open(data_set()).unwrap_or_else(|error| panic!("the real data set is needed: {error}"));
        let options = RunOptions { cache: cache(), range: DateRange::ALL, layout: Layout::default(), force: false };
        run(&dataset, &options, &Silent).unwrap().manifest
    });
    Real { _alone: alone, manifest }
}

impl Real {
    /// A place with a shipped configuration, free ports and the real data.
    pub fn place(&self, shipped: &str) -> Place {
        self.place_and(shipped, |_| ())
    }

    /// The same, changed.
    pub fn place_and(&self, shipped: &str, change: impl FnOnce(&mut Value)) -> Place {
        Place::with(shipped, |config| {
            config["dataset"]["root"] = json!(data_set());
            config["dataset"]["cache"] = json!(cache());
            change(config);
        })
    }
}

pub fn data_set() -> PathBuf {
    project().join("datasets/2020-fire")
}

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("2020-fire-cache")
}

/// A file of the oracle, beside the project or where OVERLAY_SHARED says.
pub fn oracle(name: &str) -> PathBuf {
    let shared = std::env::var_os("OVERLAY_SHARED").map_or_else(|| project().join("../shared"), PathBuf::from);
    let path = shared.join("oracle").join(name);
    assert!(path.exists(), "the oracle is needed: {} does not exist; OVERLAY_SHARED names its folder", path.display());
    path
}

/// The rows of the classic query, from the text of the files.
pub fn classic() -> &'static [String] {
    static ROWS: OnceLock<Vec<String>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let rows = csv_text::select(&data_set(), is_classic);
        assert_eq!(rows.len(), CLASSIC_ROWS, "the oracle of this test");
        rows
    })
}

/// Whether a row in normal form is of the classic query.
pub fn is_classic(row: &[String]) -> bool {
    // Most rows are of other parameters, and not every cell is worth a number.
    row[PARAMETER] == "PM2.5"
        && !row[CONCENTRATION].is_empty()
        && concentration(row).is_some_and(|value| (5.0..=35.0).contains(&value))
}
