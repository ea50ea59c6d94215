//! A generated data set in a temporary folder, and the queries that are put to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use overlay_ingest::generate::{GenerateOptions, generate};
use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::{Dataset, DateRange, Layout};

use super::measures::{SCAN, SMALL};
use crate::cli::bench::folder::Folder;
use crate::cli::bench::load::request::Question;
use crate::cli::error::{CliError, Exit};
use crate::engine::filter::RangeFilter;
use crate::engine::session::Ask;

/// The first day and the number of days: those of the shipped configurations.
const FIRST_DAY: &str = "20200810";
const DAYS: u32 = 46;

/// The data set and its cache, in a folder that goes when this does.
pub struct GeneratedData {
    folder: Folder,
    pub rows: u64,
}

impl GeneratedData {
    /// Makes both.
    pub fn make(sites: u32, seed: u64) -> Result<GeneratedData, CliError> {
        let failed =
            |error: &dyn std::error::Error| CliError::caused(Exit::FAILED, "no data could be generated", error);
        let from = FIRST_DAY.parse().map_err(|_| CliError::new(Exit::FAILED, "the first day is no date"))?;
        let options = GenerateOptions { days: DAYS, sites, seed, from };
        let mut data = GeneratedData { folder: Folder::make(false)?, rows: 0 };
        data.rows = generate(&data.root(), &options).map_err(|error| failed(&error))?.rows;
        let dataset = Dataset::open(data.root()).map_err(|error| failed(&error))?;
        let options =
            RunOptions { cache: data.cache(), range: DateRange::ALL, layout: Layout::default(), force: false };
        run(&dataset, &options, &Silent).map_err(|error| failed(&error))?;
        Ok(data)
    }

    /// Where everything of the run may go.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the CSV files are. A data set is called like its folder.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("generated")
    }

    /// Where the Parquet files are.
    pub fn cache(&self) -> PathBuf {
        self.folder.cache()
    }
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
