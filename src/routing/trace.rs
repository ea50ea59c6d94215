//! The words of the route probe: what a node on the way is asked, and the tree of hops that comes back.
//!
//! Only data: `node` visits and measures.

use std::time::Duration;

use serde::Serialize;

use super::{NodeId, Order, Role, Team};

/// What one node is asked: to visit what lies behind it on these paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRequest {
    /// The nodes so far, the one that was asked first.
    pub hops: Vec<NodeId>,
    /// Paths from the node that was asked first; each names the node that gets this.
    pub paths: Vec<Order>,
    pub time_left: Duration,
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceHop {
    pub node: NodeId,
    pub role: Role,
    pub team: Team,
    /// waiting, loading, ready or draining.
    pub state: String,
    pub partitions: u64,
    pub rows: u64,
    /// From the arrival of the probe here to the answer, in microseconds; branches included, which run side by side.
    pub elapsed_us: u64,
    pub branches: Vec<TraceBranch>,
}

/// A link of the tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceBranch {
    pub next: NodeId,
    /// Not a link of the configuration.
    pub adopted: bool,
    /// The call over this link less the time that the next node spent: the link itself, both ways, in microseconds.
    pub link_us: u64,
    /// What is behind it; `None` if it failed.
    pub hop: Option<TraceHop>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// The tree, and who is not in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trace {
    pub root: TraceHop,
    /// Configured nodes to which no path of live links leads.
    pub unreached: Vec<NodeId>,
}
