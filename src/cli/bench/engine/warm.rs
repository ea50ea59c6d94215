//! The workloads over data in memory, in this process: SQL in, a count or its rows out; a range in, rows in plain types
//! out.
//!
//! Before each measured query one with other bounds runs, so that allocators and code are warm, as the other engines
//! are after their first round. No answer is kept between queries, so nothing of it is found again; of the statements of
//! warm_sql, which are asked as they are, the plan is.

use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use tokio::runtime::Runtime;

use super::ingest::{millis, tenths};
use super::report::Measured;
use crate::cli::error::{CliError, Exit};
use crate::cli::target;
use crate::config::Config;
use crate::engine::filter::RangeFilter;
use crate::engine::message::ScanPath;
use crate::engine::session::Ask;
use crate::failure::Failure;
use crate::node::local::{LocalOverlay, Way};

const DEADLINE: Duration = Duration::from_secs(60);

/// The data set in this process.
pub struct Loaded {
    local: LocalOverlay,
    table: String,
    runtime: Runtime,
}

impl Loaded {
    pub fn open(config: &Config) -> Result<Loaded, CliError> {
        let local = LocalOverlay::open(config).map_err(|error| CliError::of(Exit::FAILED, &error))?;
        Ok(Loaded { local, table: config.dataset.table.clone(), runtime: target::runtime()? })
    }

    /// SQL to a number; without `index`, every zone that its zone map does not rule out is scanned.
    pub fn count(&self, range: &RangeFilter, index: bool) -> Result<Measured, CliError> {
        let scan_path = if index { ScanPath::Any } else { ScanPath::NoIndex };
        let way = Way { scan_path, ..Way::default() };
        let ask = |range: &RangeFilter| Ask::Sql(count_sql(&self.table, range));
        let count = |ask: &Ask| -> Result<u64, CliError> {
            let batches = self.ask(ask, way)?;
            let counted = batches.first().and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>());
            let counted = counted.filter(|counted| counted.len() == 1).map(|counted| counted.value(0));
            let counted = counted.and_then(|counted| u64::try_from(counted).ok());
            counted.ok_or_else(|| CliError::new(Exit::FAILED, "a count came without a number"))
        };
        for other in others(range) {
            count(&ask(&other))?;
        }
        let ask = ask(range);
        let start = Instant::now();
        let rows = count(&ask)?;
        Ok(Measured { ms: millis(start), rows, ..Measured::default() })
    }

    /// Every column of the matching rows, texts spelled out.
    pub fn rows(&self, range: &RangeFilter) -> Result<Measured, CliError> {
        let rows = |range: &RangeFilter| -> Result<Vec<RecordBatch>, CliError> {
            self.ask(&Ask::Range(range.clone()), Way { plain_texts: true, ..Way::default() })
        };
        for other in others(range) {
            rows(&other)?;
        }
        let start = Instant::now();
        let batches = rows(range)?;
        let ms = millis(start);
        Ok(Measured {
            ms,
            rows: batches.iter().map(|batch| batch.num_rows() as u64).sum(),
            tenths: Some(batches.iter().map(tenths).sum()),
            ..Measured::default()
        })
    }

    /// A statement to its rows. It runs twice before, which is also what it takes to find its plan again.
    pub fn sql(&self, sql: &str) -> Result<Measured, CliError> {
        let ask = Ask::Sql(sql.to_owned());
        for _ in 0..2 {
            self.ask(&ask, Way::default())?;
        }
        let start = Instant::now();
        let batches = self.ask(&ask, Way::default())?;
        let (ms, rows) = (millis(start), batches.iter().map(|batch| batch.num_rows() as u64).sum());
        Ok(Measured { ms, rows, ..Measured::default() })
    }

    fn ask(&self, ask: &Ask, way: Way) -> Result<Vec<RecordBatch>, CliError> {
        let mut batches = Vec::new();
        let answered = self.local.answer_by(way, ask, None, DEADLINE, |_, batch| {
            batches.extend(batch);
            Ok::<(), Failure>(())
        });
        match self.runtime.block_on(answered) {
            Ok(_) => Ok(batches),
            Err(failure) => Err(CliError::from_failure(&failure, "this process")),
        }
    }
}

/// Ranges of the same parameter with other bounds.
pub fn others(range: &RangeFilter) -> Vec<RangeFilter> {
    let moved = |by: f64| RangeFilter {
        min: range.min.map(|min| min + by),
        max: range.max.map(|max| max + 3.0 * by),
        ..range.clone()
    };
    vec![moved(1.0), moved(0.5), moved(0.3)]
}

/// The statement that the other engines are asked as well.
fn count_sql(table: &str, range: &RangeFilter) -> String {
    let parameter = range.parameter.as_deref().unwrap_or_default().replace('\'', "''");
    let (min, max) = (range.min.unwrap_or(f64::MIN), range.max.unwrap_or(f64::MAX));
    format!("SELECT count(*) FROM {table} WHERE parameter = '{parameter}' AND concentration BETWEEN {min} AND {max}")
}
