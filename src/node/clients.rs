//! What clients may ask of any node: opens queries, hands out chunks, cancels, tells how things are.
//!
//! It decides what can be judged before anything is parsed or queued; who may start is admission's to say, and what a
//! chunk is, delivery's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::queries::Queries;
use super::status::{Metrics, NodeStatus};
use super::view;
use crate::delivery::encoding::packing::{MESSAGE_BYTES, Packing};
use crate::delivery::encoding::schema::encode_schema;
use crate::delivery::encoding::{self, Pieces};
use crate::delivery::{Arrived, Chunk, Cut, LastLoaded, QueryId};
use crate::engine::executor::ScanPool;
use crate::engine::session::Ask;
use crate::engine::sql_gate::SQL_BYTES_MAX;
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{ChunkMessage, Footer, QuerySpec, QueryState, QueryStatus, Submitted};
use crate::leader::desk::Asked;
use crate::leader::fairness;
use crate::routing::Team;
use crate::routing::trace::Trace;
use crate::transport::services::{ClientService, LogsAsked};

/// How often a waiting reader shows that it is still there, well within `idle_s`.
const TOUCH_INTERVAL: Duration = Duration::from_secs(2);
/// A message of no more bytes, made from no larger blocks, is encoded by the thread that sends it: that takes less than to
/// hand it to another. So does one that is only copied.
const ENCODED_HERE_BYTES: u64 = 32 << 10;
/// A query's text parts beyond the SQL statement.
const NAME_BYTES_MAX: usize = 256;
/// What a client may call itself.
const CLIENT_BYTES_MAX: usize = 64;

/// The service of clients; a handle on [`Queries`].
#[derive(Clone)]
pub struct Clients(pub Arc<Queries>);

impl Queries {
    /// Looks at what can be judged before anything is parsed or queued.
    fn check(&self, spec: &QuerySpec, client: &str) -> Result<(), Failure> {
        let config = self.membership.config();
        if !self.membership.is_leader() {
            let leader = &config.leader().id;
            let message =
                format!("{} takes no queries; ask the Leader, {leader} at {}", self.me(), self.address_of(leader));
            return Err(self.fail(FailureKind::FailedPrecondition, "NOT_THE_LEADER", message));
        }
        if self.shutdown.borrow().is_some() {
            return Err(self.fail(FailureKind::Unavailable, "DRAINING", format!("{} is draining", self.me())));
        }
        let invalid = |message: String| Err(self.fail(FailureKind::InvalidArgument, "QUERY", message));
        if client.len() > CLIENT_BYTES_MAX {
            return invalid(format!("client_id has {} bytes; at most {CLIENT_BYTES_MAX} are taken", client.len()));
        }
        match &spec.ask {
            Ask::Sql(sql) if sql.len() > SQL_BYTES_MAX => {
                return invalid(format!("the statement has {} bytes; at most {SQL_BYTES_MAX} are taken", sql.len()));
            }
            Ask::Sql(_) => {}
            Ask::Range(filter) => {
                let names = filter.columns.iter().chain(&filter.parameter);
                if names.clone().any(|name| name.len() > NAME_BYTES_MAX) || filter.columns.len() > NAME_BYTES_MAX {
                    return invalid(format!("a name is longer than {NAME_BYTES_MAX} bytes, or there are too many"));
                }
                if let Some(dates) = filter.dates
                    && dates.from > dates.to
                {
                    return invalid(format!("the dates end ({}) before they begin ({})", dates.to, dates.from));
                }
                let bounds = [filter.min, filter.max].into_iter().flatten();
                let bbox = filter.bbox.iter().flat_map(|bbox| [bbox.south, bbox.west, bbox.north, bbox.east]);
                if bounds.chain(bbox).any(f64::is_nan) {
                    return invalid("a bound is not a number".to_owned());
                }
            }
        }
        if let Some(team) = &spec.team
            && !config.teams.contains_key(team)
        {
            let teams = config.teams.keys().map(Team::as_str).collect::<Vec<_>>().join(", ");
            let shown: String = team.as_str().chars().take(64).collect();
            return invalid(format!("there is no team {shown:?}; there are {teams}"));
        }
        Ok(())
    }

    /// Waits for a change of the query, showing from time to time that somebody waits.
    async fn wait_for_change(&self, id: QueryId, changed: &mut watch::Receiver<()>) {
        if tokio::time::timeout(TOUCH_INTERVAL, changed.changed()).await.is_err() {
            let now = self.now();
            self.desk().touch(id, now);
        }
    }

    /// As many chunks from `index` on as one message holds, once there is one.
    async fn next_message(
        &self,
        id: QueryId,
        index: u64,
        one_only: bool,
        with_schema: bool,
    ) -> Result<ChunkMessage, Failure> {
        loop {
            let now = self.now();
            let asked = self.desk().ask(id, index, now);
            match asked {
                Asked::Failed(failure) => return Err(failure),
                Asked::NotYet { mut changed, .. } => {
                    // The state may have changed between the question and here: the receiver was made under the lock,
                    // so nothing is missed.
                    self.wait_for_change(id, &mut changed).await;
                }
                Asked::Ready { chunk, partial, total_chunks, footer } => {
                    let ready = ReadyChunks { first: chunk, partial, total_chunks, footer };
                    return self.encode(id, ready, one_only, with_schema).await;
                }
            }
        }
    }

    async fn encode(
        &self,
        id: QueryId,
        ready: ReadyChunks,
        one_only: bool,
        with_schema: bool,
    ) -> Result<ChunkMessage, Failure> {
        let spec = self.desk().spec(id)?;
        let Some(schema) = self.desk().schema(id) else {
            return Err(self.fail(FailureKind::NotFound, "GONE", format!("the result of query {id} is gone")));
        };
        let Some(encoding) = encoding::by_name(spec.encoding) else {
            return Err(self.fail(FailureKind::Internal, "ENCODING", format!("no encoding {}", spec.encoding)));
        };
        let ReadyChunks { first: mut cut, mut partial, mut total_chunks, mut footer } = ready;
        let (mut chunks, mut packing, mut loaded) = (Vec::new(), Packing::new(MESSAGE_BYTES), LastLoaded::default());
        loop {
            let (chunk, read) = self.load_chunk(cut, loaded).await?;
            loaded = read;
            let next = chunk.index + 1;
            let more = packing.add(&*encoding, &chunk) && !one_only && !chunk.is_last;
            chunks.push(chunk);
            if !more {
                break;
            }
            let asked = self.desk().ask(id, next, self.now());
            let Asked::Ready { chunk, partial: known_gap, total_chunks: total, footer: end } = asked else { break };
            cut = chunk;
            partial |= known_gap;
            total_chunks = total;
            footer = end;
        }
        let last = chunks.last().is_some_and(|chunk: &Chunk| chunk.is_last);
        if !last {
            footer = None;
        }
        let head =
            if with_schema { encode_schema(&schema).map_err(|error| self.encode_failure(&error))? } else { Vec::new() };
        let is_small = packing.bytes() <= ENCODED_HERE_BYTES && chunks.iter().all(reads_little);
        let (encoded, cpu) = match is_small || encoding.passes_on(&chunks) {
            true => {
                let start = (self.hop.work_clock)();
                (Ok(encoding.message(&chunks, &schema)), (self.hop.work_clock)().saturating_sub(start))
            }
            false => {
                let (tell, told) = oneshot::channel();
                let clock = Arc::clone(&self.hop.work_clock);
                let encode = Box::new(move || {
                    // Nobody reads any more.
                    if tell.is_closed() {
                        return;
                    }
                    let start = clock();
                    let message = encoding.message(&chunks, &schema);
                    let _ = tell.send((message, clock().saturating_sub(start)));
                });
                self.pool.spawn(&self.turn_share(id), encode);
                match told.await {
                    Ok((message, cpu)) => (Ok(message), cpu),
                    Err(lost) => (Err(lost), Duration::ZERO),
                }
            }
        };
        // The pool's threads report no panic; they end only with the node.
        let encoded = encoded.map_err(|_| match self.shutdown.borrow().is_some() {
            true => self.fail(FailureKind::Unavailable, "ENDING", format!("{} is ending", self.me())),
            false => self.fail(FailureKind::Internal, "ENCODING", "a chunk could not be encoded: its encoder panicked"),
        })?;
        let (data, metas) = encoded.map_err(|error| self.encode_failure(&error))?;
        self.bill_message(id, cpu, data.len());
        self.desk().made(id, self.now());
        let rows = metas.iter().map(|meta| meta.rows).sum();
        self.traffic().add(rows, data.len() as u64, self.now());
        Ok(ChunkMessage { chunks: metas, checksum: data.checksum(), data, partial, schema: head, total_chunks, footer })
    }

    fn encode_failure(&self, error: &dyn std::error::Error) -> Failure {
        self.fail(FailureKind::Internal, "ENCODING", error.to_string())
    }
}

/// Whether a chunk's rows can be had without reading a large block, of which they may be a small part.
fn reads_little(chunk: &Chunk) -> bool {
    let read = |piece: &Arrived| match piece {
        Arrived::Batch(_) => 0,
        Arrived::Packed { block, .. } => block.bytes().len() as u64,
    };
    chunk.pieces.iter().map(read).sum::<u64>() <= ENCODED_HERE_BYTES
}

struct ReadyChunks {
    first: Cut,
    partial: bool,
    total_chunks: Option<u64>,
    footer: Option<Footer>,
}

/// The next message of a stream, made while the one before it is sent: on a busy node each waits for its turn, and else
/// sending would wait as well. One ahead and no more, so a reader that stops holds a message more than it took. Dropped
/// with its stream.
struct Ahead(JoinSet<Result<ChunkMessage, Failure>>);

impl Ahead {
    fn make(queries: &Arc<Queries>, id: QueryId, index: u64) -> Ahead {
        let queries = Arc::clone(queries);
        let mut task = JoinSet::new();
        task.spawn(async move { queries.next_message(id, index, false, false).await });
        Ahead(task)
    }

    async fn message(mut self, queries: &Queries) -> Result<ChunkMessage, Failure> {
        match self.0.join_next().await {
            Some(Ok(message)) => message,
            Some(Err(_)) | None => {
                Err(queries.fail(FailureKind::Internal, "ENCODING", "a message could not be made: its task panicked"))
            }
        }
    }
}

/// Ends a query whose reader went away, if that is what its client wanted.
struct CancelOnDrop {
    queries: Arc<Queries>,
    id: QueryId,
    armed: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            let now = self.queries.now();
            // Gone already: then there is nothing to cancel.
            let _ = self.queries.desk().cancel(self.id, "the client went away", now);
            self.queries.pump();
        }
    }
}

#[async_trait]
impl ClientService for Clients {
    async fn submit(&self, spec: QuerySpec, client: &str) -> Result<Submitted, Failure> {
        let queries = &self.0;
        queries.check(&spec, client)?;
        let limits = &queries.membership.config().limits;
        let now = queries.now();
        let time_left = spec.time_left.unwrap_or(Duration::from_secs(limits.deadline_s));
        let id = new_query_id().map_err(|error| queries.fail(FailureKind::Internal, "RANDOM", error))?;
        let QuerySpec { wait, allow_partial: partial_allowed, cancel_on_disconnect, .. } = spec;
        let share = queries.share_for(id, &spec, client);
        let cores = queries.cores();
        let offered = {
            let mut desk = queries.desk();
            desk.tell_cores(cores.most, cores.is_one_idle);
            desk.offer(id, spec, share.clone(), now.saturating_add(time_left), now)
        };
        if let Err(failure) = offered {
            queries.bill_refusal(&share);
            return Err(failure.at(queries.me()));
        }
        queries.pump();
        if wait {
            // A client that goes away while it waits has no stream yet whose end would tell.
            let mut guard = CancelOnDrop { queries: Arc::clone(queries), id, armed: cancel_on_disconnect };
            let changes = queries.desk().changes(id);
            if let Some(mut changes) = changes {
                loop {
                    let state = queries.desk().status(id)?.state;
                    if state.has_ended() {
                        break;
                    }
                    queries.wait_for_change(id, &mut changes).await;
                }
            }
            guard.armed = false;
            if let Some(failure) = queries.desk().failure(id) {
                return Err(failure);
            }
        }
        let status = queries.desk().status(id)?;
        let mut hops = vec![queries.me().clone()];
        for node in status.footer.iter().flat_map(|footer| &footer.work).flat_map(|work| &work.route) {
            if !hops.contains(node) {
                hops.push(node.clone());
            }
        }
        Ok(Submitted {
            id,
            state: status.state,
            total_chunks: status.total_chunks,
            total_records: status.total_records,
            hops,
            partial_allowed,
        })
    }

    async fn chunk(&self, id: QueryId, index: u64, acknowledged_through: Option<u64>) -> Result<ChunkMessage, Failure> {
        if let Some(through) = acknowledged_through {
            let now = self.0.now();
            self.0.desk().acknowledge(id, through, now);
        }
        self.0.next_message(id, index, true, true).await
    }

    fn stream(
        &self,
        id: QueryId,
        from_index: u64,
        acknowledged_through: Option<u64>,
    ) -> BoxStream<'static, Result<ChunkMessage, Failure>> {
        let queries = Arc::clone(&self.0);
        let armed = {
            let mut desk = queries.desk();
            if let Some(through) = acknowledged_through {
                desk.acknowledge(id, through, queries.now());
            }
            // Everything is acknowledged: only the footer is left to be told.
            if let (Some(total), Some(footer)) = (desk.total_chunks(id), desk.footer(id))
                && from_index == total
            {
                let data = Pieces::default();
                let message = ChunkMessage {
                    chunks: Vec::new(),
                    checksum: data.checksum(),
                    data,
                    partial: !footer.coverage.is_complete(),
                    schema: Vec::new(),
                    total_chunks: Some(total),
                    footer: Some(footer),
                };
                return stream::iter([Ok(message)]).boxed();
            }
            desk.spec(id).is_ok_and(|spec| spec.cancel_on_disconnect)
        };
        let guard = CancelOnDrop { queries: Arc::clone(&queries), id, armed };
        let first = Some((guard, from_index, true, None::<Ahead>));
        stream::unfold(first, move |state| {
            let queries = Arc::clone(&queries);
            async move {
                let (mut guard, index, with_schema, ahead) = state?;
                let message = match ahead {
                    Some(ahead) => ahead.message(&queries).await,
                    None => queries.next_message(id, index, false, with_schema).await,
                };
                let next = match &message {
                    Ok(message) if message.footer.is_none() => {
                        let next = index + message.chunks.len() as u64;
                        Some((guard, next, false, Some(Ahead::make(&queries, id, next))))
                    }
                    // The end. One that would not have come back for the rows before will not come back for them now.
                    Ok(_) => {
                        if std::mem::take(&mut guard.armed) {
                            queries.desk().read_to_the_end(id);
                        }
                        None
                    }
                    // Nobody reads on: what still runs ends with the stream.
                    Err(_) => {
                        guard.armed &= queries.desk().status(id).is_ok_and(|status| !status.state.has_ended());
                        None
                    }
                };
                Some((message, next))
            }
            .boxed()
        })
        .boxed()
    }

    fn cancel(&self, id: QueryId) -> Result<QueryState, Failure> {
        let now = self.0.now();
        let before = self.0.desk().cancel(id, "cancelled by the client", now)?;
        self.0.pump();
        Ok(before)
    }

    fn query_status(&self, id: QueryId) -> Result<QueryStatus, Failure> {
        self.0.desk().status(id)
    }

    fn node_status(&self) -> NodeStatus {
        view::node_status(&self.0)
    }

    fn metrics(&self) -> Metrics {
        let desk = self.0.desk();
        let (admission, results, totals) = (desk.admission(), desk.results(), desk.totals());
        drop(desk);
        view::metrics(&self.0, &admission, &results, totals)
    }

    async fn forward(&self, time_left: Duration) -> Trace {
        self.0.tracer.all(time_left).await
    }

    fn logs(&self, asked: LogsAsked) -> Result<BoxStream<'static, Result<Vec<String>, Failure>>, Failure> {
        self.0.log.open(self.0.me(), &asked)
    }

    fn control(&self, fairness_strategy: Option<&str>) -> Result<String, Failure> {
        let queries = &self.0;
        let config = queries.membership.config();
        if !queries.membership.is_leader() {
            let leader = &config.leader().id;
            let message = format!("{} decides nothing; {leader} is the Leader", queries.me());
            return Err(queries.fail(FailureKind::FailedPrecondition, "NOT_THE_LEADER", message));
        }
        if let Some(name) = fairness_strategy {
            let Some(strategy) = fairness::by_name(name) else {
                let known = fairness::STRATEGIES.iter().map(|line| line.name).collect::<Vec<_>>().join(", ");
                let shown: String = name.chars().take(64).collect();
                let message = format!("there is no fairness strategy {shown:?}; there are {known}");
                return Err(queries.fail(FailureKind::InvalidArgument, "STRATEGY", message));
            };
            queries.desk().set_fairness(strategy);
            tracing::info!(strategy = name, "another fairness strategy is in force");
            // What had to wait under the last one may be free to start.
            queries.pump();
        }
        Ok(queries.desk().admission().strategy.to_owned())
    }

    fn shutdown(&self, graceful: bool) {
        self.0.shutdown.send_replace(Some(graceful));
    }
}

/// An id that nobody can guess.
fn new_query_id() -> Result<QueryId, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(QueryId(u128::from_be_bytes(bytes)))
}
