//! What this node says of itself: its state, what it knows and holds, how busy it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use overlay_ingest::PartitionId;

use super::Membership;
use crate::engine::store::Store;
use crate::routing::announcements::{Announcement, Load, NodeState};
use crate::routing::known::{KnownPartition, PartitionStats, UNLISTED, known_digest};

impl Membership {
    /// Says anew what this node is, has and hears; to be called every second and after every change.
    pub fn announce_self(&self) {
        let now = (self.clock)();
        {
            let mut state = self.lock();
            if self.is_leader() {
                self.place(&mut state, now);
            }
            state.sequence += 1;
            let links = state.live_links(now);
            let own = Announcement {
                origin: self.me.clone(),
                incarnation: state.incarnation,
                sequence: state.sequence,
                state: state.node_state,
                links,
                known_digest: state.known_digest,
                known: (state.known_digest != UNLISTED).then(|| Arc::clone(&state.known)),
                holds: Arc::clone(&state.holds),
                on_disk: Arc::clone(&state.on_disk),
                load: state.load,
                placement: if self.is_leader() { state.placement.clone() } else { None },
            };
            let remembered = state.stored.replace(&own);
            state.announcements.announce(own, now);
            state.tell_all_but(&self.me, None);
            if remembered {
                self.store_manifest(&state);
            }
        }
        self.bump();
    }

    /// This node holds what is in the store from now on.
    pub fn set_held(&self, store: &Store, node_state: NodeState) {
        {
            let mut state = self.lock();
            state.holds = Arc::new(store.ids());
            state.on_disk = Arc::new(store.ids_on_disk());
            if state.node_state != NodeState::Draining {
                state.node_state = node_state;
            }
        }
        self.announce_self();
    }

    /// This node has the files of these partitions from now on, and holds what is in the store: said in one announcement.
    pub fn set_known(&self, known: Arc<Vec<KnownPartition>>, store: &Store) {
        {
            let mut state = self.lock();
            state.known_digest = known_digest(&known);
            state.known = known;
            state.holds = Arc::new(store.ids());
            state.on_disk = Arc::new(store.ids_on_disk());
        }
        self.announce_self();
    }

    /// Rows and bounds of partitions that were named before they were read; told with the next announcement.
    pub fn count(&self, counted: &BTreeMap<PartitionId, PartitionStats>) {
        let mut state = self.lock();
        let is_new = |known: &KnownPartition| known.stats.is_none() && counted.contains_key(&known.id);
        if !state.known.iter().any(is_new) {
            return;
        }
        for known in Arc::make_mut(&mut state.known).iter_mut().filter(|known| is_new(known)) {
            known.stats = counted.get(&known.id).cloned();
        }
        state.known_digest = known_digest(&state.known);
    }

    /// This node takes no new work.
    pub fn set_draining(&self) {
        self.lock().node_state = NodeState::Draining;
        self.announce_self();
    }

    /// How busy this node is; told with the next announcement.
    pub fn set_load(&self, load: Load) {
        self.lock().load = load;
    }
}
