//! `cold_count`: a fresh process opens the cache on disk and counts the rows of a range.
//!
//! The child measures itself, from before it opens the first file to its answer: what the system needs to start a
//! process is no part of it, as it is no part of the other engines' figures.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::arguments::{BenchRange, ColdCountArgs};
use super::ingest::{data_error, millis};
use super::report::Measured;
use crate::cli::error::{CliError, Exit};
use crate::engine::cold::count_in_cache;

/// Starts the child and takes over what it measured.
pub fn count(cache: &Path, range: &BenchRange) -> Result<Measured, CliError> {
    let failed = |error: &std::io::Error| CliError::caused(Exit::FAILED, "the process of cold_count", error);
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.args(["bench", "cold-count", "--cache"]).arg(cache).arg("--range").arg(range.to_string());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| failed(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut next = || words.next();
    let (ms, rows) = (next().and_then(|ms| ms.parse().ok()), next().and_then(|rows| rows.parse().ok()));
    match (output.status.success(), ms, rows) {
        (true, Some(ms), Some(rows)) => Ok(Measured { ms, rows, ..Measured::default() }),
        _ => Err(CliError::new(Exit::FAILED, format!("the process of cold_count ended with {}", output.status))),
    }
}

/// The child: prints milliseconds and rows.
pub fn child(arguments: &ColdCountArgs) -> Result<Exit, CliError> {
    let start = Instant::now();
    let rows = count_in_cache(&arguments.cache, &arguments.range.filter()).map_err(|error| data_error(&error))?;
    println!("{} {rows}", millis(start));
    Ok(Exit::OK)
}
