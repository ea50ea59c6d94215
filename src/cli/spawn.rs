//! Starting and ending node processes of this machine.

use std::fs::File;
use std::net::{TcpListener, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::arguments::{Common, OverrideArgs};
use super::error::{CliError, Exit};
use super::target::Target;
use crate::client::Client;
use crate::node::{THREADS_VARIABLE, os, state_dir};
use crate::routing::NodeId;

/// How long a node that was asked to end may take, above the time it gives to running queries.
const END_MAX: Duration = Duration::from_secs(25);

/// A node process that this program started.
pub struct Started {
    pub id: NodeId,
    pub child: Child,
}

/// What happens to a node when the program that started it ends, and be it by `kill -9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It goes on.
    ItsOwn,
    /// It ends too: it sees that the pipe to its stdin is closed. For as long as it is to run, its [`Child`] is kept.
    OfThisProgram,
}

/// The processes of the configuration whose host is an address of this machine.
pub fn local_ids(target: &Target) -> Vec<NodeId> {
    target
        .config
        .processes
        .values()
        .filter(|process| is_local(&process.host))
        .map(|process| process.id.clone())
        .collect()
}

/// Whether an address belongs to this machine: a listener can be bound to it.
pub fn is_local(host: &str) -> bool {
    (host, 0).to_socket_addrs().is_ok_and(|mut addresses| addresses.any(|address| TcpListener::bind(address).is_ok()))
}

/// Starts `overlay node --id ID` with the same configuration and overrides. Its stderr goes to `logs/ID.err`.
pub fn start(
    common: &Common,
    overrides: &OverrideArgs,
    target: &Target,
    id: &NodeId,
    lifetime: Lifetime,
) -> Result<Started, CliError> {
    let failed = |what: &str, error: &std::io::Error| CliError::caused(Exit::FAILED, format!("{id}: {what}"), error);
    let program = std::env::current_exe().map_err(|error| failed("this program cannot be found", &error))?;
    std::fs::create_dir_all("logs").map_err(|error| failed("the folder logs cannot be made", &error))?;
    let stderr = File::create(stderr_path(id)).map_err(|error| failed("its log cannot be written", &error))?;
    let mut command = Command::new(program);
    command.arg("node").arg("--config").arg(&common.config).args(["--id", id.as_str()]);
    if target.config.limits.threads == 0 {
        // One budget for the machine: its cores, shared among the nodes that run on it.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let nodes = local_ids(target).len().max(1);
        command.env(THREADS_VARIABLE, (cores / nodes).max(1).to_string());
    }
    for (flag, value) in override_flags(overrides) {
        command.arg(flag).arg(value);
    }
    os::in_own_group(&mut command);
    tie(&mut command, lifetime);
    command.stdout(Stdio::null()).stderr(stderr);
    let child = command.spawn().map_err(|error| failed("it cannot be started", &error))?;
    Ok(Started { id: id.clone(), child })
}

/// Gives the node the stdin that its lifetime needs.
pub fn tie(command: &mut Command, lifetime: Lifetime) {
    match lifetime {
        Lifetime::ItsOwn => command.stdin(Stdio::null()),
        Lifetime::OfThisProgram => command.arg("--while-stdin-open").stdin(Stdio::piped()),
    };
}

fn override_flags(overrides: &OverrideArgs) -> Vec<(&'static str, String)> {
    let mut flags = Vec::new();
    let mut add = |flag: &'static str, value: Option<String>| flags.extend(value.map(|value| (flag, value)));
    add("--forwarding-strategy", overrides.forwarding_strategy.clone());
    add("--async-forwarding", overrides.async_forwarding.map(|flag| flag.to_string()));
    add("--chunking-strategy", overrides.chunking_strategy.clone());
    add("--fairness-strategy", overrides.fairness_strategy.clone());
    add("--chunk-size", overrides.chunk_size.map(|rows| rows.to_string()));
    add("--result-ttl", overrides.result_ttl.map(|seconds| seconds.to_string()));
    add("--dataset-root", overrides.dataset_root.as_ref().map(|root| root.display().to_string()));
    flags
}

fn stderr_path(id: &NodeId) -> String {
    format!("logs/{id}.err")
}

/// What a process that ended said last.
pub fn last_words(id: &NodeId) -> String {
    let said = std::fs::read_to_string(stderr_path(id)).unwrap_or_default();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join("\n  ")
}

/// A node whose state folder was removed still answers at its address.
async fn end_without_folder(target: &Target, id: &NodeId) -> &'static str {
    const LOOK_TIMEOUT: Duration = Duration::from_millis(500);
    let Ok(address) = target.address(id) else { return "was not running" };
    let client = Client::new(&address);
    let answers = async || client.status(LOOK_TIMEOUT).await.is_ok_and(|status| status.process_id == *id);
    if !answers().await || client.node().shutdown(true, LOOK_TIMEOUT).await.is_err() {
        return "was not running";
    }
    let start = Instant::now();
    while answers().await && start.elapsed() < END_MAX {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if answers().await { "did not end in time" } else { "ended" }
}

/// Asks processes to end, all at once, and waits until they have; kills what does not end.
pub async fn end(target: &Target, ids: &[NodeId]) -> Vec<(NodeId, &'static str)> {
    let local = &local_ids(target);
    let asked = ids.iter().map(|id| async move {
        let running = || state_dir::is_locked(&target.config.state_dir, &target.fingerprint, id);
        if !running() {
            // Other hosts' processes are theirs to end.
            let how = if local.contains(id) { end_without_folder(target, id).await } else { "was not running" };
            return (id.clone(), how);
        }
        let pid = state_dir::local_pid(&target.config.state_dir, &target.fingerprint, id);
        if let Ok(address) = target.address(id) {
            // That it cannot be reached shows below: it keeps running.
            let _ = Client::new(&address).node().shutdown(true, Duration::from_secs(2)).await;
        }
        let start = Instant::now();
        while running() && start.elapsed() < END_MAX {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !running() {
            return (id.clone(), "ended");
        }
        match pid.map(os::kill) {
            Some(Ok(())) => (id.clone(), "did not end in time and was killed"),
            _ => (id.clone(), "did not end in time"),
        }
    });
    futures::future::join_all(asked).await
}
