//! What is told to each neighbour, and which links are live: hello, news out, and what follows when an exchange succeeds
//! or fails. When to speak is the tasks' in [`crate::node::links`] to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Membership, State};
use crate::routing::NodeId;
use crate::transport::services::{News, NewsAnswer};

/// A link counts as live this long after its last good exchange.
const LINK_LIVE: Duration = Duration::from_secs(4);

#[derive(Default)]
pub(super) struct Neighbor {
    /// The last good exchange.
    heard: Option<Duration>,
    /// From news to the answer, over about the last four.
    round_trip: Option<Duration>,
    /// The process that answered last, by its nonce.
    process: Option<u64>,
    /// Origins whose newest announcement it has not been sent.
    pub(super) unsent: BTreeSet<NodeId>,
    /// The digest of the known list that it was sent last, by origin.
    sent_known: BTreeMap<NodeId, u64>,
}

/// What to send to a neighbour, and how to take it back if that fails.
pub struct Outgoing {
    pub news: News,
    origins: Vec<(NodeId, u64)>,
}

impl Membership {
    /// What is to be told to a neighbour now; with no news at all, an empty message keeps the link alive.
    pub fn outgoing(&self, neighbor: &NodeId) -> Outgoing {
        let mut state = self.lock();
        let state = &mut *state;
        let mut news = News { from: self.me.clone(), incarnation: state.incarnation, announcements: Vec::new() };
        let mut origins = Vec::new();
        if let Some(entry) = state.neighbors.get_mut(neighbor) {
            for origin in std::mem::take(&mut entry.unsent) {
                let Some(mut announcement) = state.announcements.get(&origin).cloned() else { continue };
                if entry.sent_known.get(&origin) == Some(&announcement.known_digest) {
                    announcement.known = None;
                }
                origins.push((origin, announcement.known_digest));
                news.announcements.push(announcement);
            }
        }
        Outgoing { news, origins }
    }

    /// A link that is not in the configuration begins.
    pub fn add_neighbor(&self, peer: &NodeId) {
        self.lock().neighbors.entry(peer.clone()).or_default();
    }

    /// A link that is not in the configuration has ended.
    pub fn remove_neighbor(&self, peer: &NodeId) {
        self.lock().neighbors.remove(peer);
        self.announce_self();
    }

    /// The neighbour took the news, and answered after so long.
    pub fn told(&self, neighbor: &NodeId, outgoing: &Outgoing, answer: &NewsAnswer, took: Duration) {
        let now = (self.clock)();
        let came_up = {
            let mut state = self.lock();
            let Some(entry) = state.neighbors.get_mut(neighbor) else { return };
            let was_live = entry.is_live(now);
            entry.heard = Some(now);
            entry.process = Some(answer.nonce);
            entry.round_trip = Some(entry.round_trip.map_or(took, |before| (before * 3 + took) / 4));
            if let Some(load) = answer.load {
                state.live.replied(neighbor, load, now);
            }
            let Some(entry) = state.neighbors.get_mut(neighbor) else { return };
            entry.sent_known.extend(outgoing.origins.iter().cloned());
            for origin in &answer.wanted {
                entry.sent_known.remove(origin);
                entry.unsent.insert(origin.clone());
            }
            !was_live
        };
        if came_up {
            tracing::info!(%neighbor, "link up");
            self.announce_self();
        } else if !answer.wanted.is_empty() {
            self.bump();
        }
    }

    /// The neighbour said hello back: everything alive is news to it.
    pub fn greeted(&self, neighbor: &NodeId, nonce: u64) {
        let mut state = self.lock();
        state.refusal = None;
        let origins: BTreeSet<NodeId> = state.announcements.iter().map(|a| a.origin.clone()).collect();
        if let Some(entry) = state.neighbors.get_mut(neighbor) {
            entry.process = Some(nonce);
            entry.sent_known.clear();
            entry.unsent = origins;
        }
    }

    /// The exchange with the neighbour failed. `gone`: its process is not there, so the link is down at once.
    pub fn untold(&self, neighbor: &NodeId, outgoing: Option<Outgoing>, gone: bool) {
        let now = (self.clock)();
        let went_down = {
            let mut state = self.lock();
            let Some(entry) = state.neighbors.get_mut(neighbor) else { return };
            if let Some(outgoing) = outgoing {
                entry.unsent.extend(outgoing.origins.into_iter().map(|(origin, _)| origin));
            }
            let was_live = entry.heard.is_some();
            if gone || !entry.is_live(now) {
                entry.heard = None;
            }
            was_live && entry.heard.is_none()
        };
        if went_down {
            tracing::warn!(%neighbor, "link down");
            self.announce_self();
        }
    }

    /// How long neighbours take to answer, of those whose link is live.
    pub fn round_trips(&self) -> Vec<(NodeId, Duration)> {
        let now = (self.clock)();
        let state = self.lock();
        let live = state.neighbors.iter().filter(|(_, entry)| entry.is_live(now));
        live.filter_map(|(id, entry)| Some((id.clone(), entry.round_trip?))).collect()
    }

    /// A neighbour refuses the link, in its words.
    pub fn refused(&self, refusal: String) {
        self.lock().refusal = Some(refusal);
    }

    /// The process, by its nonce, that a neighbour was at the last exchange, while its link is live.
    pub fn live_process(&self, neighbor: &NodeId) -> Option<u64> {
        let now = (self.clock)();
        let state = self.lock();
        state.neighbors.get(neighbor).filter(|entry| entry.is_live(now)).and_then(|entry| entry.process)
    }
}

impl Neighbor {
    fn is_live(&self, now: Duration) -> bool {
        self.heard.is_some_and(|heard| now.saturating_sub(heard) <= LINK_LIVE)
    }
}

impl State {
    pub(super) fn live_links(&self, now: Duration) -> Vec<NodeId> {
        self.neighbors.iter().filter(|(_, entry)| entry.is_live(now)).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn tell_all_but(&mut self, origin: &NodeId, sender: Option<&NodeId>) {
        for (id, entry) in &mut self.neighbors {
            if Some(id) != sender && id != origin {
                entry.unsent.insert(origin.clone());
            }
        }
    }
}
