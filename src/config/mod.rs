//! One JSON file describes one whole cluster. This part reads it, refuses what it does not understand, checks that
//! the settings fit each other, and hands each part its own. It does not look at the data set, the network or the
//! machine; whether they are as described shows when a node starts.
//!
//! Invariant: a `Config` that exists is sound. Every id it mentions exists, links are listed at both ends and connect
//! all processes, there is one Leader, each day belongs to at most one team, and each team with days has somebody who holds data.

mod check;
mod error;
pub mod fingerprint;
mod json;
mod overrides;
mod read;
mod section;
mod value;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use overlay_ingest::{Date, DateRange};

pub use error::{ConfigError, Problem, Wrong};
pub use fingerprint::Fingerprint;
pub use overrides::Overrides;

use crate::delivery::chunking;
use crate::leader::fairness;
use crate::routing::forwarding;
use crate::routing::{Link, NodeId, Replicas, Role, Team, Topology};
use error::Problems;

/// A larger file is refused before it is read: a cluster of a thousand processes fits well.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Where the Parquet cache is, below the data set, unless the file says otherwise.
const CACHE_DIR: &str = ".overlay";
/// The flow of queries that are billed to no team; so no team is called that.
const NO_TEAM: &str = "none";
const CHUNK_SIZE: u32 = 200;
const CHUNK_ROWS_MAX: u32 = 65_536;

/// The names a file may use, of each family; the first is the default.
fn forwarding_names() -> Vec<&'static str> {
    forwarding::STRATEGIES.iter().map(|entry| entry.name).collect()
}

fn chunking_names() -> Vec<&'static str> {
    chunking::STRATEGIES.iter().map(|entry| entry.name).collect()
}

fn fairness_names() -> Vec<&'static str> {
    fairness::STRATEGIES.iter().map(|entry| entry.name).collect()
}

/// A whole cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub dataset: DatasetConfig,
    pub teams: BTreeMap<Team, TeamConfig>,
    pub strategies: StrategyConfig,
    pub limits: Limits,
    /// On how many members of its team each partition is kept; default 1. Each replica costs the memory of the data
    /// once more and lets queries survive one more dead node; above the number of members it is the same as `"all"`.
    pub replicas: Replicas,
    /// Whether a node cut off from the Leader may open a link that is not configured; default true. Without it the
    /// loss of a cut node hides what is behind it.
    pub adopt_links: bool,
    /// Where nodes keep what must survive a restart; default `.overlay`.
    pub state_dir: PathBuf,
    pub processes: BTreeMap<NodeId, ProcessConfig>,
}

/// Which data are served, and where their files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetConfig {
    /// Part of each partition's id: the same on every host.
    pub name: String,
    /// The folder that holds `data/` or the day folders. May differ from host to host, as may `cache`.
    pub root: PathBuf,
    /// The Parquet cache; default `.overlay` below `root`.
    pub cache: PathBuf,
    /// What SQL calls the table; default `observations`.
    pub table: String,
}

/// A team owns a range of days, or none: then queries are only billed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TeamConfig {
    /// Both ends included; disjoint from every other team's. `None` for a team without processes.
    pub range: Option<DateRange>,
    /// Its share of the nodes where teams compete, 1 to 1000, relative to the other teams; default 1.
    pub weight: u32,
}

/// How queries are forwarded, cut into chunks and admitted. These count on the acting Leader, so hosts may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrategyConfig {
    /// A name of `routing::forwarding::STRATEGIES`; default `round_robin`.
    pub forwarding_strategy: String,
    /// Whether all next hops are in flight at once; default false. False keeps at most one hop per query busy and
    /// takes the sum of the times of all.
    pub async_forwarding: bool,
    /// `fixed`, `adaptive` or `query_based`; default `fixed`.
    pub chunking_strategy: String,
    /// A name of `leader::fairness::STRATEGIES`; default `strict`.
    pub fairness_strategy: String,
    /// Rows of a chunk, 1 to `chunk_rows_max`; default 200. Lower shows the first rows sooner; higher costs fewer calls
    /// and more memory per call. What it means in detail is the chunking strategy's.
    pub chunk_size: u32,
}

/// What each process refuses to exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Queries that may wait at the Leader, default 200; the next one is refused. Higher refuses later and lets
    /// deadlines pass in the queue.
    pub queue_capacity: usize,
    /// Queries that may run at once, default 100. Higher costs memory per query and gains nothing once the cores are
    /// busy.
    pub concurrent_max: usize,
    /// Of these, queries of one team; at most and by default `concurrent_max`, at most 60 by default. The difference
    /// is what one team always leaves to the others.
    pub team_concurrent_max: usize,
    /// Seconds a result is kept after it was last read; default 300. Higher lets slow readers come back and keeps
    /// `result_bytes_max` full for longer.
    pub result_ttl_s: u64,
    /// Bytes of results kept in the Leader's memory, default 512 MiB; a result that holds more than is still free puts its
    /// further rows on disk.
    pub result_bytes_max: u64,
    /// Bytes of results kept on the Leader's disk, below `state_dir`, default 4 GiB; 0: none. When they are used up too,
    /// finished results are evicted, and then queries fail. Higher lets slow readers of large answers take their time, and
    /// needs as much free space there.
    pub result_disk_bytes_max: u64,
    /// Bytes of partitions a node loads, default 8 GiB. What does not fit is not held.
    pub data_bytes_max: u64,
    /// Bytes that SQL may use for joins, sorts and groups in a process, default 2 GiB; then the query fails.
    pub memory_bytes_max: u64,
    /// Rows of the largest chunk, 1 to 1048576; default 65536. Bounds `chunk_size` and what adaptive chunks grow to.
    pub chunk_rows_max: u32,
    /// Seconds a query has unless it asks for another time, longer or shorter; default 60.
    pub deadline_s: u64,
    /// Seconds without a reader after which a query is abandoned; default 30.
    pub idle_s: u64,
    /// Cores a process uses, 0 for all (shared by the nodes that one command starts); default 0.
    pub threads: usize,
}

/// One process of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessConfig {
    pub id: NodeId,
    pub role: Role,
    pub team: Team,
    /// The address that peers and clients dial.
    pub host: String,
    /// 0 lets the system choose; the address is then found in `state_dir`, by processes of the same machine only.
    pub port: u16,
    /// The links of the overlay; each is listed at both ends.
    pub neighbors: Vec<NodeId>,
    /// Whether it is given partitions; by default all but the Leader are.
    pub holds_data: bool,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_path_buf(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Config::parse(&bytes, &path.display().to_string())
    }

    /// Checks the content of a file; `name` names it in errors.
    pub fn parse(text: impl AsRef<[u8]>, name: &str) -> Result<Config, ConfigError> {
        let text = text.as_ref();
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { name: name.into(), max: FILE_BYTES_MAX });
        }
        let tree = json::parse(text, name)?;
        let problems = Problems::default();
        let draft = read::read(&tree, &problems);
        if let Some(draft) = &draft {
            check::check(draft, &problems);
        }
        let problems = problems.into_vec();
        match draft.and_then(read::Draft::finish) {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError::Problems { name: name.into(), problems }),
        }
    }

    /// The one process that takes queries.
    pub fn leader(&self) -> &ProcessConfig {
        let leader = self.processes.values().find(|process| process.role == Role::Leader);
        leader.expect("a configuration without a leader was refused")
    }

    /// The process of that id.
    pub fn process(&self, id: &NodeId) -> Option<&ProcessConfig> {
        self.processes.get(id)
    }

    /// For an id that is not there: `did you mean X?`, or the ids there are.
    pub fn suggest_process(&self, written: &str) -> String {
        let known: Vec<&str> = self.processes.keys().map(NodeId::as_str).collect();
        section::suggestion(written, &known)
    }

    /// Id, team and role of every process, by id.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &Team, Role)> {
        self.processes.values().map(|process| (&process.id, &process.team, process.role))
    }

    /// The links, up or not.
    pub fn links(&self) -> Topology {
        let of = |process: &ProcessConfig| -> Vec<Link> {
            process.neighbors.iter().map(|neighbor| Link::between(&process.id, neighbor)).collect()
        };
        self.processes.values().flat_map(of).collect()
    }

    /// The team that owns the day; `None` if no team does.
    pub fn team_of_date(&self, date: Date) -> Option<&Team> {
        self.teams.iter().find(|(_, team)| team.range.is_some_and(|range| range.contains(date))).map(|(name, _)| name)
    }

    /// The processes of a team that hold data, by id.
    pub fn data_members(&self, team: &Team) -> Vec<NodeId> {
        let holds = |process: &&ProcessConfig| process.holds_data && process.team == *team;
        self.processes.values().filter(holds).map(|process| process.id.clone()).collect()
    }

    /// Every process that holds data, and its team.
    pub fn all_data_members(&self) -> BTreeMap<NodeId, Team> {
        let holding = self.processes.values().filter(|process| process.holds_data);
        holding.map(|process| (process.id.clone(), process.team.clone())).collect()
    }

    /// The days of each team that has some.
    pub fn team_ranges(&self) -> BTreeMap<Team, DateRange> {
        self.teams.iter().filter_map(|(name, team)| Some((name.clone(), team.range?))).collect()
    }

    /// What is allowed but probably not meant, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let name = &self.strategies.forwarding_strategy;
        let strategy = forwarding::by_name(name).expect("a configuration with an unknown strategy was refused");
        if !self.strategies.async_forwarding && strategy.in_flight(false) == strategy.in_flight(true) {
            warnings.push(format!("strategies.async_forwarding: false has no effect with {name}"));
        }
        for team in self.team_ranges().keys() {
            let members = self.data_members(team).len();
            if let Replicas::Count(count) = self.replicas
                && count as usize > members
            {
                warnings.push(format!("replicas: {count} asked for, but team {team} has {members} to hold them"));
            }
        }
        for process in self.processes.values().filter(|process| process.port == 0) {
            let elsewhere = |id: &&NodeId| self.processes.get(*id).is_some_and(|peer| peer.host != process.host);
            if let Some(peer) = process.neighbors.iter().find(elsewhere) {
                let path = format!("processes.{}.port", process.id);
                warnings.push(format!("{path}: {peer} is on another host and cannot find out which port 0 becomes"));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
