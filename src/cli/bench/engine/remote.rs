//! The workloads over the overlay: a real Leader, team leaders and workers in processes of their own, and the client
//! that users have, over TCP.
//!
//! The client is connected and the nodes have answered queries with other bounds before: what is measured is asking
//! and receiving, to the footer, which says that the answer is whole. The rows are then what users of the client get: every
//! column, each row with its value, texts as dictionaries.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tokio::runtime::Runtime;

use super::arguments::BenchPoint;
use super::configuration::{Shape, configuration};
use super::ingest::{Days, millis, tenths};
use super::report::Measured;
use super::warm::others;
use crate::cli::bench::folder::Folder;
use crate::cli::bench::nodes::Nodes;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::cells;
use crate::cli::target;
use crate::client::Client;
use crate::config::Config;
use crate::engine::filter::RangeFilter;
use crate::engine::session::Ask;
use crate::leader::answer::QuerySpec;
use crate::node::local::LocalOverlay;
use crate::node::os;

const DEADLINE: Duration = Duration::from_secs(60);

/// Nodes that run, and a client of theirs.
pub struct Remote {
    nodes: Nodes,
    client: Client,
    runtime: Runtime,
}

impl Remote {
    pub fn start(days: &Days, folder: &Folder) -> Result<Remote, CliError> {
        let runtime = target::runtime()?;
        let configuration = configuration(days, folder, Shape::OneHost);
        let nodes = runtime.block_on(Nodes::start(&configuration, folder.path()))?;
        // It connects on the runtime that it is made in.
        let client = runtime.block_on(async { Client::new(&nodes.leader) });
        Ok(Remote { nodes, client, runtime })
    }

    /// Every row of the range, every column.
    pub fn rows(&self, range: &RangeFilter) -> Result<Measured, CliError> {
        for other in others(range) {
            self.ask(Ask::Range(other))?;
        }
        let (measured, batches) = self.measure(Ask::Range(range.clone()))?;
        Ok(Measured { tenths: Some(batches.iter().map(tenths).sum()), ..measured })
    }

    /// One row by site, parameter and hour.
    pub fn point(&self, point: &BenchPoint) -> Result<Measured, CliError> {
        let at = |hour: &str| {
            let [site, parameter] = [&point.site, &point.parameter].map(|text| text.replace('\'', "''"));
            let utc = hour.replace('\'', "''");
            Ask::Sql(format!(
                "SELECT * FROM observations WHERE full_aqs_id = '{site}' AND parameter = '{parameter}' AND utc = '{utc}'"
            ))
        };
        for hour in ["2020-09-01T05:00:00", "2020-09-02T06:00:00", "2020-08-16T07:00:00"] {
            self.ask(at(hour))?;
        }
        Ok(self.measure(at(&point.utc))?.0)
    }

    /// What asking took, in time and on the cores, and what came.
    fn measure(&self, ask: Ask) -> Result<(Measured, Vec<RecordBatch>), CliError> {
        let cpu = || (self.nodes.threads_cpu_time(), os::threads_cpu_time(std::process::id()));
        let (nodes_before, client_before) = cpu();
        let start = Instant::now();
        let batches = self.ask(ask)?;
        let ms = millis(start);
        let (nodes_after, client_after) = cpu();
        let took = |before: Option<Duration>, after: Option<Duration>| {
            Some((after?.saturating_sub(before?)).as_secs_f64() * 1e3)
        };
        let measured = Measured {
            ms,
            rows: batches.iter().map(|batch| batch.num_rows() as u64).sum(),
            nodes_cpu_ms: took(nodes_before, nodes_after),
            client_cpu_ms: took(client_before, client_after),
            ..Measured::default()
        };
        Ok((measured, batches))
    }

    /// Ends the nodes.
    pub fn end(self) -> Result<(), CliError> {
        drop(self.nodes);
        Ok(())
    }

    fn ask(&self, ask: Ask) -> Result<Vec<RecordBatch>, CliError> {
        let client = &self.client;
        let spec = QuerySpec { time_left: Some(DEADLINE), cancel_on_disconnect: true, ..QuerySpec::of(ask) };
        self.runtime.block_on(async {
            let shown = |failure| CliError::from_failure(&failure, client.address());
            let mut answer = client.open(spec).await.map_err(shown)?;
            let mut batches = Vec::new();
            while let Some(batch) = answer.next().await {
                batches.push(batch.map_err(shown)?);
            }
            match answer.footer() {
                Some(_) => Ok(batches),
                None => Err(CliError::new(Exit::FAILED, "an answer came without its footer")),
            }
        })
    }
}

/// A row that exists, for a run that names none.
pub fn some_point(config: &Config) -> Result<BenchPoint, CliError> {
    let local = LocalOverlay::open(config).map_err(|error| CliError::of(Exit::FAILED, &error))?;
    let columns = ["full_aqs_id", "parameter", "utc"].map(str::to_owned).to_vec();
    let ask = Ask::Range(RangeFilter { columns, ..RangeFilter::default() });
    let mut found = None;
    let answered = local.answer(&ask, Some(1), DEADLINE, |_, batch| {
        found = found.take().or(batch);
        Ok(())
    });
    target::runtime()?.block_on(answered).map_err(|failure| CliError::from_failure(&failure, "this process"))?;
    let none = || CliError::new(Exit::FAILED, "the data set has no row");
    let batch = found.filter(|batch| batch.num_rows() > 0).ok_or_else(none)?;
    let shown = |error| CliError::caused(Exit::FAILED, "a point cannot be named", &error);
    let mut row = cells(&batch).map_err(shown)?.into_iter().flatten();
    match (row.next(), row.next(), row.next()) {
        (Some(site), Some(parameter), Some(utc)) => Ok(BenchPoint { site, parameter, utc }),
        _ => Err(none()),
    }
}
