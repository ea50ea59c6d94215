//! What was heard of others, for those who ask: who lives, who holds what, whether the Leader is heard.

use std::time::Duration;

use overlay_ingest::PartitionId;

use super::Membership;
use crate::routing::adoption::{Heard, SILENCE};
use crate::routing::announcements::{Announcements, NodeState};
use crate::routing::{NodeId, Topology};

impl Membership {
    /// How this node is, and what it waits for.
    pub fn node_state(&self) -> (NodeState, String) {
        let state = self.lock();
        let mut waiting = String::new();
        if state.node_state == NodeState::Waiting {
            let leader = self.config.leader();
            waiting = format!("{} at {}:{}", leader.id, leader.host, leader.port);
        }
        if let Some(refusal) = &state.refusal {
            let gap = if waiting.is_empty() { "" } else { "; " };
            waiting = format!("{waiting}{gap}{refusal}");
        }
        (state.node_state, waiting)
    }

    /// Whether and how this node hears the Leader.
    pub fn heard_of_leader(&self) -> Heard {
        let leader = &self.config.leader().id;
        let configured = self.config.links();
        let state = self.lock();
        let up: Topology = state.announcements.topology().links().filter(|link| configured.contains(link)).collect();
        Heard {
            leader_at: state.announcements.heard_at(leader),
            configured_path: up.reachable(&self.me).contains(leader),
        }
    }

    /// Whether this node would hear the Leader if the peer were not there: only then a link to it is of use to the peer.
    pub fn hears_leader_without(&self, peer: &NodeId) -> bool {
        let leader = &self.config.leader().id;
        let now = (self.clock)();
        let state = self.lock();
        let is_heard = state.announcements.heard_at(leader).is_some_and(|at| now.saturating_sub(at) < SILENCE);
        let others = state.announcements.topology().among(&|node| node != peer);
        *leader == self.me || (is_heard && others.reachable(&self.me).contains(leader))
    }

    /// The highest incarnation ever heard of a node.
    pub fn newest_incarnation(&self, node: &NodeId) -> u64 {
        self.lock().announcements.newest(node).map_or(0, |(incarnation, _)| incarnation)
    }

    /// Runs a function on the announcements of the nodes alive.
    pub fn with_announcements<T>(&self, read: impl FnOnce(&Announcements) -> T) -> T {
        read(&self.lock().announcements)
    }

    /// Where a partition was held last, as far as anybody said.
    pub fn last_holders(&self, id: &PartitionId) -> Vec<NodeId> {
        self.lock().stored.last_holders(id)
    }

    /// Who holds a partition now, of the nodes alive.
    pub fn holders(&self, id: &PartitionId) -> Vec<NodeId> {
        let state = self.lock();
        let holders = state.announcements.iter().filter(|said| said.holds.contains(id));
        holders.map(|said| said.origin.clone()).collect()
    }

    /// How long ago a node alive was heard.
    pub fn heard_ago(&self, node: &NodeId) -> Option<Duration> {
        let now = (self.clock)();
        self.lock().announcements.heard_at(node).map(|at| now.saturating_sub(at))
    }
}
