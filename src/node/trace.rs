//! The route probe: visits every node over the paths that a query's orders would take, and brings back the tree of hops
//! with times.
//!
//! The node that is asked chooses the paths, as a reader does; nodes on the way follow them and measure their branches.
//! A branch that fails is a leaf of the tree with its reason, and takes nothing else along.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::membership::Membership;
use super::queries::state_name;
use super::view::micros;
use crate::engine::executor::Clock;
use crate::engine::store::Store;
use crate::failure::{Failure, FailureKind};
use crate::routing::assignment::{Branch, split};
use crate::routing::path::shortest;
use crate::routing::trace::{Trace, TraceBranch, TraceHop, TraceRequest};
use crate::routing::{NodeId, Order};
use crate::transport::peer::PeerLinks;
use futures::future::join_all;

/// How much of its time a node keeps for itself, so that a branch that hangs is told of and does not hang its asker.
const HOP_MARGIN: Duration = Duration::from_millis(100);

/// What a node needs to take part.
#[derive(Clone)]
pub struct Tracer {
    pub membership: Arc<Membership>,
    pub links: Arc<PeerLinks>,
    pub store: Arc<Store>,
    pub clock: Clock,
}

impl Tracer {
    /// Visits every node that can be reached from here.
    pub async fn all(&self, time_left: Duration) -> Trace {
        let (paths, unreached) = self.paths();
        let root = self.visit(TraceRequest { hops: Vec::new(), paths, time_left }).await;
        Trace { root, unreached }
    }

    /// The paths of a query of this node to everybody else.
    fn paths(&self) -> (Vec<Order>, Vec<NodeId>) {
        let config = self.membership.config();
        let me = self.membership.me();
        let topology = self.membership.with_announcements(|said| said.topology());
        let (mut paths, mut unreached) = (Vec::new(), Vec::new());
        for process in config.processes.values().filter(|process| process.id != *me) {
            let prefer = |node: &NodeId| config.process(node).is_some_and(|on_way| on_way.team == process.team);
            match shortest(&topology, me, &process.id, &prefer, &BTreeSet::new()) {
                Some(path) => paths.push(Order { path, partitions: Vec::new() }),
                None => unreached.push(process.id.clone()),
            }
        }
        (paths, unreached)
    }

    /// Answers for this node and what lies behind it.
    ///
    /// Errors: the probe came in a circle.
    pub async fn follow(&self, request: TraceRequest) -> Result<TraceHop, Failure> {
        let me = self.membership.me();
        if request.hops.contains(me) {
            return Err(Failure::new(FailureKind::Internal, "LOOP", format!("{me} is on the route already")).at(me));
        }
        Ok(self.visit(request).await)
    }

    async fn visit(&self, request: TraceRequest) -> TraceHop {
        let arrived = (self.clock)();
        let me = self.membership.me();
        let hops: Vec<NodeId> = request.hops.iter().chain([me]).cloned().collect();
        let time_left = request.time_left.saturating_sub(HOP_MARGIN);
        let branches = split(me, request.paths).branches.into_iter();
        let branches = join_all(branches.map(|branch| self.branch(branch, hops.clone(), time_left))).await;
        let process = self.membership.config().process(me).unwrap_or_else(|| self.membership.config().leader());
        TraceHop {
            node: me.clone(),
            role: process.role,
            team: process.team.clone(),
            state: state_name(self.membership.node_state().0).to_owned(),
            partitions: self.store.ids().len() as u64,
            rows: self.store.rows(),
            elapsed_us: micros((self.clock)().saturating_sub(arrived)),
            branches,
        }
    }

    async fn branch(&self, branch: Branch, hops: Vec<NodeId>, time_left: Duration) -> TraceBranch {
        let Branch { next, orders } = branch;
        let config = self.membership.config();
        let adopted = config.process(self.membership.me()).is_none_or(|process| !process.neighbors.contains(&next));
        let asked = (self.clock)();
        let answered = match self.links.get(&next) {
            Some(link) => link.trace(TraceRequest { hops, paths: orders, time_left }, time_left).await,
            None => Err(Failure::new(FailureKind::Unavailable, "NO_LINK", "the link is gone")),
        };
        let took = (self.clock)().saturating_sub(asked);
        let (hop, failure) = match answered {
            Ok(hop) => (Some(hop), None),
            Err(failure) => (None, Some(failure.to_string())),
        };
        let behind = hop.as_ref().map_or(0, |hop| hop.elapsed_us);
        TraceBranch { next, adopted, link_us: micros(took).saturating_sub(behind), hop, failure }
    }
}
