//! The overlay as the leaves of a query at this node see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use overlay_ingest::PartitionId;

use super::Membership;
use crate::engine::hop::Hop;
use crate::engine::reader::Overview;
use crate::routing::assignment::{Order, Snapshot};
use crate::routing::path::shortest;
use crate::routing::{Cores, Load, NodeId};

/// For how long a node's word tells what its cores have to do. Busy nodes reply many times a second. One that has said
/// nothing for so long may stand still, and what it was ordered must not keep the others from work; or it is at long
/// scans, and queries more do little harm. Higher: who needs the others waits so long for one that stands still.
const SPOKE_WITHIN: Duration = Duration::from_millis(250);

/// What the leaves of a query at this node see.
pub struct NodeOverview {
    pub membership: Arc<Membership>,
    pub hop: Arc<Hop>,
}

impl Membership {
    /// The cores of the other nodes that scan, as far as they told just now; none if none did.
    pub fn cores_of_others(&self) -> Option<Cores> {
        let now = (self.clock)();
        let state = self.lock();
        let loads = state.announcements.iter().map(|said| (&said.origin, said.load)).filter_map(|(node, announced)| {
            let scans = *node != self.me && self.config.process(node).is_some_and(|process| process.holds_data);
            let heard_at = state.announcements.heard_at(node);
            let spoke_at =
                heard_at.max(state.live.replied_at(node)).filter(|at| now.saturating_sub(*at) <= SPOKE_WITHIN);
            spoke_at.filter(|_| scans).map(|_| state.live.load(node, announced, heard_at, now))
        });
        Cores::of(loads)
    }

    /// Waits until a node replies that it has less to do than cores.
    pub async fn room_told(&self) {
        self.room_told.notified().await;
    }
}

impl Overview for NodeOverview {
    fn snapshot(&self) -> Snapshot {
        let config = &self.membership.config;
        let now = (self.membership.clock)();
        let mut snapshot = {
            let state = self.membership.lock();
            let said = &state.announcements;
            let mut snapshot = Snapshot::of(self.membership.me.clone(), config.members(), said);
            for (node, view) in &mut snapshot.nodes {
                view.load = state.live.load(node, view.load, said.heard_at(node), now);
            }
            snapshot
        };
        // What this node holds it knows better than its last announcement.
        if let Some(own) = snapshot.nodes.get_mut(&self.membership.me) {
            own.holds = Arc::new(self.hop.store.ids().into_iter().collect());
            own.alive = true;
        }
        snapshot
    }

    fn replied(&self, node: &NodeId, load: Load) {
        // A name that nobody is configured by is kept by nobody.
        if self.membership.config.process(node).is_some() {
            let now = (self.membership.clock)();
            self.membership.lock().live.replied(node, load, now);
            if load.has_room() {
                self.membership.room_told.notify_one();
            }
        }
    }

    fn ordered(&self, orders: &[Order]) {
        let now = (self.membership.clock)();
        let mut state = self.membership.lock();
        for order in orders {
            let holder = order.path.holder();
            let announced_at = state.announcements.heard_at(holder);
            state.live.ordered(holder, order.partitions.len() as u32, announced_at, now);
        }
    }

    fn last_holder(&self, id: &PartitionId) -> Option<(NodeId, Vec<NodeId>)> {
        let holder = self.membership.last_holders(id).into_iter().next().or_else(|| {
            let placement = self.membership.placement()?;
            placement.holders.get(id).and_then(|holders| holders.first().cloned())
        })?;
        let config = &self.membership.config;
        let team = config.process(&holder).map(|process| process.team.clone());
        let prefer = |node: &NodeId| config.process(node).map(|process| &process.team) == team.as_ref();
        let path = shortest(&config.links(), &self.membership.me, &holder, &prefer, &BTreeSet::new());
        Some((holder, path.map(|path| path.nodes().to_vec()).unwrap_or_default()))
    }
}
