//! The nodes that are measured: child processes of this program on loopback, on ports that the system picks.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::data::Place;
use super::measures::{GREEDY, MODEST, WEIGHTED};
use crate::cli::bench::load::machine;
use crate::cli::error::{CliError, Exit};
use crate::cli::status::wait_until_ready;
use crate::client::Client;
use crate::config::Config;
use crate::leader::fairness;
use crate::node::{THREADS_VARIABLE, dial_address, fingerprint, os};

/// How long the nodes may take until every partition is held.
const START_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Which nodes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The one process of `configs/embedded.json`.
    Embedded,
    /// The six of `configs/one_host.json`.
    Six,
}

/// A fairness strategy as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strategy {
    /// What it is called in figures.
    pub label: String,
    name: String,
    /// Whether a team may have every place.
    uncapped: bool,
}

impl Strategy {
    /// A strategy by its name.
    pub fn named(name: &str) -> Result<Strategy, CliError> {
        let known = fairness::STRATEGIES.iter().map(|line| line.name).collect::<Vec<_>>();
        if !known.contains(&name) {
            return Err(CliError::new(Exit::USAGE, format!("there is no fairness strategy {name:?}"))
                .hint(format!("there are {}", known.join(", "))));
        }
        Ok(Strategy { label: name.to_owned(), name: name.to_owned(), uncapped: false })
    }

    /// The unfair one that others are compared with: first come, first served. Where there is no strategy of that
    /// name, `strict` without a limit of a team's own does the same.
    pub fn fifo() -> Strategy {
        let (name, uncapped) = if fairness::by_name("fifo").is_some() { ("fifo", false) } else { ("strict", true) };
        Strategy { label: super::FIFO.to_owned(), name: name.to_owned(), uncapped }
    }

    /// How it is configured, for the report.
    pub fn told(&self) -> String {
        if self.uncapped { format!("{} without a limit per team", self.name) } else { self.name.clone() }
    }
}

/// Processes that end with this value.
pub struct Nodes {
    children: Vec<Child>,
    pub leader: String,
    /// A client of every node, the Leader's among them.
    pub clients: Vec<Client>,
    /// Bytes that results may take, in all processes.
    pub result_bytes_max: u64,
}

impl Nodes {
    /// Starts them on the data of this place and waits until every partition is held. To be called within the runtime
    /// of the clients.
    pub async fn start(place: &Place, shape: Shape, strategy: &Strategy, label: &str) -> Result<Nodes, CliError> {
        let failed = |error: &std::io::Error| CliError::caused(Exit::FAILED, "a node cannot be started", error);
        let text = configuration(place, shape, strategy, label).to_string();
        let config = Config::parse(&text, "the bench").map_err(|error| CliError::of(Exit::FAILED, &error))?;
        let folder = place.path().join(label);
        fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
        let file = folder.join("cluster.json");
        fs::write(&file, &text).map_err(|error| failed(&error))?;
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let threads = (machine::cores() / config.processes.len()).max(1).to_string();
        let mut nodes = Nodes {
            children: Vec::new(),
            leader: String::new(),
            clients: Vec::new(),
            result_bytes_max: config.limits.result_bytes_max,
        };
        for id in config.processes.keys() {
            let errors = File::create(folder.join(format!("{id}.err"))).map_err(|error| failed(&error))?;
            let mut command = Command::new(&program);
            command.arg("node").arg("--config").arg(&file).args(["--id", id.as_str()]);
            command.env(THREADS_VARIABLE, &threads).current_dir(&folder);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
            nodes.children.push(command.spawn().map_err(|error| failed(&error))?);
        }
        let print = fingerprint(&config).to_string();
        let begun = Instant::now();
        for id in config.processes.keys() {
            let address = loop {
                if let Some(address) = dial_address(&config, &print, id) {
                    break address;
                }
                if begun.elapsed() > START_MAX || nodes.has_lost_one() {
                    let said = fs::read_to_string(folder.join(format!("{id}.err"))).unwrap_or_default();
                    return Err(CliError::new(Exit::FAILED, format!("{id} does not start: {}", said.trim())));
                }
                tokio::time::sleep(POLL).await;
            };
            if *id == config.leader().id {
                nodes.leader.clone_from(&address);
            }
            nodes.clients.push(Client::new(&address));
        }
        wait_until_ready(&Client::new(&nodes.leader), START_MAX).await?;
        Ok(nodes)
    }

    /// The process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Resident bytes of all together, where the system tells.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.pids().into_iter().map(os::resident_bytes).sum()
    }

    fn has_lost_one(&mut self) -> bool {
        self.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// The shipped configuration of that shape, with the teams of the scenarios, which own no days.
fn configuration(place: &Place, shape: Shape, strategy: &Strategy, label: &str) -> Value {
    let team = |from: &str, to: &str| json!({ "from": from, "to": to });
    let node = |id: &str, role: &str, team: &str, neighbors: &[&str]| json!({ "id": id, "role": role, "team": team, "host": "127.0.0.1", "port": 0, "neighbors": neighbors });
    let (mut teams, processes) = match shape {
        Shape::Embedded => {
            let mut leader = node("A", "leader", "all", &[]);
            leader["holds_data"] = json!(true);
            (json!({ "all": team("20200810", "20200924") }), json!({ "A": leader }))
        }
        Shape::Six => (
            json!({ "green": team("20200810", "20200820"), "pink": team("20200821", "20200924") }),
            json!({
                "A": node("A", "leader", "green", &["B", "E"]),
                "B": node("B", "team_leader", "green", &["A", "C", "D"]),
                "C": node("C", "worker", "green", &["B"]),
                "D": node("D", "worker", "pink", &["B", "E"]),
                "E": node("E", "team_leader", "pink", &["A", "F", "D"]),
                "F": node("F", "worker", "pink", &["E"]),
            }),
        ),
    };
    for (name, weight) in [(MODEST, 1.0), (GREEDY, 1.0)].into_iter().chain(WEIGHTED) {
        teams[name] = json!({ "weight": weight as u32 });
    }
    let mut limits = json!({ "queue_capacity": 200, "concurrent_max": 100, "team_concurrent_max": 60 });
    if strategy.uncapped {
        limits["team_concurrent_max"] = limits["concurrent_max"].clone();
    }
    json!({
        "dataset": { "name": "generated", "root": place.data_set(), "cache": place.cache() },
        "teams": teams,
        "strategies": {
            "forwarding_strategy": "parallel",
            "async_forwarding": true,
            "chunking_strategy": "adaptive",
            "fairness_strategy": strategy.name,
        },
        "limits": limits,
        "state_dir": place.path().join(label).join("state"),
        "processes": processes,
    })
}
