//! When a node that is cut off from the Leader makes a link of its own, to whom, and when it gives that link up.
//!
//! A node that has heard nothing new of the Leader for [`SILENCE`] *adopts* a link: to the Leader, else to the first
//! other node that takes it, which one does only if it hears the Leader itself and not through the asker. An adopted
//! link that brings no news of the Leader is given up for the next candidate; after a round without success there is a
//! pause, which doubles. Once configured links have led to the Leader for [`GIVE_UP_AFTER`], the adopted link goes.
//!
//! Plain state: dialling, timers and the neighbours' answers are the node's.
//!
//! Invariant: at most one adopted link per node at any time, so at most one per configured node in the whole overlay.
//! Argument that it comes to rest: links are given up only when the Leader is silent (then they are of no use) or when
//! configured links have reached it for a while. Those are judged by the links that both ends announce, adopted ones
//! left out; so giving an adopted link up never takes away what the judgement rests on, neither here nor elsewhere.

use std::time::Duration;

use super::NodeId;

/// How long the Leader may be silent: three of its announcements. Less takes a busy Leader for a lost one.
pub const SILENCE: Duration = Duration::from_secs(3);
/// How long configured links must have led to the Leader before the adopted one goes: a link that flaps is not worth a
/// change of every path.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// The first pause after a round of candidates none of which helped, and the longest.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// What a node knows when it decides.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// When the newest announcement of the Leader came, by whatever way; `None` if the Leader counts as dead.
    pub leader_at: Option<Duration>,
    /// Whether links of the configuration that both ends report lead to the Leader.
    pub configured_path: bool,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Make a link to this node; call [`Adoption::ended`] if that fails or the link ends.
    Adopt(NodeId),
    /// End the adopted link to this node.
    GiveUp { node: NodeId, why: &'static str },
}

/// The state of one node's adoption.
#[derive(Debug)]
pub struct Adoption {
    /// The Leader first, then in the order in which they are tried.
    candidates: Vec<NodeId>,
    /// Which candidate is next.
    next: usize,
    /// No attempt before this.
    not_before: Duration,
    backoff: Duration,
    leader_at: Duration,
    configured_since: Option<Duration>,
    adopted: Option<(NodeId, Duration)>,
}

impl Adoption {
    /// A node that has adopted nothing, at its start. `candidates` are all configured nodes but itself and those it has
    /// links to anyway, the Leader first. Without candidates (or with `adopt_links` false) it never adopts.
    pub fn new(candidates: Vec<NodeId>, now: Duration) -> Adoption {
        Adoption {
            candidates,
            next: 0,
            not_before: now,
            backoff: BACKOFF_MIN,
            leader_at: now,
            configured_since: None,
            adopted: None,
        }
    }

    /// What to do now; to be asked a few times a second.
    pub fn step(&mut self, now: Duration, heard: Heard) -> Step {
        self.leader_at = heard.leader_at.map_or(self.leader_at, |at| at.max(self.leader_at));
        let is_silent = now.saturating_sub(self.leader_at) >= SILENCE;
        self.configured_since = if heard.configured_path { self.configured_since.or(Some(now)) } else { None };
        let Some((node, since)) = self.adopted.clone() else {
            return if is_silent && now >= self.not_before { self.adopt_next(now) } else { Step::Rest };
        };
        if !is_silent {
            self.backoff = BACKOFF_MIN;
        }
        let why = if is_silent && now.saturating_sub(since) >= SILENCE {
            "it brings no news of the leader"
        } else if self.configured_since.is_some_and(|since| now.saturating_sub(since) >= GIVE_UP_AFTER) {
            "configured links lead to the leader again"
        } else {
            return Step::Rest;
        };
        if is_silent {
            self.failed(now);
        } else {
            self.next = 0;
        }
        self.adopted = None;
        Step::GiveUp { node, why }
    }

    /// The adopted link to this node could not be made, or has ended.
    pub fn ended(&mut self, node: &NodeId, now: Duration) {
        if self.adopted.as_ref().is_some_and(|(adopted, _)| adopted == node) {
            self.adopted = None;
            self.failed(now);
        }
    }

    /// The node that the adopted link leads to, made or in the making.
    pub fn adopted(&self) -> Option<&NodeId> {
        self.adopted.as_ref().map(|(node, _)| node)
    }

    fn adopt_next(&mut self, now: Duration) -> Step {
        let Some(node) = self.candidates.get(self.next).cloned() else { return Step::Rest };
        self.adopted = Some((node.clone(), now));
        Step::Adopt(node)
    }

    /// On to the next candidate, after the last one with a pause.
    fn failed(&mut self, now: Duration) {
        self.next += 1;
        if self.next >= self.candidates.len() {
            self.next = 0;
            self.not_before = now + self.backoff;
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        }
    }
}

#[cfg(test)]
#[path = "adoption_tests.rs"]
mod tests;
