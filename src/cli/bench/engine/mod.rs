//! `overlay bench engine`: measures this program on this machine.
//!
//! It runs each workload once, on the data set, range, point and statements that it is given, and tells milliseconds
//! and what was answered, so that a script can check the answers and put other engines beside it (see
//! `benches/peers.py`). It decides what is measured and what is not; the workloads themselves run the code that nodes
//! and clients run.
//!
//! Invariant: every process and folder that a run makes is gone when it ends, but for the Parquet files of a run with
//! `--json`, whose reader wants to look at them: those the next run removes.

mod arguments;
pub mod cold;
mod configuration;
mod ingest;
mod memory;
mod remote;
mod report;
mod warm;

use super::folder::Folder;
use crate::cli::error::{CliError, Exit};
use crate::config::Config;
use configuration::{Shape, configuration};
use ingest::Days;
use report::Report;

pub use arguments::{BenchEngineArgs, ColdCountArgs};

/// The workloads, in an order in which each finds what it needs.
pub fn run(arguments: &BenchEngineArgs) -> Result<Exit, CliError> {
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    if let Some(unknown) = arguments.only.iter().find(|name| !report::WORKLOADS.contains(&name.as_str())) {
        return Err(CliError::new(Exit::USAGE, format!("there is no workload {unknown:?}"))
            .hint(format!("there are {}", report::WORKLOADS.join(", "))));
    }
    let days = Days::open(&arguments.dataset)?;
    let folder = Folder::make(arguments.json)?;
    let range = arguments.range.filter();
    let mut report = Report::default();

    if wanted("csv_to_memory") {
        report.add("csv_to_memory", ingest::csv_to_memory(&days)?);
    }
    // The workloads below read what this one writes.
    let written = ingest::csv_to_parquet(&days, &folder.cache())?;
    report.add_if(wanted("csv_to_parquet"), "csv_to_parquet", written);
    if wanted("cold_count") {
        report.add("cold_count", cold::count(&folder.cache(), &arguments.range)?);
    }

    let text = configuration(&days, &folder, Shape::OneHost).to_string();
    let config = Config::parse(&text, "the bench").map_err(|error| CliError::of(Exit::FAILED, &error))?;
    if ["warm_count", "warm_count_scan", "warm_rows", "warm_sql"].iter().any(|name| wanted(name)) {
        let loaded = warm::Loaded::open(&config)?;
        for (name, index) in [("warm_count", true), ("warm_count_scan", false)] {
            if wanted(name) {
                report.add(name, loaded.count(&range, index)?);
            }
        }
        if wanted("warm_rows") {
            report.add("warm_rows", loaded.rows(&range)?);
        }
        if wanted("warm_sql") {
            report.warm_sql = arguments.sql.iter().map(|sql| loaded.sql(sql)).collect::<Result<Vec<_>, _>>()?;
        }
    }
    if wanted("remote_rows") || wanted("remote_point") {
        let point = match &arguments.point {
            Some(point) => point.clone(),
            None => remote::some_point(&config)?,
        };
        let runner = remote::Remote::start(&days, &folder)?;
        if wanted("remote_rows") {
            report.add("remote_rows", runner.rows(&range)?);
        }
        if wanted("remote_point") {
            report.add("remote_point", runner.point(&point)?);
        }
        runner.end()?;
    }
    if wanted("resident_bytes_per_row") {
        report.resident_bytes_per_row = memory::bytes_per_row(&days, &folder)?;
    }
    report.print(arguments)?;
    Ok(Exit::OK)
}
