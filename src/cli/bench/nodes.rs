//! The nodes of a bench: child processes of this program on loopback, on ports that the system picks.
//!
//! What they are configured with is each bench's own decision; which processes there are is said here, once, as the
//! shipped configurations have them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::load::machine;
use crate::cli::error::{CliError, Exit};
use crate::cli::spawn::{Lifetime, tie};
use crate::cli::status::wait_until_ready;
use crate::client::Client;
use crate::config::Config;
use crate::node::{THREADS_VARIABLE, dial_address, fingerprint, os};

/// How long the nodes may take until every partition is held.
const START_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// The `processes` of `configs/one_host.json`: six, of the teams green and pink.
pub fn one_host() -> Value {
    json!({
        "A": process("A", "leader", "green", &["B", "E"]),
        "B": process("B", "team_leader", "green", &["A", "C", "D"]),
        "C": process("C", "worker", "green", &["B"]),
        "D": process("D", "worker", "pink", &["B", "E"]),
        "E": process("E", "team_leader", "pink", &["A", "F", "D"]),
        "F": process("F", "worker", "pink", &["E"]),
    })
}

/// The one of `configs/embedded.json`, of the team all.
pub fn embedded() -> Value {
    let mut leader = process("A", "leader", "all", &[]);
    leader["holds_data"] = json!(true);
    json!({ "A": leader })
}

fn process(id: &str, role: &str, team: &str, neighbors: &[&str]) -> Value {
    json!({ "id": id, "role": role, "team": team, "host": "127.0.0.1", "port": 0, "neighbors": neighbors })
}

/// Processes that end with this value.
pub struct Nodes {
    children: Vec<Child>,
    /// Where the Leader is.
    pub leader: String,
    /// A client of every node, the Leader's among them.
    pub clients: Vec<Client>,
    /// Bytes that results may take at one of them.
    pub result_bytes_max: u64,
}

impl Nodes {
    /// Starts the nodes of a configuration, which is kept in this folder beside what they say, and waits until every
    /// partition is held. To be called within the runtime of the clients.
    pub async fn start(configuration: &Value, folder: &Path) -> Result<Nodes, CliError> {
        let failed = |error: &std::io::Error| CliError::caused(Exit::FAILED, "a node cannot be started", error);
        let text = configuration.to_string();
        let config = Config::parse(&text, "the bench").map_err(|error| CliError::of(Exit::FAILED, &error))?;
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
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
            command.env(THREADS_VARIABLE, &threads).current_dir(folder);
            tie(&mut command, Lifetime::OfThisProgram);
            command.stdout(Stdio::null()).stderr(errors);
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

    /// Processor time of all together, where the system tells.
    pub fn threads_cpu_time(&self) -> Option<Duration> {
        self.pids().into_iter().map(os::threads_cpu_time).sum()
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
