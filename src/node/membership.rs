//! What this node knows of the overlay and says of itself: announcements in and out, live links, placement.
//!
//! Plain synchronous state behind one lock; the tasks in [`super::links`] and [`super::loading`] act on it. It decides
//! what is news, what is stored, and at the Leader what the placement is; what each neighbour is told is in [`exchange`],
//! what queries see in [`overview`]. Who scans what is decided by `routing`.

mod exchange;
mod overview;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overlay_ingest::PartitionId;
use tokio::sync::watch;

use super::state_dir::StateDir;
use crate::config::Config;
use crate::engine::executor::Clock;
use crate::engine::message::NodeInstance;
use crate::engine::store::Store;
use crate::failure::{Failure, FailureKind};
use crate::leader::manifest::{Expected, Manifest, StoredManifest};
use crate::routing::adoption::{Heard, SILENCE};
use crate::routing::announcements::{Announcement, Announcements, Load, NodeState, Received};
use crate::routing::known::{KnownPartition, PartitionStats, UNLISTED, known_digest};
use crate::routing::placement::{Placement, PlacementInput, ToPlace, place};
use crate::routing::{LiveLoads, NodeId, Topology};
use crate::transport::services::{News, NewsAnswer};

use exchange::Neighbor;
pub use overview::NodeOverview;

/// How long a silent node counts as alive; announcements come every second.
pub const FORGET_AFTER: Duration = Duration::from_secs(5);
/// How long the Leader waits for members that never spoke before it places what is known: long enough for processes
/// started together, short enough to serve what there is.
const FIRST_PLACEMENT_GRACE: Duration = Duration::from_secs(5);

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
}

struct State {
    incarnation: u64,
    sequence: u64,
    started: Duration,
    announcements: Announcements,
    stored: StoredManifest,
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

    fn adopt_placement(&self, state: &mut State, placement: Arc<Placement>) {
        let is_new = state.placement.as_ref().is_none_or(|held| held.version != placement.version);
        state.placement = Some(Arc::clone(&placement));
        if is_new {
            if let Err(error) = self.state_dir.store(PLACEMENT_FILE, &*placement) {
                tracing::warn!(%error, "the placement could not be stored");
            }
            self.placement.send_replace(Some(placement));
        }
    }

    fn store_manifest(&self, state: &State) {
        if let Err(error) = self.state_dir.store(MANIFEST_FILE, &state.stored) {
            tracing::warn!(%error, "the manifest could not be stored");
        }
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

    /// Computes the placement anew; true if it changed.
    fn replace_placement(&self) -> bool {
        let now = (self.clock)();
        let mut state = self.lock();
        let before = state.placement.as_ref().map(|placement| placement.version);
        self.place(&mut state, now);
        state.placement.as_ref().map(|placement| placement.version) != before
    }

    fn place(&self, state: &mut State, now: Duration) {
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

    fn manifest_of(&self, state: &State) -> Manifest {
        Manifest::build(&self.expected, state.announcements.iter(), &state.stored)
    }

    /// The Leader's view of all partitions, as of now.
    pub fn manifest(&self) -> Manifest {
        self.manifest_of(&self.lock())
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

    /// This node takes no new work.
    pub fn set_draining(&self) {
        self.lock().node_state = NodeState::Draining;
        self.announce_self();
    }

    /// How busy this node is; told with the next announcement.
    pub fn set_load(&self, load: Load) {
        self.lock().load = load;
    }

    /// How this node is, and what it waits for.
    pub fn node_state(&self) -> (NodeState, String) {
        let state = self.lock();
        let mut waiting = String::new();
        if state.node_state == NodeState::Waiting {
            let leader = self.config.leader();
            waiting = format!("{} at {}:{}", leader.id, leader.host, leader.port);
        }
        if let Some(refusal) = &state.refusal {
            let gap = if waiting.is_empty() { "" } else { "; " };
            waiting = format!("{waiting}{gap}{refusal}");
        }
        (state.node_state, waiting)
    }

    /// Whether and how this node hears the Leader.
    pub fn heard_of_leader(&self) -> Heard {
        let leader = &self.config.leader().id;
        let configured = self.config.links();
        let state = self.lock();
        let up: Topology = state.announcements.topology().links().filter(|link| configured.contains(link)).collect();
        Heard {
            leader_at: state.announcements.heard_at(leader),
            configured_path: up.reachable(&self.me).contains(leader),
        }
    }

    /// Whether this node would hear the Leader if the peer were not there: only then a link to it is of use to the peer.
    pub fn hears_leader_without(&self, peer: &NodeId) -> bool {
        let leader = &self.config.leader().id;
        let now = (self.clock)();
        let state = self.lock();
        let is_heard = state.announcements.heard_at(leader).is_some_and(|at| now.saturating_sub(at) < SILENCE);
        let others = state.announcements.topology().among(&|node| node != peer);
        *leader == self.me || (is_heard && others.reachable(&self.me).contains(leader))
    }

    /// The highest incarnation ever heard of a node.
    pub fn newest_incarnation(&self, node: &NodeId) -> u64 {
        self.lock().announcements.newest(node).map_or(0, |(incarnation, _)| incarnation)
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

    /// Runs a function on the announcements of the nodes alive.
    pub fn with_announcements<T>(&self, read: impl FnOnce(&Announcements) -> T) -> T {
        read(&self.lock().announcements)
    }

    /// The placement as it stands.
    pub fn placement(&self) -> Option<Arc<Placement>> {
        self.lock().placement.clone()
    }

    /// Where a partition was held last, as far as anybody said.
    pub fn last_holders(&self, id: &PartitionId) -> Vec<NodeId> {
        self.lock().stored.last_holders(id)
    }

    /// Who holds a partition now, of the nodes alive.
    pub fn holders(&self, id: &PartitionId) -> Vec<NodeId> {
        let state = self.lock();
        let holders = state.announcements.iter().filter(|said| said.holds.contains(id));
        holders.map(|said| said.origin.clone()).collect()
    }

    /// How long ago a node alive was heard.
    pub fn heard_ago(&self, node: &NodeId) -> Option<Duration> {
        let now = (self.clock)();
        self.lock().announcements.heard_at(node).map(|at| now.saturating_sub(at))
    }
}

fn announcement_lacks_known(announcement: &Announcement) -> bool {
    announcement.known_digest != UNLISTED && announcement.known.is_none()
}
