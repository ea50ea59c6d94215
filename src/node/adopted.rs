//! Links that are not in the configuration: made when [`crate::routing::adoption`] says so, taken from others that are
//! cut off, and ended again.
//!
//! A link is two connections, so each end keeps a task that dials the other. The end that adopted decides when the link
//! goes; the task at the other end stops when it is refused, or when the peer was away for as long as makes a node dead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::links::keep_link;
use super::membership::Membership;
use crate::engine::executor::Clock;
use crate::routing::adoption::{Adoption, Step};
use crate::routing::{Link, NodeId};
use crate::transport::connector::SharedConnector;
use crate::transport::peer::{AddressOf, PeerLink, PeerLinks};
use crate::transport::services::{Hello, LinkKind};

/// How often a node looks whether it is cut off.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The adopted links of one node, of either end; at most one for each configured process.
pub struct AdoptedLinks {
    membership: Arc<Membership>,
    links: Arc<PeerLinks>,
    connector: SharedConnector,
    address_of: Arc<dyn Fn(&NodeId) -> AddressOf + Send + Sync>,
    hello: Hello,
    kept: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    /// Counts the links ever begun, which tells a link from a later one to the same peer.
    begun: u64,
    by_peer: BTreeMap<NodeId, Kept>,
}

struct Kept {
    number: u64,
    kind: LinkKind,
    task: AbortHandle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AdoptedLinks {
    /// None yet. `address_of` gives where a process can be dialled; `hello` is this node's greeting.
    pub fn new(
        membership: Arc<Membership>,
        links: Arc<PeerLinks>,
        connector: SharedConnector,
        address_of: Arc<dyn Fn(&NodeId) -> AddressOf + Send + Sync>,
        hello: Hello,
    ) -> AdoptedLinks {
        AdoptedLinks { membership, links, connector, address_of, hello, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Links> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this node has adopted a link to the peer.
    pub fn has_adopted(&self, peer: &NodeId) -> bool {
        self.kept().by_peer.get(peer).is_some_and(|kept| kept.kind == LinkKind::Adopted)
    }

    /// Keeps a link to the peer from now on, unless there is one. Must be called within a runtime.
    pub fn begin(self: &Arc<Self>, peer: &NodeId, kind: LinkKind) {
        let mut kept = self.kept();
        if kept.by_peer.contains_key(peer) {
            return;
        }
        kept.begun += 1;
        let number = kept.begun;
        self.membership.add_neighbor(peer);
        let link = PeerLink::new(Arc::clone(&self.connector), (self.address_of)(peer));
        self.links.insert(peer.clone(), link.clone());
        let hello = Hello { kind, ..self.hello.clone() };
        let keeper = keep_link(Arc::clone(&self.membership), Arc::clone(&self.links), peer.clone(), link, hello);
        let (this, peer_id) = (Arc::downgrade(self), peer.clone());
        let task = tokio::spawn(async move {
            let why = keeper.await;
            // Gone if the node ended in the meantime.
            if let Some(this) = this.upgrade() {
                this.end_if(&peer_id, |kept| kept.number == number, &why);
            }
        });
        kept.by_peer.insert(peer.clone(), Kept { number, kind, task: task.abort_handle() });
    }

    /// Ends the link that this node has adopted. Scans that run over it go on.
    fn give_up(&self, peer: &NodeId, why: &str) {
        self.end_if(peer, |kept| kept.kind == LinkKind::Adopted, why);
    }

    /// Ends all of them: the node ends.
    pub fn end_all(&self) {
        self.kept().by_peer.clear();
    }

    fn end_if(&self, peer: &NodeId, is_meant: impl FnOnce(&Kept) -> bool, why: &str) {
        let mut kept = self.kept();
        if kept.by_peer.get(peer).is_some_and(is_meant) {
            kept.by_peer.remove(peer);
            self.links.remove(peer);
            self.membership.remove_neighbor(peer);
            tracing::info!(%peer, why, "the adopted link has ended");
        }
    }
}

/// Looks after this node's own adoption until the node ends.
pub async fn keep_adopting(adopted: Weak<AdoptedLinks>, membership: Arc<Membership>, clock: Clock) {
    let mut adoption = Adoption::new(candidates(&membership), clock());
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(adopted) = adopted.upgrade() else { return };
        if let Some(peer) = adoption.adopted().cloned()
            && !adopted.has_adopted(&peer)
        {
            adoption.ended(&peer, clock());
        }
        match adoption.step(clock(), membership.heard_of_leader()) {
            Step::Rest => {}
            Step::Adopt(peer) => {
                tracing::warn!(%peer, "nothing is heard of the leader: adopting a link");
                adopted.begin(&peer, LinkKind::Adopted);
            }
            Step::GiveUp { node, why } => adopted.give_up(&node, why),
        }
    }
}

/// Whom this node may adopt a link to: the Leader, then the others, but not itself or who is next to it anyway.
fn candidates(membership: &Membership) -> Vec<NodeId> {
    let (config, me) = (membership.config(), membership.me());
    let leader = &config.leader().id;
    if !config.adopt_links || leader == me {
        return Vec::new();
    }
    let links = config.links();
    let is_candidate = |node: &&NodeId| *node != me && !links.contains(&Link::between(me, node));
    let mut candidates: Vec<NodeId> = config.processes.keys().filter(is_candidate).cloned().collect();
    candidates.sort_by_key(|node| node != leader);
    candidates
}
