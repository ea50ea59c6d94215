//! What a run of workloads prints: a table for people, one JSON object for a script.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use super::arguments::BenchEngineArgs;
use crate::cli::error::{CliError, Exit};
use crate::cli::table::{TextTable, grouped};

/// Every workload, in the order in which they run.
pub const WORKLOADS: [&str; 10] = [
    "csv_to_memory",
    "csv_to_parquet",
    "cold_count",
    "warm_count",
    "warm_count_scan",
    "warm_rows",
    "warm_sql",
    "remote_rows",
    "remote_point",
    "resident_bytes_per_row",
];

/// What one workload took and answered.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measured {
    /// Milliseconds.
    pub ms: f64,
    pub rows: u64,
    /// Sum of the concentrations times 10, each rounded: tells whether they are the right rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenths: Option<i64>,
    /// The folder of the Parquet files that were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Milliseconds of a core that all nodes together took meanwhile, where they take part and the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes_cpu_ms: Option<f64>,
    /// The same of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cpu_ms: Option<f64>,
}

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Report {
    workloads: Vec<(&'static str, Measured)>,
    /// One for each statement, in their order.
    pub warm_sql: Vec<Measured>,
    /// `None` where the system does not tell, or nobody asked.
    pub resident_bytes_per_row: Option<f64>,
}

impl Report {
    pub fn add(&mut self, name: &'static str, measured: Measured) {
        self.workloads.push((name, measured));
    }

    /// For a workload that ran because others need it.
    pub fn add_if(&mut self, wanted: bool, name: &'static str, measured: Measured) {
        if wanted {
            self.add(name, measured);
        }
    }

    pub fn print(&self, arguments: &BenchEngineArgs) -> Result<(), CliError> {
        if arguments.json {
            println!("{}", self.json()?);
            return Ok(());
        }
        let range = &arguments.range;
        println!("{} from {} to {}, each workload once", range.parameter, range.min, range.max);
        let mut table = TextTable::new(&["workload", ">ms", ">rows", ">cpu ms of nodes", ">of the client"]);
        let shown = |ms: Option<f64>| ms.map_or_else(String::new, |ms| format!("{ms:.3}"));
        for (name, measured) in &self.workloads {
            table.row(vec![
                (*name).to_owned(),
                format!("{:.3}", measured.ms),
                grouped(measured.rows),
                shown(measured.nodes_cpu_ms),
                shown(measured.client_cpu_ms),
            ]);
        }
        for (place, measured) in self.warm_sql.iter().enumerate() {
            let name = format!("warm_sql {}", place + 1);
            table.row(vec![name, format!("{:.3}", measured.ms), grouped(measured.rows)]);
        }
        print!("{}", table.render());
        if let Some(bytes) = self.resident_bytes_per_row {
            println!("{bytes:.1} resident bytes per row");
        }
        Ok(())
    }

    fn json(&self) -> Result<String, CliError> {
        let failed = |error: serde_json::Error| CliError::caused(Exit::FAILED, "no JSON could be made", &error);
        let mut object = Map::new();
        for (name, measured) in &self.workloads {
            object.insert((*name).to_owned(), serde_json::to_value(measured).map_err(failed)?);
        }
        if !self.warm_sql.is_empty() {
            object.insert("warm_sql".to_owned(), serde_json::to_value(&self.warm_sql).map_err(failed)?);
        }
        if let Some(bytes) = self.resident_bytes_per_row {
            object.insert("resident_bytes_per_row".to_owned(), Value::from((bytes * 10.0).round() / 10.0));
        }
        serde_json::to_string(&object).map_err(failed)
    }
}
