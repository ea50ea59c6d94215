//! The overlay as the leaves of a query at this node see it.

use std::collections::BTreeSet;
use std::sync::Arc;

use overlay_ingest::PartitionId;

use super::Membership;
use crate::engine::hop::Hop;
use crate::engine::reader::Overview;
use crate::routing::NodeId;
use crate::routing::assignment::Snapshot;
use crate::routing::path::shortest;

/// What the leaves of a query at this node see.
pub struct NodeOverview {
    pub membership: Arc<Membership>,
    pub hop: Arc<Hop>,
}

impl Overview for NodeOverview {
    fn snapshot(&self) -> Snapshot {
        let config = &self.membership.config;
        let mut snapshot =
            self.membership.with_announcements(|said| Snapshot::of(self.membership.me.clone(), config.members(), said));
        // What this node holds it knows better than its last announcement.
        if let Some(own) = snapshot.nodes.get_mut(&self.membership.me) {
            own.holds = Arc::new(self.hop.store.ids().into_iter().collect());
            own.alive = true;
        }
        snapshot
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
