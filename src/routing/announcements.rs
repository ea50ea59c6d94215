//! What every node last said of itself, and who counts as alive. It decides whether an announcement is news (and so
//! is flooded on) and when a silent node is forgotten; sending, timers and what follows from a death are the node's.
//!
//! A node numbers its announcements: (incarnation, sequence), and the incarnation grows at each start. An announcement
//! replaces all that its origin said before. The list of what a node knows is long and rarely changes; so most
//! announcements carry its digest only, and the list is kept if the digest is the same.
//!
//! Invariants: per origin the numbers accepted only grow, also past its death, so an old copy still in flight never
//! revives a node. Each announcement is passed on at most twice by each node (once without the list, once with it), so
//! flooding ends on any graph. Only configured origins are kept: that, and the transport's message limit, is the bound.
//!
//! Nodes believe each other: whoever is configured and reachable is believed in what it says, of others too. What is
//! guarded against is a fault, not an attack: a wrong number must not silence a node for good. A node that is told a
//! later number of itself than it gave counts on from there, and its own word stands again within a second or two.
//! Numbers beyond [`INCARNATION_MAX`], from where nobody could count on, are refused by `transport`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use overlay_ingest::PartitionId;
use serde::{Deserialize, Serialize};

use super::known::UNLISTED;
use super::{KnownPartition, Link, NodeId, Placement, Topology};

/// The highest incarnation that is taken from the wire or from disk; half of all numbers are left to count on.
pub const INCARNATION_MAX: u64 = u64::MAX / 2;

/// How far a node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It serves, but has no placement to load yet.
    Waiting,
    /// It loads partitions, and answers for those it holds.
    Loading,
    /// It holds what the placement asks of it.
    Ready,
    /// It finishes what it has and takes nothing new.
    Draining,
}

/// How busy a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Queries and scans running.
    pub active: u32,
    /// Work that waits: queries for a permit, zones and plans for a core.
    pub queued: u32,
    /// Cores that it uses for them; 0 if unknown.
    pub capacity: u32,
    /// Mean time that its last pieces of work kept a core busy, in milliseconds; 0 if unknown.
    pub service_ms: f32,
}

impl Load {
    /// Whether less is to be done than it has cores. Not if it has not told how many.
    pub fn has_room(&self) -> bool {
        self.active.saturating_add(self.queued) < self.capacity
    }
}

/// All that a node says of itself, once a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    pub origin: NodeId,
    /// Counts the starts of the node; kept on its disk.
    pub incarnation: u64,
    /// Counts the announcements of this incarnation.
    pub sequence: u64,
    pub state: NodeState,
    /// The peers it hears. A link counts when both ends report it.
    pub links: Vec<NodeId>,
    /// `known_digest` of the list, or `UNLISTED` while the node has not read its files.
    pub known_digest: u64,
    /// What it has the files of, by id; `None` means "as before, see the digest".
    pub known: Option<Arc<Vec<KnownPartition>>>,
    /// What it can scan right now, by id.
    pub holds: Arc<Vec<PartitionId>>,
    /// Those of them that it reads from disk for every scan; for people to see.
    pub on_disk: Arc<Vec<PartitionId>>,
    pub load: Load,
    /// Where partitions should be; only the Leader says so.
    pub placement: Option<Arc<Placement>>,
}

impl Announcement {
    /// Announcements of one origin are ordered by this.
    pub fn number(&self) -> (u64, u64) {
        (self.incarnation, self.sequence)
    }

    fn lacks_known(&self) -> bool {
        self.known.is_none() && self.known_digest != UNLISTED
    }
}

/// What an announcement was to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// News: flood it, as it came, to every neighbour but the sender.
    Fresh,
    /// News, but the list behind its digest is not here: flood it all the same, and ask the sender for the full one.
    NeedsKnown,
    /// Nothing new: drop it.
    Stale,
    /// Its origin is not configured: drop it.
    Unconfigured,
    /// It is a later announcement of this very node than it made itself: either its incarnation counter was lost (start
    /// again above the number given) or a second process runs under its id. Do not flood it.
    Impostor { incarnation: u64 },
}

/// The newest announcement of each node that is alive, this node's own included.
#[derive(Debug)]
pub struct Announcements {
    me: NodeId,
    configured: BTreeSet<NodeId>,
    forget_after: Duration,
    alive: BTreeMap<NodeId, Heard>,
    /// The highest number ever accepted, per origin; never forgotten, at most one per configured node.
    newest: BTreeMap<NodeId, (u64, u64)>,
}

#[derive(Debug)]
struct Heard {
    announcement: Announcement,
    at: Duration,
}

impl Announcements {
    /// Hears nobody yet; `announce` before the first `receive`, or old copies of this node's own words look like an
    /// impostor's. `configured` are the only ids accepted; `forget_after` is how long a silent node counts as
    /// alive (5 s; lower finds the dead sooner and takes a slow node for dead more easily; announcements come every
    /// second).
    pub fn new(me: NodeId, configured: BTreeSet<NodeId>, forget_after: Duration) -> Announcements {
        Announcements { me, configured, forget_after, alive: BTreeMap::new(), newest: BTreeMap::new() }
    }

    /// Replaces what this node says of itself, and gives what to flood: the list of the known goes along only if it
    /// changed. `own.known` must be the list (or `None` with `UNLISTED`).
    pub fn announce(&mut self, own: Announcement, now: Duration) -> Announcement {
        assert_eq!(own.origin, self.me, "a node announces itself only");
        let before = self.alive.get(&self.me).map(|heard| heard.announcement.known_digest);
        let mut to_flood = own.clone();
        if before == Some(own.known_digest) {
            to_flood.known = None;
        }
        self.keep(own, now);
        to_flood
    }

    /// Takes an announcement from a neighbour, of whichever origin.
    pub fn receive(&mut self, mut announcement: Announcement, now: Duration) -> Received {
        if !self.configured.contains(&announcement.origin) {
            return Received::Unconfigured;
        }
        let newest = self.newest.get(&announcement.origin).copied();
        if announcement.origin == self.me {
            let is_mine = newest.is_some_and(|mine| announcement.number() <= mine);
            return if is_mine {
                Received::Stale
            } else {
                Received::Impostor { incarnation: announcement.incarnation }
            };
        }
        let before = self.alive.get_mut(&announcement.origin).map(|heard| &mut heard.announcement);
        if newest.is_some_and(|newest| announcement.number() <= newest) {
            // The one thing an equal announcement can still bring is the list that was asked for.
            if let Some(held) = before
                && held.number() == announcement.number()
                && held.lacks_known()
                && held.known_digest == announcement.known_digest
                && announcement.known.is_some()
            {
                held.known = announcement.known;
                return Received::Fresh;
            }
            return Received::Stale;
        }
        if let Some(before) = before
            && announcement.known.is_none()
            && before.known_digest == announcement.known_digest
        {
            announcement.known = before.known.take();
        }
        let received = if announcement.lacks_known() { Received::NeedsKnown } else { Received::Fresh };
        self.keep(announcement, now);
        received
    }

    /// Forgets the nodes that were silent for longer than `forget_after`, and names them. Never forgets this node.
    pub fn expire(&mut self, now: Duration) -> Vec<NodeId> {
        let is_silent = |heard: &Heard| now.saturating_sub(heard.at) > self.forget_after;
        let dead: Vec<NodeId> = self
            .alive
            .iter()
            .filter(|(node, heard)| **node != self.me && is_silent(heard))
            .map(|(node, _)| node.clone())
            .collect();
        for node in &dead {
            self.alive.remove(node);
        }
        dead
    }

    /// The newest announcement of a node that is alive, with its list if that is here.
    pub fn get(&self, node: &NodeId) -> Option<&Announcement> {
        self.alive.get(node).map(|heard| &heard.announcement)
    }

    /// When a node that is alive was last heard.
    pub fn heard_at(&self, node: &NodeId) -> Option<Duration> {
        self.alive.get(node).map(|heard| heard.at)
    }

    /// The newest announcements of all nodes alive, by id; this node's own included.
    pub fn iter(&self) -> impl Iterator<Item = &Announcement> {
        self.alive.values().map(|heard| &heard.announcement)
    }

    /// The announcement of a node to send to a neighbour that asked for the full one; `None` if the node is not alive
    /// or its list is not here either.
    pub fn to_send_full(&self, origin: &NodeId) -> Option<Announcement> {
        self.get(origin).filter(|announcement| !announcement.lacks_known()).cloned()
    }

    /// The highest (incarnation, sequence) ever accepted of a node, dead or alive. A node that comes back with less
    /// lost its counter, and is told this number when it says hello.
    pub fn newest(&self, node: &NodeId) -> Option<(u64, u64)> {
        self.newest.get(node).copied()
    }

    /// The links that both ends report, among nodes alive.
    pub fn topology(&self) -> Topology {
        let reports = |from: &NodeId, to: &NodeId| self.get(from).is_some_and(|said| said.links.contains(to));
        let mut topology = Topology::default();
        for announcement in self.iter() {
            for peer in announcement.links.iter().filter(|peer| reports(peer, &announcement.origin)) {
                topology.insert(Link::between(&announcement.origin, peer));
            }
        }
        topology
    }

    fn keep(&mut self, announcement: Announcement, now: Duration) {
        let origin = announcement.origin.clone();
        self.newest.insert(origin.clone(), announcement.number());
        self.alive.insert(origin, Heard { announcement, at: now });
    }
}

#[cfg(test)]
#[path = "announcements_tests.rs"]
mod tests;
