//! Where data are and how to get there: who is in the overlay, which links are up, who should hold and who holds each
//! partition, and which node scans what for a query.
//!
//! Plain synchronous code: what is known, and the time, go in; a decision comes out. Nothing here talks to a network.

pub mod adoption;
pub mod announcements;
pub mod assignment;
pub mod forwarding;
pub mod known;
pub mod live_load;
pub mod path;
pub mod placement;
pub mod topology;
pub mod trace;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use announcements::{Announcement, Announcements, Load, NodeState, Received};
pub use assignment::{Assignment, Order, Snapshot, Tried};
pub use forwarding::Forwarding;
pub use known::{KnownPartition, PartitionStats};
pub use live_load::{Cores, LiveLoads};
pub use path::Path;
pub use placement::{Placement, Replicas};
pub use topology::{Link, Topology};

/// The configured id of a process, such as `A`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The id as written in the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(text: &str) -> NodeId {
        NodeId(text.into())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ids in their order, with this between them.
pub fn names<'a>(nodes: impl IntoIterator<Item = &'a NodeId>, between: &str) -> String {
    nodes.into_iter().map(NodeId::as_str).collect::<Vec<_>>().join(between)
}

/// The name of a team, such as `green`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Team(Arc<str>);

impl Team {
    /// The name as written in the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Team {
    fn from(text: &str) -> Team {
        Team(text.into())
    }
}

impl fmt::Display for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a process is for; any role may hold data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes the queries of clients and answers for them.
    Leader,
    /// The first hop of its team.
    TeamLeader,
    /// Scans.
    Worker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Leader => "leader",
            Role::TeamLeader => "team_leader",
            Role::Worker => "worker",
        })
    }
}
