//! `overlay-ingest`: arguments in, one run, a receipt out.
//!
//! Exit codes: 0 done; 1 failed, nothing committed; 2 usage or configuration; 3 done, but the cache holds rejected
//! rows or refused files.

mod arguments;
mod config;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use overlay_ingest::generate::generate_with;
use overlay_ingest::progress::Bar;
use overlay_ingest::receipt::Receipt;
use overlay_ingest::run::run;
use overlay_ingest::{Dataset, Error};

use crate::arguments::{Arguments, Command, Job};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const REJECTS: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command() {
        Ok(Command::Generate { dir, options }) => generate_with(&dir, &options, &Bar::new()).map(|made| {
            let megabytes = made.bytes as f64 / 1e6;
            print(&format!("{} files, {} rows, {megabytes:.1} MB in {}\n", made.files, made.rows, dir.display()));
            ExitCode::SUCCESS
        }),
        Ok(Command::Ingest(job)) => ingest(&job),
        Err(error) => {
            report(&error, Some("overlay-ingest --help"));
            return ExitCode::from(USAGE);
        }
    };
    outcome.unwrap_or_else(|error| {
        report(&error, error.hint());
        ExitCode::from(FAILED)
    })
}

fn ingest(job: &Job) -> Result<ExitCode, Error> {
    let start = Instant::now();
    let mut dataset = Dataset::open(&job.dataset)?;
    if let Some(name) = &job.name {
        dataset = dataset.named(name);
    }
    // A pool that cannot be built is one that exists already: nobody before us could have made it.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(job.threads).build_global();
    let outcome = run(&dataset, &job.options, &Bar::new())?;
    let seconds = start.elapsed().as_secs_f64();
    let receipt = Receipt::of(&dataset, &job.options.cache, &outcome, job.options.range, &job.teams, seconds);
    if job.json {
        let json = serde_json::to_string_pretty(&receipt).expect("a struct of plain values with text keys");
        print(&format!("{json}\n"));
    } else {
        print(&receipt.to_string());
    }
    Ok(if outcome.manifest.holds_rejects() { ExitCode::from(REJECTS) } else { ExitCode::SUCCESS })
}

/// To stdout. A reader that has seen enough is no failure; a full disk is told of, though the cache is committed.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => eprintln!("error: cannot write to stdout: {error}"),
        _ => {}
    }
}

fn report(error: &dyn std::error::Error, hint: Option<&str>) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("caused by: {error}");
        cause = error.source();
    }
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}
