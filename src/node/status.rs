//! What a node says of itself and of the overlay when asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::routing::{NodeId, Role, Team};

/// A node's view of the overlay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    pub process_id: NodeId,
    pub role: Role,
    pub team: Team,
    /// waiting, loading, ready or draining.
    pub state: String,
    /// What it waits for, such as `A at 127.0.0.1:60051`; empty when it does not wait.
    pub waiting_for: String,
    pub rows: u64,
    pub pid: u32,
    pub incarnation: u64,
    pub fingerprint: String,
    pub version: String,
    /// What must agree in a cluster: key path to a digest of its value.
    pub fingerprint_keys: BTreeMap<String, u64>,
    /// This host's clock, in microseconds of Unix time.
    pub unix_us: u64,
    /// Where its rows come from; empty if it holds no data.
    pub data_source: String,
    pub links: Vec<NodeId>,
    /// Configured members that hold data and were never heard.
    pub unheard: Vec<NodeId>,
    pub members: Vec<MemberStatus>,
    pub partitions: Vec<PartitionStatus>,
}

/// A configured process as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberStatus {
    pub process_id: NodeId,
    pub role: Role,
    pub team: Team,
    pub address: String,
    /// As announced; `unreachable` while no path of live links leads to it, `dead` if it is not heard.
    pub state: String,
    pub rows: u64,
    pub partitions: u64,
    /// The peers it hears now.
    pub links: Vec<NodeId>,
    /// The peers of its configuration.
    pub neighbors: Vec<NodeId>,
    pub heard_ms_ago: u64,
}

impl MemberStatus {
    /// Whether a peer that it hears is not one of its configuration.
    pub fn has_adopted(&self, peer: &NodeId) -> bool {
        self.links.contains(peer) && !self.neighbors.contains(peer)
    }
}

/// A partition as this node knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionStatus {
    pub date: String,
    pub partition: String,
    pub team: Team,
    /// `None` while nobody has counted.
    pub rows: Option<u64>,
    pub csv_bytes: u64,
    /// Nodes alive that hold it now.
    pub holders: Vec<NodeId>,
    /// Where it was held last, if nobody alive holds it.
    pub last_holders: Vec<NodeId>,
    /// Where it should be.
    pub placed: Vec<NodeId>,
    /// Holders that had no memory left for it and read it from disk for every scan.
    pub on_disk: Vec<NodeId>,
}

/// How it stands with one team at the Leader, or with the queries that name none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowMetrics {
    /// The team, or `none`.
    pub flow: String,
    pub active: u32,
    pub queued: u32,
    /// Ever started.
    pub admitted: u64,
    /// Ever refused.
    pub refused: u64,
    /// Ever sent away from the queue: for a flow or client that had less of it, or because too little time was left to end.
    pub displaced: u64,
    /// Of the last 200 that started; `None` before the first.
    pub wait_p50_us: Option<u64>,
    pub wait_p99_us: Option<u64>,
    /// Ever charged, in time of a core.
    pub charged_us: u64,
}

/// A link, seen from one end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerMetrics {
    pub peer: String,
    /// From an announcement to its answer; of the last ones.
    pub round_trip_us: u64,
}

/// A node's figures. The names of the earlier systems are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub process_id: String,
    pub role: String,
    pub team: String,
    pub state: String,
    pub is_healthy: bool,
    pub active_requests: u32,
    pub max_capacity: u32,
    pub queue_size: u32,
    /// Of the last 200.
    pub avg_processing_time_ms: f64,
    /// CSV files behind the partitions held.
    pub data_files_loaded: u64,
    /// Where its rows come from; empty if it holds no data.
    pub data_source: String,
    pub forwarding_strategy: String,
    pub async_forwarding: bool,
    pub chunking_strategy: String,
    pub fairness_strategy: String,
    pub rows_held: u64,
    pub partitions_held: u64,
    pub results: u32,
    pub result_bytes: u64,
    pub result_bytes_peak: u64,
    pub result_bytes_max: u64,
    /// Of results, beside those in memory.
    pub result_disk_bytes: u64,
    pub result_disk_bytes_peak: u64,
    pub result_disk_bytes_max: u64,
    /// Reserved for rows that running queries are going to keep.
    pub result_bytes_reserved: u64,
    /// Cores at work on queries.
    pub turns_given: u64,
    /// Work that waits for one: zones, plans, chunks.
    pub turns_waiting: u64,
    /// Queries, parts of their plans, and messages to clients that are being computed. A query that was cancelled gives
    /// its permit back at once; here it counts until its task has heard of it.
    pub plan_tasks: u64,
    /// Plans of SQL that was asked before, kept now.
    pub plan_cache_entries: u64,
    /// Statements whose plan was kept, since the start. What is planned the short way is not looked up.
    pub plan_cache_hits: u64,
    pub plan_cache_misses: u64,
    /// Partitions without room in memory of whose files it is known where what lies.
    pub footer_cache_entries: u64,
    /// What that takes.
    pub footer_cache_bytes: u64,
    /// Times that such a file was read from, since the start; with a miss it had to be read whole first.
    pub footer_cache_hits: u64,
    pub footer_cache_misses: u64,
    /// Of the process since its start; `None` where its system does not tell.
    pub cpu_ms: Option<u64>,
    /// Resident; `None` where its system does not tell.
    pub memory_bytes: Option<u64>,
    /// What left the node in the last seconds, to the next node of a route or to clients.
    pub rows_per_s: f64,
    pub bytes_per_s: f64,
    /// What the partitions held take in memory.
    pub data_bytes_held: u64,
    pub queue_peak: u32,
    pub queue_capacity: u32,
    pub active_peak: u32,
    pub queries_admitted: u64,
    pub queries_refused: u64,
    pub scans_running: u64,
    pub uptime_ms: u64,
    /// Every flow that a query was ever offered of, by name.
    pub flows: Vec<FlowMetrics>,
    /// Every neighbour whose link is up.
    pub peers: Vec<PeerMetrics>,
}
