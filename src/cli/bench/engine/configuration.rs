//! The nodes of the workloads: the shipped configurations over the days of the data set that is measured.

use overlay_ingest::Date;
use serde_json::{Value, json};

use super::ingest::Days;
use crate::cli::bench::folder::Folder;
use crate::cli::bench::nodes;

/// Which nodes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The six processes of `configs/one_host.json`; the teams share the days as there, one to three.
    OneHost,
    /// One process that holds everything, or one that holds nothing.
    Alone { holds_data: bool },
}

/// A configuration file for the data set.
pub fn configuration(days: &Days, folder: &Folder, shape: Shape) -> Value {
    let first = days.dates[0];
    let last = days.dates[days.dates.len() - 1];
    // With one day the second team has the day after it, of which there are no files.
    let cut = days.dates.get((days.dates.len() / 4).max(1)).copied().unwrap_or(last.next());
    let day_before = |date: Date| Date::of_unix_seconds(date.unix_seconds() - 86_400).unwrap_or(date);
    let team = |from: Date, to: Date| json!({ "from": from.to_string(), "to": to.to_string(), "weight": 1 });
    let (teams, processes) = match shape {
        Shape::OneHost => {
            (json!({ "green": team(first, day_before(cut)), "pink": team(cut, last.max(cut)) }), nodes::one_host())
        }
        // The one that is to hold nothing has days of which there are no files.
        Shape::Alone { holds_data: false } => (json!({ "all": team(last.next(), last.next()) }), nodes::embedded()),
        Shape::Alone { holds_data: true } => (json!({ "all": team(first, last) }), nodes::embedded()),
    };
    let state = match shape {
        Shape::OneHost => "state",
        Shape::Alone { holds_data: true } => "state-loaded",
        Shape::Alone { holds_data: false } => "state-empty",
    };
    json!({
        "dataset": { "name": days.name, "root": days.root, "cache": folder.cache() },
        "teams": teams,
        "strategies": {
            "forwarding_strategy": "parallel",
            "async_forwarding": true,
            "chunking_strategy": "adaptive",
            "fairness_strategy": "strict",
        },
        "state_dir": folder.path().join(state),
        "processes": processes,
    })
}
