//! Builds a node from its configuration and carries decisions out: serves, announces, loads, runs queries, drains.
//!
//! Tasks, timers and connections live here and in `client` and `transport`; what they decide by lives in the parts.

mod adopted;
mod billing;
mod change_over;
mod clients;
mod data;
mod data_source;
mod error;
mod links;
mod loading;
pub mod local;
pub mod log;
mod log_stream;
mod membership;
pub mod os;
mod peers;
mod queries;
mod query_failure;
mod result_room;
mod settling;
mod spool;
pub mod state_dir;
pub mod status;
mod threads;
mod trace;
mod traffic;
mod view;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use overlay_ingest::schema::{LAYOUT_VERSION, observations};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::config::fingerprint::Fingerprint;
use crate::delivery::chunking;
use crate::delivery::spool::SpoolSpace;
use crate::delivery::store::{ResultStore, StoreLimits};
use crate::engine::executor::Clock;
use crate::engine::fair_pool::FairPool;
use crate::engine::hop::Hop;
use crate::engine::session::Engine;
use crate::engine::store::Store;
use crate::leader::admission::{Admission, AdmissionCounters, AdmissionLimits};
use crate::leader::desk::Desk;
use crate::leader::fairness;
use crate::routing::{self, NodeId, forwarding};
use crate::transport::connector::{Connector, SharedConnector, Tcp, tcp_incoming};
use crate::transport::peer::{AddressOf, PeerLink, PeerLinks};
use crate::transport::server;
use crate::transport::services::{Hello, LinkKind};

pub use data::{DataSource, LocalData, LocalDates};
pub use error::NodeError;
pub use threads::{THREADS_VARIABLE, begin_to_serve, io_threads};

use adopted::AdoptedLinks;
use clients::Clients;
use log_stream::LogStreams;
use membership::Membership;
use queries::Queries;
use result_room::ResultRoom;
use spool::Spool;
use threads::{PlanRuntime, thread_budget};

/// Changes with every change of the wire that old nodes do not understand.
pub const PROTOCOL_VERSION: u32 = 1;

/// How long a draining node lets running queries end.
pub const DRAIN_MAX: Duration = Duration::from_secs(20);
/// How long connections may take to close after that; idle ones can hold a server open for ever.
const CLOSE_MAX: Duration = Duration::from_millis(500);
/// How often a port that is taken is tried, and the pause in between: two seconds in all.
const BIND_TRIES: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(100);
/// How often overdue queries are looked for.
const EXPIRE_INTERVAL: Duration = Duration::from_millis(100);

/// The fingerprint of a configuration with this program.
pub fn fingerprint(config: &Config) -> Fingerprint {
    Fingerprint::of(config, PROTOCOL_VERSION, LAYOUT_VERSION, &format!("{:?}", observations().fields()))
}

/// The address that a process of the configuration can be dialled at: that of the file, or with port 0 what the
/// process wrote to `state_dir` when it bound one.
pub fn dial_address(config: &Config, fingerprint: &str, id: &NodeId) -> Option<String> {
    let process = config.process(id)?;
    match process.port {
        0 => state_dir::local_address(&config.state_dir, fingerprint, id),
        port => Some(join_host_port(&process.host, port)),
    }
}

fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A node that runs. Dropping it ends it at once; [`Node::drain`] ends it in order.
pub struct Node {
    queries: Arc<Queries>,
    membership: Arc<Membership>,
    adopted: Arc<AdoptedLinks>,
    address: String,
    store: Arc<Store>,
    health: server::Health,
    tasks: JoinSet<Result<(), NodeError>>,
    close: watch::Sender<bool>,
    shutdown: watch::Receiver<Option<bool>>,
    _cpu: PlanRuntime,
    data_remark: Option<String>,
}

impl Node {
    /// Starts the process `id` of the configuration. It serves when this returns, though it may still wait for the
    /// Leader's placement.
    pub async fn start(config: Arc<Config>, id: &NodeId) -> Result<Node, NodeError> {
        let Some(process) = config.process(id).cloned() else {
            let known = routing::names(config.processes.keys(), ", ");
            return Err(NodeError::UnknownProcess { id: id.clone(), known });
        };
        let fingerprint = fingerprint(&config);
        let print = fingerprint.to_string();
        let state_dir = state_dir::StateDir::open(&config.state_dir, &print, id)?;

        let address = join_host_port(&process.host, process.port);
        let listen_error = |source| NodeError::Listen { id: id.clone(), address: address.clone(), source };
        let listener = bind(&address).await.map_err(listen_error)?;
        let bound = listener.local_addr().map_err(listen_error)?;
        let address = join_host_port(&process.host, bound.port());

        let data = match process.holds_data {
            true => Some(Arc::new(open_data(&config, &process.team).await?)),
            false => None,
        };
        let data_remark = data.as_ref().and_then(|data| data.source().remark(&config.dataset));

        let started = Instant::now();
        let clock: Clock = Arc::new(move || started.elapsed());
        let threads = thread_budget(&config);
        let engine_error = |error: &dyn std::fmt::Display| NodeError::Engine(error.to_string());
        let perform = threads::charged_by_work(Arc::clone(&clock));
        let pool = FairPool::performing(perform, threads::begin_to_scan, threads, Arc::clone(&clock));
        let pool = pool.map_err(|error| engine_error(&error))?;
        let cpu = PlanRuntime::start(threads).map_err(|error| engine_error(&error))?;

        // Only who takes queries has results.
        let disk_bytes_max = if *id == config.leader().id { config.limits.result_disk_bytes_max } else { 0 };
        state_dir::remove_left(&config.state_dir, id, spool::FOLDER);
        let spool = Spool::open(state_dir.path(), disk_bytes_max, cpu.handle())?;
        let nonce = getrandom::u64().map_err(|error| engine_error(&error))?;
        let known = data.as_ref().map(|data| data.known().to_vec());
        let membership =
            Arc::new(Membership::new(id.clone(), Arc::clone(&config), Arc::clone(&clock), state_dir, known, nonce)?);
        let store = Arc::new(Store::default());
        let links = Arc::new(PeerLinks::default());
        let memory = usize::try_from(config.limits.memory_bytes_max).unwrap_or(usize::MAX);
        // At least two: with one, plans that would run in parallel are shaped differently for no gain.
        let engine =
            Engine::new(memory, &config.dataset.table, threads.max(2)).map_err(|error| engine_error(&error))?;
        let hop = Arc::new(Hop {
            me: id.clone(),
            store: Arc::clone(&store),
            remote: Arc::clone(&links) as Arc<_>,
            pool: Arc::new(pool.clone()),
            clock: Arc::clone(&clock),
            work_clock: threads::work_clock(Arc::clone(&clock)),
            schema: observations(),
            functions: engine.functions(),
        });
        let scans = Arc::new(AtomicUsize::new(0));
        let (shutdown, shutdown_seen) = watch::channel(None);
        let tracer = trace::Tracer {
            membership: Arc::clone(&membership),
            links: Arc::clone(&links),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
        };
        let (close, mut closing) = watch::channel(false);
        let queries = Arc::new(Queries {
            desk: Mutex::new(desk(&config, Arc::clone(spool.space()))?),
            forwarding: forwarding::by_name(&config.strategies.forwarding_strategy)
                .map(Arc::from)
                .ok_or_else(|| NodeError::Engine("the forwarding strategy is not known".into()))?,
            chunking: chunking::by_name(&config.strategies.chunking_strategy)
                .map(Arc::from)
                .ok_or_else(|| NodeError::Engine("the chunking strategy is not known".into()))?,
            membership: Arc::clone(&membership),
            hop: Arc::clone(&hop),
            engine,
            clock: Arc::clone(&clock),
            cpu: cpu.handle(),
            io: tokio::runtime::Handle::current(),
            holds_data: process.holds_data,
            pool,
            room: ResultRoom::new(config.limits.result_bytes_max.saturating_add(disk_bytes_max)),
            spool,
            turn: AtomicU64::new(0),
            started: AtomicU64::new(0),
            tracer: tracer.clone(),
            data: data.clone(),
            scans: Arc::clone(&scans),
            traffic: Arc::default(),
            shutdown,
            fingerprint: print.clone(),
            fingerprint_keys: fingerprint.keys().clone(),
            address: address.clone(),
            log: LogStreams::new(closing.clone()),
        });

        let hello = Hello {
            process_id: id.clone(),
            incarnation: membership.instance().incarnation,
            nonce,
            fingerprint: fingerprint.keys().clone(),
            kind: LinkKind::Configured,
        };
        let connector: SharedConnector = Arc::new(Tcp) as Arc<dyn Connector>;
        let address_of: Arc<dyn Fn(&NodeId) -> AddressOf + Send + Sync> = {
            let (config, print) = (Arc::clone(&config), print.clone());
            Arc::new(move |peer| {
                let (config, print, peer) = (Arc::clone(&config), print.clone(), peer.clone());
                Arc::new(move || dial_address(&config, &print, &peer))
            })
        };
        let adopted = Arc::new(AdoptedLinks::new(
            Arc::clone(&membership),
            Arc::clone(&links),
            Arc::clone(&connector),
            Arc::clone(&address_of),
            hello.clone(),
        ));
        let peers = Arc::new(peers::Peers {
            membership: Arc::clone(&membership),
            hop,
            links: Arc::clone(&links),
            adopted: Arc::clone(&adopted),
            tracer,
            fingerprint: fingerprint.clone(),
            scans,
            sent: {
                let queries = Arc::clone(&queries);
                Arc::new(move |rows, bytes| queries.traffic().add(rows, bytes, queries.now()))
            },
            load: {
                let queries = Arc::clone(&queries);
                Arc::new(move || queries.load())
            },
        });
        let (health, serving) =
            server::serve(tcp_incoming(listener), peers, Arc::new(Clients(Arc::clone(&queries))), async move {
                // An error means that the node was dropped, which closes as well.
                let _ = closing.wait_for(|close| *close).await;
            });
        membership.state_dir().write_address(&address, std::process::id())?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serving.await.map_err(NodeError::Serve) });
        for neighbor in process.neighbors {
            let link = PeerLink::new(Arc::clone(&connector), address_of(&neighbor));
            links.insert(neighbor.clone(), link.clone());
            let keeper = links::keep_link(Arc::clone(&membership), Arc::clone(&links), neighbor, link, hello.clone());
            tasks.spawn(async move {
                keeper.await;
                Ok(())
            });
        }
        tasks.spawn({
            let adopting =
                adopted::keep_adopting(Arc::downgrade(&adopted), Arc::clone(&membership), Arc::clone(&clock));
            async move {
                adopting.await;
                Ok(())
            }
        });
        tasks.spawn({
            let (membership, queries) = (Arc::clone(&membership), Arc::clone(&queries));
            async move {
                links::keep_announcing(membership, move || queries.load()).await;
                Ok(())
            }
        });
        tasks.spawn({
            let queries = Arc::clone(&queries);
            async move {
                let mut ticks = tokio::time::interval(EXPIRE_INTERVAL);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    queries.pool.lend();
                    queries.expire();
                }
            }
        });
        tasks.spawn({
            let queries = Arc::clone(&queries);
            async move {
                loop {
                    tokio::select! {
                        () = queries.pool.idled() => {}
                        () = queries.membership.room_told() => {}
                    }
                    queries.pump();
                }
            }
        });
        if let Some(data) = data {
            let keeper = loading::keep_loaded(Arc::clone(&membership), Arc::clone(&store), data);
            tasks.spawn(async move { Ok(keeper.await.map(|never| match never {})?) });
        }
        health.set_serving(true).await;
        Ok(Node {
            queries,
            membership,
            adopted,
            address,
            store,
            health,
            tasks,
            close,
            shutdown: shutdown_seen,
            _cpu: cpu,
            data_remark,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// This process writes its log to that file from now on, which others may ask for.
    pub fn has_log(&self, path: PathBuf) {
        self.queries.log.found_at(path);
    }

    /// Who takes turns on it. Tests take all turns to keep queries where they are.
    pub fn pool(&self) -> &FairPool {
        &self.queries.pool
    }

    /// What admission did and how it stands, for every flow.
    pub fn admission(&self) -> AdmissionCounters {
        self.queries.desk().admission()
    }

    /// What it holds. Tests damage it to see the damage found.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What a person should know of where the rows come from; `None` if all is as usual.
    pub fn data_remark(&self) -> Option<&str> {
        self.data_remark.as_deref()
    }

    /// Waits until somebody asks the node to end, by the Shutdown call; gives whether gracefully. Fails if the node
    /// cannot go on.
    pub async fn run(&mut self) -> Result<bool, NodeError> {
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    Some(Ok(Err(error))) => return Err(error),
                    Some(Ok(Ok(()))) => {}
                    Some(Err(error)) => return Err(NodeError::Engine(format!("a task of the node ended: {error}"))),
                    None => return Err(NodeError::Engine("all tasks of the node ended".into())),
                },
                asked = self.shutdown.wait_for(Option::is_some) => {
                    return Ok(asked.map_or(true, |graceful| graceful.unwrap_or(true)));
                }
            }
        }
    }

    /// Ends the node: takes no new work, lets running queries end for a while, then closes.
    pub async fn drain(mut self, patience: Duration) {
        self.health.set_serving(false).await;
        self.queries.shutdown.send_replace(Some(true));
        self.membership.set_draining();
        let idle = async {
            while !self.queries.is_idle() || self.queries.scans.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(patience, idle).await.is_err() {
            tracing::warn!("queries were still running when the time to drain was over");
        }
        self.queries.end_all(&format!("{} was shut down", self.membership.me()));
        self.close.send_replace(true);
        // Serving ends when the last connection does; the other tasks never end by themselves.
        let closed = async { while let Some(Ok(Ok(()))) = self.tasks.join_next().await {} };
        let _ = tokio::time::timeout(CLOSE_MAX, closed).await;
        self.tasks.abort_all();
        let queries = Arc::clone(&self.queries);
        // It can only fail by a panic of its own, and then the next start does it.
        let _ = tokio::task::spawn_blocking(move || queries.spool.clear()).await;
        self.membership.state_dir().remove_address();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.abort_all();
        self.adopted.end_all();
    }
}

/// Listens on the address. A port that is taken is tried again for a while: the customary ports of the overlay lie in the
/// range from which systems take ports for outgoing connections, so one may be in use for a moment by anybody.
async fn bind(address: &str) -> io::Result<TcpListener> {
    let mut tries = BIND_TRIES;
    loop {
        tries -= 1;
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {
                tokio::time::sleep(BIND_PAUSE).await;
            }
            bound => return bound,
        }
    }
}

async fn open_data(config: &Arc<Config>, team: &crate::routing::Team) -> Result<LocalData, NodeError> {
    let range = config.teams.get(team).and_then(|team| team.range);
    let (config, team_name) = (Arc::clone(config), team.to_string());
    let opened = tokio::task::spawn_blocking(move || match range {
        Some(range) => LocalData::open(&config.dataset, range),
        None => LocalData::open(&config.dataset, overlay_ingest::DateRange::ALL),
    });
    match opened.await {
        Ok(Ok(data)) => Ok(data),
        Ok(Err(source)) => Err(NodeError::Data { team: team_name, source }),
        Err(error) => Err(NodeError::Engine(error.to_string())),
    }
}

fn desk(config: &Config, disk: Arc<SpoolSpace>) -> Result<Desk, NodeError> {
    let limits = &config.limits;
    let fairness = fairness::by_name(&config.strategies.fairness_strategy)
        .ok_or_else(|| NodeError::Engine("the fairness strategy is not known".into()))?;
    let admission = Admission::new(
        AdmissionLimits {
            queue_capacity: limits.queue_capacity,
            concurrent_max: limits.concurrent_max,
            team_concurrent_max: limits.team_concurrent_max,
            cores: thread_budget(config),
        },
        fairness,
    );
    let kept = StoreLimits {
        bytes_max: limits.result_bytes_max,
        ttl: Duration::from_secs(limits.result_ttl_s),
        idle: Duration::from_secs(limits.idle_s),
    };
    Ok(Desk::new(admission, ResultStore::with_disk(kept, disk)))
}
