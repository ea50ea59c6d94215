//! A generated data set in a temporary folder, and the queries that are put to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use overlay_ingest::generate::{GenerateOptions, generate};
use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::{Dataset, DateRange, Layout};

use super::measures::{SCAN, SMALL};
use crate::cli::bench::load::request::Question;
use crate::cli::error::{CliError, Exit};
use crate::engine::filter::RangeFilter;
use crate::engine::session::Ask;

/// The first day and the number of days: those of the shipped configurations.
const FIRST_DAY: &str = "20200810";
const DAYS: u32 = 46;

/// A folder that is removed when this goes.
pub struct Place {
    path: PathBuf,
}

impl Place {
    /// A new folder among the system's temporary ones.
    pub fn new() -> Result<Place, CliError> {
        let path = std::env::temp_dir().join(format!("overlay-fairness-{}", std::process::id()));
        // `create_dir` refuses what is there already, also a link that somebody laid there.
        fs::create_dir(&path).map_err(|error| {
            CliError::caused(Exit::FAILED, format!("the folder {} cannot be made", path.display()), &error)
        })?;
        Ok(Place { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the CSV files are. A data set is called like its folder.
    pub fn data_set(&self) -> PathBuf {
        self.path.join("generated")
    }

    /// Where the Parquet files are.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which clears its temporary folders.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Makes the data set and its cache. Gives the number of rows.
pub fn make(place: &Place, sites: u32, seed: u64) -> Result<u64, CliError> {
    let failed = |error: &dyn std::error::Error| CliError::caused(Exit::FAILED, "no data could be generated", error);
    let from = FIRST_DAY.parse().map_err(|_| CliError::new(Exit::FAILED, "the first day is no date"))?;
    let options = GenerateOptions { days: DAYS, sites, seed, from };
    let made = generate(&place.data_set(), &options).map_err(|error| failed(&error))?;
    let dataset = Dataset::open(place.data_set()).map_err(|error| failed(&error))?;
    let options = RunOptions { cache: place.cache(), range: DateRange::ALL, layout: Layout::default(), force: false };
    run(&dataset, &options, &Silent).map_err(|error| failed(&error))?;
    Ok(made.rows)
}

/// A range scan of a whole parameter.
pub fn scan(parameter: &str) -> Question {
    let filter = RangeFilter { parameter: Some(parameter.to_owned()), ..RangeFilter::default() };
    question(SCAN, Ask::Range(filter))
}

/// Everything there is.
pub fn giant() -> Question {
    question("giant", Ask::Range(RangeFilter::default()))
}

/// The readings of one site, parameter and hour: one row at the most.
pub fn point(site: &str, parameter: &str, utc: &str) -> Question {
    let [site, parameter, utc] = [site, parameter, utc].map(|text| text.replace('\'', "''"));
    let sql = format!(
        "SELECT * FROM observations WHERE full_aqs_id = '{site}' AND parameter = '{parameter}' AND utc = '{utc}'"
    );
    question(SMALL, Ask::Sql(sql))
}

fn question(name: &str, ask: Ask) -> Question {
    Question { name: Arc::from(name), ask, limit: None, allow_partial: false, expected: None }
}
