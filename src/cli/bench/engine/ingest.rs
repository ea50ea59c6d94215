//! The workloads that read CSV: all files of the data set, on all cores.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::schema::Layout;
use overlay_ingest::{Dataset, Date, DateRange, parse_date, progress};
use rayon::prelude::*;

use super::report::Measured;
use crate::cli::error::{CliError, Exit};
use crate::engine::store::{HeldPartition, Store};

/// The data set of a run.
pub struct Days {
    /// Absolute, because nodes run in another folder.
    pub root: PathBuf,
    pub name: String,
    /// Ascending; at least one.
    pub dates: Vec<Date>,
}

impl Days {
    pub fn open(root: &Path) -> Result<Days, CliError> {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let dataset = open(&root)?;
        let dates: Vec<Date> = dataset.dates(DateRange::ALL).collect();
        if dates.is_empty() {
            return Err(CliError::new(Exit::USAGE, format!("{} has no day with CSV files", root.display())));
        }
        Ok(Days { root, name: dataset.name, dates })
    }
}

fn open(root: &Path) -> Result<Dataset, CliError> {
    Dataset::open(root).map_err(|error| data_error(&error))
}

/// An error of the data set, with its hint.
pub fn data_error(error: &overlay_ingest::Error) -> CliError {
    let shown = CliError::of(Exit::FAILED, error);
    match error.hint() {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}

/// All CSV files to what a node without a cache would hold: typed columns in order, cut into zones, with zone maps.
pub fn csv_to_memory(days: &Days) -> Result<Measured, CliError> {
    let start = Instant::now();
    let dataset = open(&days.root)?;
    let mut largest_first: Vec<Date> = dataset.dates(DateRange::ALL).collect();
    largest_first.sort_by_key(|date| Reverse(dataset.csv_bytes(*date)));
    // Each task takes the next day, so that no thread is left with a large one at the end.
    let next = AtomicUsize::new(0);
    let store = Store::default();
    let parsed = largest_first.par_iter().with_max_len(1).try_for_each(|_| {
        let date = largest_first[next.fetch_add(1, Ordering::Relaxed)];
        store.insert(HeldPartition::new(&parse_date(&dataset, date, Layout::default())?.partition));
        Ok(())
    });
    parsed.map_err(|error| data_error(&error))?;
    let ms = millis(start);
    let held = store.ids().into_iter().filter_map(|id| store.get(&id));
    let tenths = held.flat_map(|held| held.zones.iter().map(|zone| tenths(&zone.batch())).collect::<Vec<_>>()).sum();
    Ok(Measured { ms, rows: store.rows(), tenths: Some(tenths), ..Measured::default() })
}

/// All CSV files to the Parquet cache, every file and the folder synced, the manifest committed.
pub fn csv_to_parquet(days: &Days, cache: &Path) -> Result<Measured, CliError> {
    let start = Instant::now();
    let dataset = open(&days.root)?;
    let options = RunOptions { cache: cache.to_owned(), range: DateRange::ALL, layout: Layout::default(), force: true };
    let outcome = run(&dataset, &options, &progress::Silent).map_err(|error| data_error(&error))?;
    let ms = millis(start);
    let rows = outcome.manifest.partitions.iter().map(|entry| entry.rows).sum();
    Ok(Measured { ms, rows, path: Some(cache.to_owned()), ..Measured::default() })
}

/// Milliseconds since then.
pub fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The sum of concentration times 10, each rounded; 0 for rows without that column.
pub fn tenths(batch: &RecordBatch) -> i64 {
    let column = batch.column_by_name("concentration").and_then(|column| column.as_primitive_opt::<Float64Type>());
    column.map_or(0, |column| column.iter().flatten().map(|value| (value * 10.0).round() as i64).sum())
}
