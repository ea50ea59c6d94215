//! Real nodes for a bench: child processes of this program on loopback, on ports that the system picks.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use overlay_ingest::Date;
use serde_json::{Value, json};

use super::folder::Folder;
use super::ingest::Days;
use crate::cli::error::{CliError, Exit};
use crate::cli::status::wait_until_ready;
use crate::client::Client;
use crate::config::Config;
use crate::node::{THREADS_VARIABLE, dial_address, fingerprint};

/// How long the nodes may take until every partition is held.
const START_MAX: Duration = Duration::from_secs(60);

/// Which nodes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The six processes of `configs/one_host.json`; the teams share the days as there, one to three.
    OneHost,
    /// One process that holds everything, or one that holds nothing.
    Alone { holds_data: bool },
}

/// A configuration file for the data set.
pub fn cluster_config(days: &Days, folder: &Folder, shape: Shape) -> String {
    let first = days.dates[0];
    let last = days.dates[days.dates.len() - 1];
    // With one day the second team has the day after it, of which there are no files.
    let cut = days.dates.get((days.dates.len() / 4).max(1)).copied().unwrap_or(last.next());
    let day_before = |date: Date| Date::of_unix_seconds(date.unix_seconds() - 86_400).unwrap_or(date);
    let team = |from: Date, to: Date| json!({ "from": from.to_string(), "to": to.to_string(), "weight": 1 });
    let node = |id: &str, role: &str, team: &str, neighbors: &[&str]| json!({ "id": id, "role": role, "team": team, "host": "127.0.0.1", "port": 0, "neighbors": neighbors });
    let (teams, processes) = match shape {
        Shape::OneHost => (
            json!({ "green": team(first, day_before(cut)), "pink": team(cut, last.max(cut)) }),
            json!({
                "A": node("A", "leader", "green", &["B", "E"]),
                "B": node("B", "team_leader", "green", &["A", "C", "D"]),
                "C": node("C", "worker", "green", &["B"]),
                "D": node("D", "worker", "pink", &["B", "E"]),
                "E": node("E", "team_leader", "pink", &["A", "F", "D"]),
                "F": node("F", "worker", "pink", &["E"]),
            }),
        ),
        Shape::Alone { holds_data } => {
            let mut leader = node("A", "leader", "all", &[]);
            leader["holds_data"] = Value::from(true);
            // The one that is to hold nothing has days of which there are no files.
            let (first, last) = if holds_data { (first, last) } else { (last.next(), last.next()) };
            (json!({ "all": team(first, last) }), json!({ "A": leader }))
        }
    };
    let state = match shape {
        Shape::OneHost => "state",
        Shape::Alone { holds_data: true } => "state-loaded",
        Shape::Alone { holds_data: false } => "state-empty",
    };
    let config = json!({
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
    });
    config.to_string()
}

/// Processes that end with this value.
pub struct Cluster {
    children: Vec<Child>,
    pub client: Client,
}

impl Cluster {
    /// Starts the nodes and waits until every partition is held. To be called within the runtime of the client.
    pub async fn start(days: &Days, folder: &Folder, shape: Shape) -> Result<Cluster, CliError> {
        let failed = |error: &std::io::Error| CliError::caused(Exit::FAILED, "a node cannot be started", error);
        let text = cluster_config(days, folder, shape);
        let config = Config::parse(&text, "the bench").map_err(|error| CliError::of(Exit::FAILED, &error))?;
        let file = folder.path().join("cluster.json");
        fs::write(&file, &text).map_err(|error| failed(&error))?;
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / config.processes.len()).max(1).to_string();
        let mut children = Started(Vec::new());
        for id in config.processes.keys() {
            let log = File::create(folder.path().join(format!("{id}.err"))).map_err(|error| failed(&error))?;
            let child = Command::new(&program)
                .arg("node")
                .arg("--config")
                .arg(&file)
                .args(["--id", id.as_str()])
                .env(THREADS_VARIABLE, &threads)
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn();
            children.0.push(child.map_err(|error| failed(&error))?);
        }
        let print = fingerprint(&config).to_string();
        let leader = &config.leader().id;
        let mut address = None;
        for _ in 0..START_MAX.as_millis() / 10 {
            address = dial_address(&config, &print, leader);
            if address.is_some() {
                break;
            }
            if let Some(Ok(Some(status))) = children.0.first_mut().map(Child::try_wait) {
                return Err(CliError::new(Exit::FAILED, format!("the Leader ended while starting ({status})")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let address = address.ok_or_else(|| CliError::new(Exit::FAILED, "the Leader does not start"))?;
        let client = Client::new(&address);
        wait_until_ready(&client, START_MAX).await?;
        Ok(Cluster { children: std::mem::take(&mut children.0), client })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(Started(std::mem::take(&mut self.children)));
    }
}

/// Children that are killed when this goes, so that a bench that fails leaves none behind.
struct Started(Vec<Child>);

impl Drop for Started {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}
