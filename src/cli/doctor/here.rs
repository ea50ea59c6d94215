//! This host: the configuration as it counts here, the ports of its nodes, its folders and the space on their disks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::probe::{Probe, Seen};
use crate::cli::arguments::Common;
use crate::cli::table::bytes;
use crate::cli::target::Target;
use crate::config::{Config, ProcessConfig};
use crate::node::os::{DiskSpace, disk_space};
use crate::node::{log, state_dir};
use crate::routing::NodeId;

/// Less free space than this will soon be a problem, or is one: a node writes its state and up to 32 MiB of logs.
const FREE_LOW: u64 = 1 << 30;
const FREE_MIN: u64 = 64 << 20;

/// What the file says, and which of it is for this host.
pub fn configuration(common: &Common, target: &Target, local: &[NodeId]) -> Vec<Finding> {
    let config = &target.config;
    let teams = config.teams.keys().map(|team| team.as_str()).collect::<Vec<_>>().join(", ");
    let links = config.links().links().count();
    let mut findings = vec![Finding::ok(format!(
        "{}: {}, {}, teams {teams}; fingerprint {}",
        common.config.display(),
        many(config.processes.len(), "process", "processes"),
        many(links, "link", "links"),
        target.fingerprint,
    ))];
    for warning in config.warnings() {
        findings.push(Finding::warning(warning, format!("change it in {}", common.config.display())));
    }
    let (here, elsewhere): (Vec<_>, Vec<_>) = config.processes.values().partition(|one| local.contains(&one.id));
    findings.push(match (here.as_slice(), elsewhere.as_slice()) {
        ([], all) => {
            let text = format!("no process has an address of this machine: {}", by_host(all));
            Finding::problem(text, "set processes.ID.host to an address of this machine in every host's file")
        }
        (here, []) => Finding::ok(format!("all processes are on this host: {}", by_host(here))),
        (here, elsewhere) => Finding::ok(format!("on this host: {}; elsewhere: {}", by_host(here), by_host(elsewhere))),
    });
    findings
}

fn many(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Such as `A B (10.0.0.1), C (10.0.0.2)`.
fn by_host(processes: &[&ProcessConfig]) -> String {
    let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for process in processes {
        hosts.entry(&process.host).or_default().push(process.id.as_str());
    }
    hosts.iter().map(|(host, ids)| format!("{} ({host})", ids.join(" "))).collect::<Vec<_>>().join(", ")
}

/// Whether this host's nodes can have their ports, or have them.
pub fn ports(target: &Target, local: &[NodeId], probes: &[Probe]) -> Vec<Finding> {
    let probes = probes.iter().filter(|probe| local.contains(&probe.id));
    probes.map(|probe| port(target, probe)).collect()
}

fn port(target: &Target, probe: &Probe) -> Finding {
    let id = &probe.id;
    let (state, print) = (&target.config.state_dir, &target.fingerprint);
    let is_running = state_dir::is_locked(state, print, id);
    let pid = state_dir::local_pid(state, print, id).map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let Some(address) = &probe.address else {
        return Finding::ok(format!("{id} does not run; it takes any free port of {}", probe.host));
    };
    let number = address.rsplit(':').next().unwrap_or_default();
    let look = format!("who is it? try: ss -ltnp 'sport = :{number}'; or change processes.{id}.port on every host");
    match &probe.seen {
        Seen::Answers { status, .. } if status.process_id == *id && is_running => {
            Finding::ok(format!("{id} runs here at {address}{pid}"))
        }
        Seen::Answers { status, .. } => {
            let text =
                format!("{id}: {address} is held by {} of another folder (pid {})", status.process_id, status.pid);
            Finding::problem(text, "end it with `overlay down` in the folder where it was started")
        }
        _ if is_running => {
            let text = format!("{id} runs here{pid}, but does not answer at {address}");
            Finding::problem(text, format!("see `overlay logs {id}`; if it hangs: overlay down --only {id}"))
        }
        _ => match can_bind(address) {
            Ok(()) => Finding::ok(format!("{id}: {address} is free; {id} does not run")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Finding::problem(format!("{id}: {address} is used by another program"), look)
            }
            Err(error) => Finding::problem(format!("{id} cannot listen at {address}: {error}"), look),
        },
    }
}

fn can_bind(address: &str) -> io::Result<()> {
    let mut result = Err(io::Error::other("it is no address"));
    for address in address.to_socket_addrs()? {
        result = TcpListener::bind(address).map(drop);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Whether nodes can write what they must, and the space that is left for it.
pub fn disks(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = [("state_dir", config.state_dir.as_path()), ("logs", Path::new(log::LOG_DIR))]
        .into_iter()
        .map(|(what, path)| match can_write(path) {
            Ok(()) => with_space(&format!("{what} {} can be written to", path.display()), path),
            Err(error) => {
                let text = format!("{what} {} cannot be written to: {error}", path.display());
                Finding::problem(text, "give this user the right to write there, or run in another folder")
            }
        })
        .collect();
    let cache = &config.dataset.cache;
    findings.push(with_space(&format!("cache {}", cache.display()), cache));
    findings
}

fn with_space(text: &str, path: &Path) -> Finding {
    let Some(there) = nearest(path) else { return Finding::ok(format!("{text}; disk space unknown")) };
    match disk_space(&there) {
        Ok(Some(space)) => judge_space(text, space),
        Ok(None) => Finding::ok(format!("{text}; disk space unknown on this system")),
        Err(error) => Finding::warning(format!("{text}; disk space unknown: {error}"), "look with: df"),
    }
}

fn judge_space(text: &str, space: DiskSpace) -> Finding {
    let text = format!("{text}; {} of {} are free", bytes(space.free), bytes(space.total));
    match space.free {
        ..FREE_MIN => Finding::problem(text, "make room: nodes cannot keep their state on a full disk"),
        FREE_MIN..FREE_LOW => Finding::warning(
            text,
            "make room soon: a node's state and logs take up to 100 MiB, the Leader's results result_disk_bytes_max",
        ),
        _ => Finding::ok(text),
    }
}

/// Writes a file where the folder is, or would be made, and takes it away again.
fn can_write(folder: &Path) -> io::Result<()> {
    let there = nearest(folder).ok_or_else(|| io::Error::other("no folder above it exists"))?;
    let probe = there.join(format!(".overlay-doctor-{}", std::process::id()));
    File::create_new(&probe)?;
    fs::remove_file(&probe)
}

/// The path itself, or the closest folder above it that exists.
fn nearest(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    absolute.ancestors().find(|path| path.exists()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn space_is_judged_by_what_is_free() {
        for (free, level) in [
            (0, Level::Problem),
            (FREE_MIN - 1, Level::Problem),
            (FREE_MIN, Level::Warning),
            (FREE_LOW - 1, Level::Warning),
            (FREE_LOW, Level::Ok),
        ] {
            assert_eq!(judge_space("x", DiskSpace { free, total: 1 << 40 }).level, level, "{free}");
        }
    }

    #[test]
    fn writing_is_tried_where_the_folder_would_be_made() {
        let folder = tempfile::tempdir().unwrap();
        can_write(&folder.path().join("a/b")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(can_write(&folder.path().join("file/state")).is_err(), "a file is no folder");
    }
}
