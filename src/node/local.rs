//! `--local`: the same leaf and the same coverage over the data of this host, without Leader, admission or chunks. A
//! reference to compare with; it never says what is right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use overlay_ingest::schema::observations;
use rayon::prelude::*;

use super::data::LocalData;
use super::query_failure::{plan_failure, read_failure};
use super::{NodeError, PROTOCOL_VERSION};
use crate::config::Config;
use crate::delivery::QueryId;
use crate::engine::coverage::CoverageSink;
use crate::engine::executor::Clock;
use crate::engine::fair_pool::FairPool;
use crate::engine::hop::{Hop, RemoteError, RemoteScan};
use crate::engine::message::{FailureCode, NodeInstance, ScanMessage, ScanPath, ScanRequest};
use crate::engine::plain::{plain_schema, spell_out};
use crate::engine::reader::{Overview, PinnedPartition, QueryContext};
use crate::engine::session::{Ask, Engine};
use crate::engine::stop::Stop;
use crate::engine::store::{HeldPartition, Store};
use crate::failure::Failure;
use crate::leader::answer::{Footer, QueryState};
use crate::leader::coverage::judge;
use crate::routing::assignment::{NodeView, Snapshot};
use crate::routing::forwarding;
use crate::routing::known::KnownPartition;
use crate::routing::topology::Topology;
use crate::routing::{Load, NodeId, Role};

/// How a query is to be answered; the answer is the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    pub scan_path: ScanPath,
    /// Texts spelled out, for readers that know no dictionaries.
    pub plain_texts: bool,
}

/// The data of all configured teams, in this process.
pub struct LocalOverlay {
    hop: Arc<Hop>,
    engine: Engine,
    partitions: Arc<Vec<PinnedPartition>>,
    remark: Option<String>,
}

impl LocalOverlay {
    /// Loads everything; from the cache, else by parsing.
    pub fn open(config: &Config) -> Result<LocalOverlay, NodeError> {
        let engine_error = |error: &dyn std::fmt::Display| NodeError::Engine(error.to_string());
        let store = Arc::new(Store::default());
        let mut partitions = Vec::new();
        let mut remark = None;
        for (team, range) in &config.team_ranges() {
            let data_error = |source| NodeError::Data { team: team.to_string(), source };
            let data = LocalData::open(&config.dataset, *range).map_err(data_error)?;
            remark = remark.or(data.source().remark(&config.dataset));
            let load = |known: &KnownPartition| {
                let Some(partition) = data.load(&known.id)? else { return Ok(None) };
                store.insert(HeldPartition::new(&partition));
                Ok(Some(PinnedPartition { id: known.id, stats: Some(partition.stats) }))
            };
            let known = data.known();
            let loaded = known.par_iter().filter_map(|known| load(known).transpose());
            partitions.extend(loaded.collect::<Result<Vec<_>, overlay_ingest::Error>>().map_err(data_error)?);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = usize::try_from(config.limits.memory_bytes_max).unwrap_or(usize::MAX);
        let engine =
            Engine::new(memory, &config.dataset.table, threads.max(2)).map_err(|error| engine_error(&error))?;
        let started = Instant::now();
        let clock: Clock = Arc::new(move || started.elapsed());
        let hop = Arc::new(Hop {
            me: NodeId::from("local"),
            store,
            remote: Arc::new(NoLinks),
            pool: Arc::new(FairPool::new(threads, Arc::clone(&clock)).map_err(|error| engine_error(&error))?),
            work_clock: super::threads::work_clock(Arc::clone(&clock)),
            clock,
            schema: observations(),
            functions: engine.functions(),
        });
        Ok(LocalOverlay { hop, engine, partitions: Arc::new(partitions), remark })
    }

    /// What a person should know of where the rows come from; `None` if all is as usual.
    pub fn data_remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Answers one query; the batches go to `each` as they come.
    pub async fn answer(
        &self,
        ask: &Ask,
        limit: Option<u64>,
        deadline: Duration,
        each: impl FnMut(&SchemaRef, Option<RecordBatch>) -> Result<(), Failure>,
    ) -> Result<Footer, Failure> {
        self.answer_by(Way::default(), ask, limit, deadline, each).await
    }

    /// The same by a given way.
    pub async fn answer_by(
        &self,
        way: Way,
        ask: &Ask,
        limit: Option<u64>,
        deadline: Duration,
        mut each: impl FnMut(&SchemaRef, Option<RecordBatch>) -> Result<(), Failure>,
    ) -> Result<Footer, Failure> {
        let me = &self.hop.me;
        let start = (self.hop.clock)();
        let context = Arc::new(QueryContext {
            query: QueryId(0),
            team: None,
            client: 0,
            weight: 1,
            leader: NodeInstance { id: me.clone(), incarnation: u64::from(PROTOCOL_VERSION) },
            hop: Arc::clone(&self.hop),
            overview: Arc::new(OnlyHere(Arc::clone(&self.hop))),
            partitions: Arc::clone(&self.partitions),
            forwarding: Arc::from((forwarding::STRATEGIES[0].make)()),
            asynchronous: false,
            turn: 0,
            allow_partial: false,
            stop: Stop::default(),
            deadline: start + deadline,
            sink: Arc::new(CoverageSink::default()),
            scan_path: way.scan_path,
            plain_texts: way.plain_texts,
            meter: Arc::default(),
        });
        let plan = self.engine.plan(&context, ask, limit).await.map_err(|error| plan_failure(error, me))?;
        let planned = (self.hop.clock)().saturating_sub(start);
        // A plan that was not made for it still gives dictionaries.
        let schema = if way.plain_texts { plain_schema(&plan.schema()) } else { plan.schema() };
        each(&schema, None)?;
        let mut rows = 0;
        let mut batches = plan.execute(false).map_err(|error| read_failure(&error, me))?;
        while let Some(arrived) = batches.next().await {
            let batch = arrived.and_then(|arrived| Ok(arrived.to_batch()?));
            let mut batch = batch.map_err(|error| read_failure(&error, me))?;
            if way.plain_texts {
                batch = spell_out(&batch).map_err(|error| read_failure(&error.into(), me))?;
            }
            rows += batch.num_rows() as u64;
            each(&schema, Some(batch))?;
        }
        drop(batches);
        drop(plan);
        let pinned: Vec<_> = self.partitions.iter().map(|partition| partition.id).collect();
        let (coverage, work) = judge(&context.sink, &pinned, 0, Vec::new())?;
        Ok(Footer {
            id: QueryId(0),
            state: QueryState::Ready,
            rows,
            elapsed: (self.hop.clock)().saturating_sub(start),
            queued: Duration::ZERO,
            planned,
            work,
            adopted: Vec::new(),
            coverage,
        })
    }
}

/// Everything is held here.
struct OnlyHere(Arc<Hop>);

impl Overview for OnlyHere {
    fn snapshot(&self) -> Snapshot {
        let view = NodeView {
            team: None,
            role: Role::Leader,
            holds: Arc::new(self.0.store.ids().into_iter().collect()),
            load: Load::default(),
            alive: true,
        };
        Snapshot {
            reader: self.0.me.clone(),
            topology: Topology::default(),
            nodes: BTreeMap::from([(self.0.me.clone(), view)]),
        }
    }

    fn last_holder(&self, _: &overlay_ingest::PartitionId) -> Option<(NodeId, Vec<NodeId>)> {
        None
    }
}

/// There is nobody to ask.
struct NoLinks;

impl RemoteScan for NoLinks {
    fn scan(
        &self,
        next: &NodeId,
        _: ScanRequest,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<ScanMessage, RemoteError>>, RemoteError>> {
        let message = format!("no link to {next}: this is a local scan");
        async move { Err(RemoteError { code: FailureCode::Unavailable, message }) }.boxed()
    }
}
