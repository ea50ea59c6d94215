//! Runs clients' queries at the Leader.
//!
//! A query's task holds its permit from its start until its last zone is stored, it failed, or it was cancelled; it
//! does not depend on who fetches when.
//!
//! What computes runs on the threads for plans: planning, and plans that do more than read. A query that only passes rows
//! on runs where they come in: to look at a block once and hand it to its reader takes less than to change threads twice.
//! On a node that scans as well its rows come from there, and who serves must not wait for who scans: there a query's task
//! runs on the threads for plans itself. A plan that does more than read has a task of its own everywhere, because it may
//! compute for long without a pause, and its query is to end in time all the same.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::billing::rows_of;
use super::data::LocalData;
use super::log_stream::LogStreams;
use super::membership::{Membership, NodeOverview};
use super::query_failure::{expired, read_failure};
use super::result_room::ResultRoom;
use super::settling::Planned;
use super::spool::Spool;
use super::trace::Tracer;
use super::traffic::Traffic;
use crate::delivery::QueryId;
use crate::delivery::chunking::Chunking;
use crate::delivery::encoding::packed;
use crate::delivery::result::ChunkingParams;
use crate::engine::coverage::CoverageSink;
use crate::engine::executor::{Clock, ScanPool};
use crate::engine::fair_pool::FairPool;
use crate::engine::hop::Hop;
use crate::engine::message::ScanPath;
use crate::engine::plan_turns::TakesTurns;
use crate::engine::reader::{PinnedPartition, QueryContext};
use crate::engine::session::Engine;
use crate::engine::share::Flow;
use crate::engine::stop::{Stop, StopReason};
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{Footer, QuerySpec, QueryState};
use crate::leader::coverage::judge;
use crate::leader::desk::Desk;
use crate::leader::manifest::Manifest;
use crate::routing::announcements::NodeState;
use crate::routing::forwarding::Forwarding;
use crate::routing::{Link, Load, NodeId};

/// After a deadline the leaves report their gaps; a plan that has not ended by then is dropped.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// From its start a query takes about so long until it has ordered what it wants of other nodes. Lower: several start for
/// the same idle core. Higher: cores stay idle for longer.
const ORDERED_WITHIN: Duration = Duration::from_millis(5);

/// What a Leader needs to run queries.
pub struct Queries {
    pub membership: Arc<Membership>,
    pub hop: Arc<Hop>,
    pub engine: Engine,
    pub desk: Mutex<Desk>,
    pub forwarding: Arc<dyn Forwarding>,
    pub chunking: Arc<dyn Chunking>,
    pub clock: Clock,
    /// Where plans run.
    pub cpu: Handle,
    /// Where rows come in and go out.
    pub io: Handle,
    /// Whether this node scans as well. Then its rows do not come in, and who serves must not wait for who scans.
    pub holds_data: bool,
    /// Whose plan is made, and whose chunks are encoded, when: in turn with the scans on this node.
    pub pool: FairPool,
    pub room: ResultRoom,
    pub spool: Spool,
    pub turn: AtomicU64,
    /// When a query started last, in nanoseconds of the clock.
    pub started: AtomicU64,
    pub tracer: Tracer,
    pub data: Option<Arc<LocalData>>,
    pub scans: Arc<AtomicUsize>,
    /// What leaves this node.
    pub traffic: Arc<Mutex<Traffic>>,
    /// Set to `Some(graceful)` when somebody asks the node to end.
    pub shutdown: watch::Sender<Option<bool>>,
    pub fingerprint: String,
    pub fingerprint_keys: BTreeMap<String, u64>,
    pub address: String,
    pub log: LogStreams,
}

impl Queries {
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    pub(super) fn me(&self) -> &NodeId {
        self.membership.me()
    }

    pub(super) fn fail(&self, kind: FailureKind, reason: &str, message: impl Into<String>) -> Failure {
        Failure::new(kind, reason, message).at(self.me())
    }

    /// Where a process listens, as far as this host knows: with port 0, only local ones have told.
    pub fn address_of(&self, id: &NodeId) -> String {
        let config = self.membership.config();
        super::dial_address(config, &self.fingerprint, id).unwrap_or_else(|| "unknown".to_owned())
    }

    /// Starts whatever may start. To be called whenever a query came or ended, and when a core that was waited for has
    /// nothing to do, here or on another node.
    pub fn pump(self: &Arc<Self>) {
        let is_idle_here = self.pool.is_idle();
        let cores = self.cores();
        self.desk().tell_cores(cores.most, cores.is_one_idle);
        loop {
            let (started, waiting) = {
                let mut desk = self.desk();
                (desk.start_next(self.now()), desk.load().1)
            };
            let Some(id) = started else {
                if waiting > 0 && self.holds_data {
                    self.pool.want_idleness(!is_idle_here);
                }
                return;
            };
            self.started.store(nanos(self.now()), Ordering::Relaxed);
            let queries = Arc::clone(self);
            let home = if self.holds_data { &self.cpu } else { &self.io };
            home.spawn(async move {
                let guard = EndOnPanic { queries: Arc::clone(&queries), id };
                let end = queries.run(id).await;
                queries.end(id, end);
                drop(guard);
            });
        }
    }

    /// What admission is to know of the cores that scan, here and on other nodes.
    pub(super) fn cores(&self) -> KnownCores {
        let here = self.holds_data.then(|| (self.pool.width(), self.pool.is_idle()));
        let others = self.membership.cores_of_others().map(|others| {
            // A query that has just started has ordered nothing yet: what has room may be its own for a moment.
            let since_start = nanos(self.now()).saturating_sub(self.started.load(Ordering::Relaxed));
            (others.of_largest, others.have_room() && since_start >= nanos(ORDERED_WITHIN))
        });
        // As long as no node told, nothing is known to be busy.
        let known = here.into_iter().chain(others).reduce(|a, b| (a.0.max(b.0), a.1 || b.1));
        let (most, is_one_idle) = known.unwrap_or((self.pool.width(), true));
        KnownCores { most, is_one_idle }
    }

    fn end(self: &Arc<Self>, id: QueryId, end: Result<Footer, Failure>) {
        if let Err(failure) = &end {
            tracing::info!(query = %id, code = failure.kind.name(), "query failed: {failure}");
        }
        self.desk().end(id, end, self.now());
        self.pump();
    }

    async fn run(self: &Arc<Self>, id: QueryId) -> Result<Footer, Failure> {
        let Some((spec, stop, deadline)) = self.desk().running(id) else {
            return Err(self.fail(FailureKind::Cancelled, "CANCELLED", "cancelled before it began"));
        };
        let over = {
            let left = deadline.saturating_sub(self.now());
            let stop = stop.clone();
            async move {
                tokio::time::sleep(left).await;
                stop.set(StopReason::Deadline);
                tokio::time::sleep(DEADLINE_GRACE).await;
            }
        };
        tokio::select! {
            biased;
            () = self.cancelled(&stop) => Err(self.fail(FailureKind::Cancelled, "CANCELLED", "the query was cancelled")),
            end = self.answer(id, spec, &stop, deadline) => end,
            () = over => Err(expired(self.me())),
        }
    }

    async fn cancelled(&self, stop: &Stop) {
        if stop.raised().await == StopReason::Deadline {
            // The deadline is not a cancel: leaves may still report what is missing.
            std::future::pending::<()>().await;
        }
    }

    async fn answer(
        self: &Arc<Self>,
        id: QueryId,
        spec: Arc<QuerySpec>,
        stop: &Stop,
        deadline: Duration,
    ) -> Result<Footer, Failure> {
        let planned = match self.holds_data {
            true => self.settled_plan(id, &spec, stop, deadline).await?,
            false => {
                let (queries, spec, stop) = (Arc::clone(self), Arc::clone(&spec), stop.clone());
                self.on_cpu(async move { queries.settled_plan(id, &spec, &stop, deadline).await }).await?
            }
        };
        if planned.plan.passes_rows_on() {
            return self.execute(id, &spec, deadline, planned).await;
        }
        let queries = Arc::clone(self);
        self.on_cpu(async move { queries.execute(id, &spec, deadline, planned).await }).await
    }

    /// Runs it on the threads for plans; it ends there if the caller does not wait for it any more.
    async fn on_cpu<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut alone = JoinSet::new();
        alone.spawn_on(work, &self.cpu);
        match alone.join_next().await {
            Some(Ok(end)) => end,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Its threads end, and so does the node.
            _ => Err(self.fail(FailureKind::Unavailable, "ENDING", format!("{} is ending", self.me()))),
        }
    }

    /// Runs the plan and keeps its rows.
    async fn execute(
        &self,
        id: QueryId,
        spec: &QuerySpec,
        deadline: Duration,
        planned: Planned,
    ) -> Result<Footer, Failure> {
        let Planned { manifest, context, mut plan, took: planned } = planned;
        let rows = plan.rows_estimate.unwrap_or_else(|| rows_of(&plan.partitions, &manifest));
        self.desk().planned(id, rows, Arc::clone(&context.meter));
        // Held until the last row is stored, or the query ends otherwise.
        let (flow, left) = (Flow(spec.team.clone()), deadline.saturating_sub(self.now()));
        let _room = self.room.wait_for(plan.rows_estimate, &plan.schema(), &flow, left).await;
        let limits = &self.membership.config().limits;
        let chunking = ChunkingParams {
            strategy: Arc::clone(&self.chunking),
            estimate: plan.rows_estimate.unwrap_or(0),
            limit: spec.limit,
            base: self.membership.config().strategies.chunk_size as usize,
            chunk_rows_max: chunk_rows_max(limits.chunk_rows_max as usize, spec.encoding),
        };
        self.desk().open_result(id, plan.schema(), chunking, self.now())?;
        let (pool, share, meter) = (self.pool.clone(), self.turn_share(id), Arc::clone(&context.meter));
        let taking = TakesTurns::new(pool, share, meter, Arc::clone(&self.hop.work_clock));
        let is_metered = plan.take_turns(&taking).map_err(|error| read_failure(&error, self.me()))?;
        let meter = (!is_metered).then_some(&*context.meter);
        let mut batches =
            plan.execute(spec.encoding == packed::NAME).map_err(|error| read_failure(&error, self.me()))?;
        let mut writer = self.spool_writer(id);
        while let Some(arrived) = self.next_arrived(&mut batches, meter).await {
            let arrived = arrived.map_err(|error| read_failure(&error, self.me()))?;
            if arrived.rows() > 0 {
                self.keep_rows(arrived, context.sink.has_gaps(), &mut writer, &context.meter).await?;
            }
        }
        // Leaves report when they are dropped, so the stream goes first.
        drop(batches);
        drop(plan);
        let pinned: Vec<_> = context.partitions.iter().map(|partition| partition.id).collect();
        let (coverage, work) = judge(&context.sink, &pinned, manifest.version, manifest.unheard.clone())?;
        let state = if coverage.is_complete() { QueryState::Ready } else { QueryState::Partial };
        // Times and rows are the desk's to tell.
        let configured = self.membership.config().links();
        let routes = work.iter().map(|work| &work.route).chain(coverage.gaps.iter().map(|gap| &gap.route));
        let adopted: BTreeSet<Link> = routes
            .flat_map(|route| route.windows(2).map(|ends| Link::between(&ends[0], &ends[1])))
            .filter(|link| !configured.contains(link))
            .collect();
        let (elapsed, queued) = (Duration::ZERO, Duration::ZERO);
        let adopted = adopted.into_iter().collect();
        Ok(Footer { id, state, rows: 0, elapsed, queued, planned, work, adopted, coverage })
    }

    pub(super) fn context(
        &self,
        id: QueryId,
        spec: &QuerySpec,
        stop: &Stop,
        deadline: Duration,
        manifest: &Manifest,
    ) -> Arc<QueryContext> {
        let config = self.membership.config();
        let partitions = manifest
            .partitions
            .values()
            .map(|entry| PinnedPartition { id: entry.known.id, stats: entry.known.stats.clone() })
            .collect();
        let share = self.turn_share(id);
        Arc::new(QueryContext {
            query: id,
            team: spec.team.clone(),
            client: share.client,
            weight: share.weight,
            leader: self.membership.instance(),
            hop: Arc::clone(&self.hop),
            overview: Arc::new(NodeOverview { membership: Arc::clone(&self.membership), hop: Arc::clone(&self.hop) }),
            partitions: Arc::new(partitions),
            forwarding: Arc::clone(&self.forwarding),
            asynchronous: config.strategies.async_forwarding,
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            allow_partial: spec.allow_partial,
            stop: stop.clone(),
            deadline,
            sink: Arc::new(CoverageSink::default()),
            scan_path: ScanPath::Any,
            plain_texts: false,
            meter: Arc::default(),
        })
    }

    /// Ends what is overdue; to be called a few times a second.
    pub fn expire(self: &Arc<Self>) {
        let now = self.now();
        self.desk().expire(now);
        self.pump();
    }

    /// Whether nothing waits or runs any more.
    pub fn is_idle(&self) -> bool {
        self.desk().load() == (0, 0)
    }

    /// Ends all queries; the node stops.
    pub fn end_all(&self, why: &str) {
        let now = self.now();
        self.desk().end_all(why, now);
    }

    /// How busy this node is: what neighbours are told.
    pub fn load(&self) -> Load {
        let (active, queued) = self.desk().load();
        let (_, waiting) = self.pool.load();
        Load {
            active: (active + self.scans.load(Ordering::Relaxed)) as u32,
            queued: (queued + waiting) as u32,
            capacity: self.pool.width() as u32,
            service_ms: self.pool.average().map_or(0.0, |average| average.as_secs_f32() * 1e3),
        }
    }
}

/// See [`Queries::cores`].
pub(super) struct KnownCores {
    /// Those of the node that has most.
    pub most: usize,
    pub is_one_idle: bool,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A query's task that panics must not keep its permit.
struct EndOnPanic {
    queries: Arc<Queries>,
    id: QueryId,
}

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let failure = self.queries.fail(FailureKind::Internal, "PANIC", "the query's task panicked");
            self.queries.end(self.id, Err(failure));
        }
    }
}

/// A row takes about 330 bytes as JSON, five times what it takes in Arrow, and a chunk has to fit into a message.
const JSON_CHUNK_ROWS_MAX: usize = 16_384;

fn chunk_rows_max(configured: usize, encoding: &str) -> usize {
    if encoding == "json" { configured.min(JSON_CHUNK_ROWS_MAX) } else { configured }
}

/// The word for a node's state.
pub fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Waiting => "waiting",
        NodeState::Loading => "loading",
        NodeState::Ready => "ready",
        NodeState::Draining => "draining",
    }
}
