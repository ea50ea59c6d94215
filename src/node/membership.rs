//! What this node knows of the overlay and says of itself: announcements in and out, live links, placement.
//!
//! Plain synchronous state behind one lock; the tasks in [`super::links`] and [`super::loading`] act on it. It decides
//! what is news. What this node says of itself is in [`own`], what each neighbour is told in [`exchange`], what there is
//! and who shall hold it in [`placing`], what was heard in [`heard`], what queries see in [`overview`]. Who scans what is
//! decided by `routing`.

mod exchange;
mod heard;
mod overview;
mod own;
mod placing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overlay_ingest::PartitionId;
use tokio::sync::{Notify, watch};

use super::state_dir::StateDir;
use crate::config::Config;
use crate::engine::executor::Clock;
use crate::engine::message::NodeInstance;
use crate::failure::{Failure, FailureKind};
use crate::leader::manifest::{Expected, StoredManifest};
use crate::routing::announcements::{Announcement, Announcements, Load, NodeState, Received};
use crate::routing::known::{KnownPartition, UNLISTED, known_digest};
use crate::routing::placement::Placement;
use crate::routing::{LiveLoads, NodeId};
use crate::transport::services::{News, NewsAnswer};

use exchange::Neighbor;
pub use overview::NodeOverview;
use placing::Made;

/// How long a silent node counts as alive; announcements come every second.
pub const FORGET_AFTER: Duration = Duration::from_secs(5);

const MANIFEST_FILE: &str = "manifest.json";
const PLACEMENT_FILE: &str = "placement.json";

/// Shared by all tasks of a node.
pub struct Membership {
    me: NodeId,
    config: Arc<Config>,
    nonce: u64,
    /// Who should speak of which dates.
    expected: Expected,
    clock: Clock,
    state_dir: StateDir,
    state: Mutex<State>,
    /// Bumped whenever a neighbour has something to be told.
    news: watch::Sender<u64>,
    /// The placement this node acts on.
    placement: watch::Sender<Option<Arc<Placement>>>,
    /// Bumped whenever an announcement changed what is known.
    changed: watch::Sender<u64>,
    /// Told when a node replies that it has less to do than cores.
    room_told: Notify,
}

struct State {
    incarnation: u64,
    sequence: u64,
    started: Duration,
    announcements: Announcements,
    stored: StoredManifest,
    /// The last manifest that somebody asked for.
    made: Option<Made>,
    node_state: NodeState,
    known: Arc<Vec<KnownPartition>>,
    known_digest: u64,
    holds: Arc<Vec<PartitionId>>,
    on_disk: Arc<Vec<PartitionId>>,
    load: Load,
    live: LiveLoads,
    neighbors: BTreeMap<NodeId, Neighbor>,
    placement: Option<Arc<Placement>>,
    /// The last refusal of a neighbour, in words; for `status`.
    refusal: Option<String>,
}

impl Membership {
    /// The state at the start of a process: what the folder remembers, nobody heard.
    pub fn new(
        me: NodeId,
        config: Arc<Config>,
        clock: Clock,
        state_dir: StateDir,
        known: Option<Vec<KnownPartition>>,
        nonce: u64,
    ) -> Result<Membership, super::state_dir::StateError> {
        let incarnation = state_dir.next_incarnation()?;
        let stored: StoredManifest = state_dir.load(MANIFEST_FILE)?.unwrap_or_default();
        let placement: Option<Arc<Placement>> = state_dir.load::<Placement>(PLACEMENT_FILE)?.map(Arc::new);
        let process = config.process(&me);
        let holds_data = process.is_some_and(|process| process.holds_data);
        let neighbors = process.map(|process| process.neighbors.clone()).unwrap_or_default();
        let known = Arc::new(known.unwrap_or_default());
        let configured = config.processes.keys().cloned().collect();
        let now = clock();
        let state = State {
            incarnation,
            sequence: 0,
            started: now,
            announcements: Announcements::new(me.clone(), configured, FORGET_AFTER),
            stored,
            made: None,
            node_state: if holds_data { NodeState::Waiting } else { NodeState::Ready },
            known_digest: if holds_data { known_digest(&known) } else { UNLISTED },
            known,
            holds: Arc::new(Vec::new()),
            on_disk: Arc::new(Vec::new()),
            load: Load::default(),
            live: LiveLoads::default(),
            neighbors: neighbors.into_iter().map(|id| (id, Neighbor::default())).collect(),
            placement: placement.clone(),
            refusal: None,
        };
        let membership = Membership {
            me,
            nonce,
            expected: Expected { members: config.all_data_members(), ranges: config.team_ranges() },
            config,
            clock,
            state_dir,
            state: Mutex::new(state),
            news: watch::Sender::new(0),
            placement: watch::Sender::new(placement),
            changed: watch::Sender::new(0),
            room_told: Notify::new(),
        };
        membership.announce_self();
        Ok(membership)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's id.
    pub fn me(&self) -> &NodeId {
        &self.me
    }

    /// The cluster's configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The folder with this node's files.
    pub fn state_dir(&self) -> &StateDir {
        &self.state_dir
    }

    /// The random number of this process.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// This start of this node.
    pub fn instance(&self) -> NodeInstance {
        NodeInstance { id: self.me.clone(), incarnation: self.lock().incarnation }
    }

    /// Follows what neighbours have to be told.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Follows the placement this node acts on.
    pub fn placements(&self) -> watch::Receiver<Option<Arc<Placement>>> {
        self.placement.subscribe()
    }

    /// Follows what is known of others.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether this node is the configured Leader.
    pub fn is_leader(&self) -> bool {
        self.config.leader().id == self.me
    }

    fn bump(&self) {
        self.news.send_modify(|count| *count += 1);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes a neighbour's news in. Everything new is passed on to the other neighbours.
    pub fn receive(&self, news: News) -> Result<NewsAnswer, Failure> {
        let now = (self.clock)();
        let mut wanted = Vec::new();
        let (mut fresh, mut raised) = (false, false);
        let incarnation = {
            let mut state = self.lock();
            if !state.neighbors.contains_key(&news.from) {
                let message = format!("{} has no link to {}", self.me, news.from);
                return Err(Failure::new(FailureKind::FailedPrecondition, "NOT_A_NEIGHBOR", message).at(&self.me));
            }
            let mut remembered = false;
            for announcement in news.announcements {
                let (origin, number) = (announcement.origin.clone(), announcement.number());
                let received = state.announcements.receive(announcement, now);
                match received {
                    Received::Fresh | Received::NeedsKnown => {
                        fresh = true;
                        state.tell_all_but(&origin, Some(&news.from));
                        if received == Received::NeedsKnown {
                            wanted.push(origin.clone());
                        }
                        remembered |= self.follow(&mut state, &origin);
                    }
                    Received::Impostor { incarnation } => {
                        state.incarnation = incarnation + 1;
                        raised = true;
                    }
                    Received::Stale if state.announcements.newest(&origin) > Some(number) => {
                        // The sender is behind. If the origin itself is, nothing that it says will be news until it
                        // hears what is remembered of it, and counts on from there.
                        if let Some(entry) = state.neighbors.get_mut(&news.from) {
                            entry.unsent.insert(origin);
                        }
                    }
                    Received::Stale | Received::Unconfigured => {}
                }
            }
            if remembered {
                self.store_manifest(&state);
            }
            state.incarnation
        };
        if raised {
            self.raise_incarnation(incarnation);
        }
        if fresh {
            if self.is_leader() && self.replace_placement() {
                self.announce_self();
            }
            self.bump();
        }
        Ok(NewsAnswer { wanted, nonce: self.nonce, load: None })
    }

    /// Acts on what a node now says: the Leader remembers it, everybody follows the Leader's placement.
    fn follow(&self, state: &mut State, origin: &NodeId) -> bool {
        let Some(announcement) = state.announcements.get(origin).cloned() else { return false };
        if let Some(placement) = &announcement.placement
            && *origin == self.config.leader().id
        {
            self.adopt_placement(state, Arc::clone(placement));
        }
        // A list that is not here yet must not replace one that is.
        !announcement_lacks_known(&announcement) && state.stored.replace(&announcement)
    }

    fn raise_incarnation(&self, incarnation: u64) {
        tracing::warn!(incarnation, "the overlay remembers a later start of this node; counting on from there");
        if let Err(error) = self.state_dir.set_incarnation(incarnation) {
            tracing::warn!(%error, "the incarnation could not be stored");
        }
        self.announce_self();
    }

    /// Counts on from a higher incarnation that a neighbour remembers.
    pub fn at_least_incarnation(&self, newest: u64) {
        let raised = {
            let mut state = self.lock();
            let raised = state.incarnation < newest;
            if raised {
                state.incarnation = newest + 1;
            }
            raised.then_some(state.incarnation)
        };
        if let Some(incarnation) = raised {
            self.raise_incarnation(incarnation);
        }
    }

    /// Forgets nodes that fell silent; to be called every second.
    pub fn expire(&self) {
        let now = (self.clock)();
        let dead = self.lock().announcements.expire(now);
        if !dead.is_empty() {
            tracing::warn!(nodes = ?dead, "not heard any more");
            self.changed.send_modify(|count| *count += 1);
        }
    }
}

fn announcement_lacks_known(announcement: &Announcement) -> bool {
    announcement.known_digest != UNLISTED && announcement.known.is_none()
}
