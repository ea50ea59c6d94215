//! Which partitions there are, and at the Leader who shall hold them; everybody else follows the Leader's placement. Where
//! a partition belongs is decided by [`crate::routing::placement`].

use std::sync::Arc;
use std::time::Duration;

use super::{MANIFEST_FILE, Membership, PLACEMENT_FILE, State};
use crate::leader::manifest::Manifest;
use crate::routing::NodeId;
use crate::routing::placement::{Placement, PlacementInput, ToPlace, place};

/// How long the Leader waits for members that never spoke before it places what is known: long enough for processes
/// started together, short enough to serve what there is.
const FIRST_PLACEMENT_GRACE: Duration = Duration::from_secs(5);

/// A manifest, and what it was made of: who lives and said which list, and what is stored of the others.
pub(super) struct Made {
    said: Vec<(NodeId, u64, bool)>,
    changes: u64,
    manifest: Arc<Manifest>,
}

impl Membership {
    /// Computes the placement anew; true if it changed.
    pub(super) fn replace_placement(&self) -> bool {
        let now = (self.clock)();
        let mut state = self.lock();
        let before = state.placement.as_ref().map(|placement| placement.version);
        self.place(&mut state, now);
        state.placement.as_ref().map(|placement| placement.version) != before
    }

    pub(super) fn place(&self, state: &mut State, now: Duration) {
        let manifest = self.manifest_of(state);
        let waits = !manifest.unheard.is_empty() && now.saturating_sub(state.started) < FIRST_PLACEMENT_GRACE;
        if state.placement.is_none() && waits {
            return;
        }
        let members = self.config.processes.values().filter(|process| process.holds_data);
        let partitions = manifest.partitions.values().map(|entry| ToPlace {
            id: entry.known.id,
            csv_bytes: entry.known.csv_bytes,
            team: entry.team.clone(),
            knowers: entry.knowers.clone(),
        });
        let placement = place(&PlacementInput {
            leader: self.me.clone(),
            incarnation: state.incarnation,
            members: members.map(|process| (process.id.clone(), process.team.clone())).collect(),
            partitions: partitions.collect(),
            topology: self.config.links(),
            replicas: self.config.replicas,
        });
        self.adopt_placement(state, Arc::new(placement));
    }

    pub(super) fn adopt_placement(&self, state: &mut State, placement: Arc<Placement>) {
        let is_new = state.placement.as_ref().is_none_or(|held| held.version != placement.version);
        state.placement = Some(Arc::clone(&placement));
        if is_new {
            if let Err(error) = self.state_dir.store(PLACEMENT_FILE, &*placement) {
                tracing::warn!(%error, "the placement could not be stored");
            }
            self.placement.send_replace(Some(placement));
        }
    }

    /// Made anew only when one of the lists that it is made of is another: every query asks for it, and announcements
    /// come every second to say that nothing changed. A digest stands for the list it is of.
    pub(super) fn manifest_of(&self, state: &mut State) -> Arc<Manifest> {
        let said =
            state.announcements.iter().map(|said| (said.origin.clone(), said.known_digest, said.known.is_some()));
        let (said, changes) = (said.collect::<Vec<_>>(), state.stored.changes());
        if let Some(made) = state.made.as_ref().filter(|made| made.said == said && made.changes == changes) {
            return Arc::clone(&made.manifest);
        }
        let manifest = Arc::new(Manifest::build(&self.expected, state.announcements.iter(), &state.stored));
        state.made = Some(Made { said, changes, manifest: Arc::clone(&manifest) });
        manifest
    }

    /// The Leader's view of all partitions, as of now.
    pub fn manifest(&self) -> Arc<Manifest> {
        self.manifest_of(&mut self.lock())
    }

    pub(super) fn store_manifest(&self, state: &State) {
        if let Err(error) = self.state_dir.store(MANIFEST_FILE, &state.stored) {
            tracing::warn!(%error, "the manifest could not be stored");
        }
    }

    /// The placement as it stands.
    pub fn placement(&self) -> Option<Arc<Placement>> {
        self.lock().placement.clone()
    }
}
