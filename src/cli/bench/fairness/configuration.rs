//! The nodes that are measured: the shipped configurations with the strategy under test and the teams of the scenarios.

use std::path::Path;

use serde_json::{Value, json};

use super::data::GeneratedData;
use super::measures::{GREEDY, MODEST, WEIGHTED};
use crate::cli::bench::nodes;
use crate::cli::error::{CliError, Exit};
use crate::leader::fairness;

/// Which nodes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The one process of `configs/embedded.json`.
    Embedded,
    /// The six of `configs/one_host.json`.
    Six,
}

/// The strategy of that name, if there is one.
pub fn strategy(name: &str) -> Result<&'static str, CliError> {
    let mut known = fairness::STRATEGIES.iter().map(|line| line.name);
    known.clone().find(|known| *known == name).ok_or_else(|| {
        let names = known.by_ref().collect::<Vec<_>>().join(", ");
        CliError::new(Exit::USAGE, format!("there is no fairness strategy {name:?}")).hint(format!("there are {names}"))
    })
}

/// The shipped configuration of that shape, with the teams of the scenarios, which own no days.
pub fn configuration(data: &GeneratedData, shape: Shape, strategy: &str, folder: &Path) -> Value {
    let team = |from: &str, to: &str| json!({ "from": from, "to": to });
    let (mut teams, processes) = match shape {
        Shape::Embedded => (json!({ "all": team("20200810", "20200924") }), nodes::embedded()),
        Shape::Six => {
            (json!({ "green": team("20200810", "20200820"), "pink": team("20200821", "20200924") }), nodes::one_host())
        }
    };
    for (name, weight) in [(MODEST, 1.0), (GREEDY, 1.0)].into_iter().chain(WEIGHTED) {
        teams[name] = json!({ "weight": weight as u32 });
    }
    json!({
        "dataset": { "name": "generated", "root": data.root(), "cache": data.cache() },
        "teams": teams,
        "strategies": {
            "forwarding_strategy": "parallel",
            "async_forwarding": true,
            "chunking_strategy": "adaptive",
            "fairness_strategy": strategy,
        },
        "limits": { "queue_capacity": 200, "concurrent_max": 100, "team_concurrent_max": 60 },
        "state_dir": folder.join("state"),
        "processes": processes,
    })
}
