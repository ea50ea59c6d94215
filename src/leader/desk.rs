//! The Leader's book of queries: who waits, who runs, what came of each, and the results they are read from.
//!
//! accepted → running → ready | partial | cancelled | expired | failed. Every way to an end goes through [`Desk::end`],
//! which frees the permit and says what is left. Plain state; the tasks that run queries are in `node`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tokio::sync::watch;

use super::admission::{Admission, AdmissionCounters, Expired, Refused};
use super::answer::{Footer, QuerySpec, QueryState, QueryStatus};
use super::fairness::Share;
use crate::delivery::result::ChunkingParams;
use crate::delivery::spool::Spooled;
use crate::delivery::store::{Place, ResultStore, StoreCounters, StoreError, Why};
use crate::delivery::{Arrived, ChunkState, Cut, Gone, QueryId};
use crate::engine::meter::Meter;
use crate::engine::stop::{Stop, StopReason};
use crate::failure::{Failure, FailureKind};

#[path = "desk_billing.rs"]
mod billing;

/// Ended queries that are remembered; beyond that the oldest is forgotten with its result.
const ENDED_MAX: usize = 10_000;

/// How long after its deadline a running query may still tell what is missing. Its task ends it within a second; this
/// is for one that computes and does not hear.
const OVERDUE_MAX: Duration = Duration::from_millis(1500);

/// One query.
pub struct Query {
    pub spec: Arc<QuerySpec>,
    /// Whom it is billed to.
    pub share: Share,
    /// What its nodes spend, once it is planned.
    meter: Option<Arc<Meter>>,
    pub state: QueryState,
    pub stop: Stop,
    /// When its time is over.
    pub deadline: Duration,
    submitted: Duration,
    started: Option<Duration>,
    failure: Option<Failure>,
    footer: Option<Footer>,
    /// A gap is known.
    partial: bool,
    /// Of a result that was read to its end and let go.
    total_chunks: Option<u64>,
    changed: watch::Sender<()>,
}

/// All queries of a Leader.
pub struct Desk {
    admission: Admission,
    results: ResultStore,
    queries: HashMap<QueryId, Query>,
    ended: VecDeque<QueryId>,
    refused: u64,
    admitted: u64,
    /// Up to when results were charged for being held.
    held_until: Duration,
}

/// What to do with somebody who asks for a chunk.
pub enum Asked {
    Ready {
        chunk: Cut,
        partial: bool,
        total_chunks: Option<u64>,
        footer: Option<Footer>,
    },
    /// Wait for a change, at most until the deadline.
    NotYet {
        changed: watch::Receiver<()>,
        deadline: Duration,
    },
    Failed(Failure),
}

impl Desk {
    /// An empty book.
    pub fn new(admission: Admission, results: ResultStore) -> Desk {
        Desk {
            admission,
            results,
            queries: HashMap::new(),
            ended: VecDeque::new(),
            refused: 0,
            admitted: 0,
            held_until: Duration::ZERO,
        }
    }

    /// A query arrives. It is refused, or waits for [`Desk::start_next`]. In a full queue it may take the place of another,
    /// which then is refused.
    pub fn offer(
        &mut self,
        id: QueryId,
        spec: QuerySpec,
        share: Share,
        deadline: Duration,
        now: Duration,
    ) -> Result<(), Failure> {
        match self.admission.offer(id, share.clone(), deadline, now) {
            Ok(None) => {}
            Ok(Some(displaced)) => {
                self.refused += 1;
                self.end(displaced.id, Err(refusal(&displaced.why)), now);
            }
            Err(refused) => {
                self.refused += 1;
                return Err(refusal(&refused));
            }
        }
        self.admitted += 1;
        let query = Query {
            spec: Arc::new(spec),
            share,
            meter: None,
            state: QueryState::Accepted,
            stop: Stop::default(),
            deadline,
            submitted: now,
            started: None,
            failure: None,
            footer: None,
            partial: false,
            total_chunks: None,
            changed: watch::Sender::new(()),
        };
        self.queries.insert(id, query);
        Ok(())
    }

    /// The next query that may start, in the order of the queue; it holds its permit until it ends.
    pub fn start_next(&mut self, now: Duration) -> Option<QueryId> {
        let id = self.admission.start_next(now)?;
        if let Some(query) = self.queries.get_mut(&id) {
            query.state = QueryState::Running;
            query.started = Some(now);
            query.changed.send_replace(());
        }
        Some(id)
    }

    /// What the task that runs a query needs.
    pub fn running(&self, id: QueryId) -> Option<(Arc<QuerySpec>, Stop, Duration)> {
        let query = self.queries.get(&id).filter(|query| query.state == QueryState::Running)?;
        Some((Arc::clone(&query.spec), query.stop.clone(), query.deadline))
    }

    /// The query was planned: chunks can be cut. Not any more for one that has ended meanwhile: its task hears of that at
    /// its next pause only, and nobody would come for what it began.
    pub fn open_result(
        &mut self,
        id: QueryId,
        schema: SchemaRef,
        chunking: ChunkingParams,
        now: Duration,
    ) -> Result<(), Failure> {
        if self.queries.get(&id).is_none_or(|query| query.state.has_ended()) {
            return Err(self.unknown(id));
        }
        self.results.open(id, schema, chunking, now).map_err(|error| out_of_room(&error))
    }

    /// Rows were accepted. Gives them back if they are to be written to disk, and [`Desk::append_spooled`] then.
    pub fn append(&mut self, id: QueryId, arrived: Arrived, partial: bool) -> Result<Option<Arrived>, Failure> {
        self.charge_spent(id);
        if let Some(query) = self.queries.get_mut(&id) {
            query.partial |= partial;
        }
        match self.results.place(id, &arrived).map_err(|error| out_of_room(&error))? {
            Place::Memory => self.append_in_memory(id, arrived).map(|()| None),
            Place::Disk => Ok(Some(arrived)),
        }
    }

    /// Rows that the disk had no room for after all.
    pub fn append_in_memory(&mut self, id: QueryId, arrived: Arrived) -> Result<(), Failure> {
        self.results.append(id, arrived).map_err(|error| out_of_room(&error))?;
        self.notify(id);
        Ok(())
    }

    /// Rows were accepted and written to disk.
    pub fn append_spooled(&mut self, id: QueryId, batch: Spooled) -> Result<(), Failure> {
        self.results.append_spooled(id, batch).map_err(|error| out_of_room(&error))?;
        self.notify(id);
        Ok(())
    }

    /// The one end of every query: gives the permit back, keeps what is left to be read. Only the first end counts.
    pub fn end(&mut self, id: QueryId, end: Result<Footer, Failure>, now: Duration) {
        self.charge_spent(id);
        if !self.admission.finish(id, now) {
            self.admission.withdraw(id);
        }
        let Some(query) = self.queries.get_mut(&id).filter(|query| !query.state.has_ended()) else { return };
        match end {
            Ok(mut footer) => {
                footer.elapsed = now.saturating_sub(query.submitted);
                footer.queued = query.started.unwrap_or(now).saturating_sub(query.submitted);
                footer.rows = self.results.get(id).map_or(0, |result| result.rows_so_far());
                query.state = footer.state;
                query.partial |= footer.state == QueryState::Partial;
                query.footer = Some(footer);
                self.results.finish(id, now);
                if query.spec.wait {
                    // The client waits for totals, so the boundaries are all asked for now.
                    self.results.fix_all(id);
                }
            }
            Err(failure) => {
                query.state = match failure.kind {
                    FailureKind::Cancelled => QueryState::Cancelled,
                    FailureKind::DeadlineExceeded => QueryState::Expired,
                    _ => QueryState::Failed,
                };
                // What still runs for it has no reader any more.
                query.stop.set(StopReason::Cancelled);
                if failure.kind == FailureKind::Cancelled {
                    self.results.cancel(id);
                } else {
                    self.results.fail(id, &failure.message, now);
                }
                query.failure = Some(failure);
            }
        }
        // Thousands of ended ones are remembered, and statements may be long.
        query.spec = Arc::new(query.spec.without_ask());
        query.changed.send_replace(());
        self.ended.push_back(id);
        while self.ended.len() > ENDED_MAX {
            if let Some(oldest) = self.ended.pop_front() {
                self.results.cancel(oldest);
                self.queries.remove(&oldest);
            }
        }
    }

    /// Ends a query on a client's word, or frees its result; gives the state before.
    pub fn cancel(&mut self, id: QueryId, why: &str, now: Duration) -> Result<QueryState, Failure> {
        let Some(query) = self.queries.get(&id) else { return Err(self.unknown(id)) };
        let before = query.state;
        if before.has_ended() {
            self.results.cancel(id);
        } else {
            query.stop.set(StopReason::Cancelled);
            self.end(id, Err(Failure::new(FailureKind::Cancelled, "CANCELLED", why)), now);
        }
        Ok(before)
    }

    /// Somebody asks for a chunk.
    pub fn ask(&mut self, id: QueryId, index: u64, now: Duration) -> Asked {
        let Some(query) = self.queries.get(&id) else { return Asked::Failed(self.unknown(id)) };
        if let Some(failure) = &query.failure {
            return Asked::Failed(failure.clone());
        }
        let not_yet = || Asked::NotYet { changed: query.changed.subscribe(), deadline: query.deadline };
        match self.results.ask(id, index, now) {
            ChunkState::Ready(chunk) => {
                let total_chunks = self.results.get(id).ok().and_then(|result| result.total_chunks());
                let footer = query.footer.clone().filter(|_| chunk.is_last);
                if chunk.is_last && footer.is_none() {
                    // The last row is there, the verdict on coverage is not: whether this is an answer is open.
                    return not_yet();
                }
                Asked::Ready { chunk, partial: query.partial, total_chunks, footer }
            }
            ChunkState::NotYet => not_yet(),
            ChunkState::OutOfRange { total_chunks } => {
                let message = format!("there is no chunk {index}: the result has {total_chunks}");
                Asked::Failed(Failure::new(FailureKind::OutOfRange, "PAST_THE_END", message))
            }
            ChunkState::Failed(reason) => {
                Asked::Failed(Failure::new(FailureKind::Internal, "FAILED", reason.to_string()))
            }
            // Before the plan is made there is no result yet.
            ChunkState::Gone(Gone::Unknown) if !query.state.has_ended() => not_yet(),
            ChunkState::Gone(Gone::Unknown) if query.total_chunks.is_some() => {
                Asked::Failed(gone(id, Gone::Acknowledged))
            }
            ChunkState::Gone(why) => Asked::Failed(gone(id, why)),
        }
    }

    /// The end of a query that has one, for a reader who has every chunk.
    pub fn footer(&self, id: QueryId) -> Option<Footer> {
        self.queries.get(&id).and_then(|query| query.footer.clone())
    }

    /// How many chunks a finished result has, once every boundary is fixed, or had before it was let go.
    pub fn total_chunks(&self, id: QueryId) -> Option<u64> {
        let held = self.results.get(id).ok().and_then(|result| result.total_chunks());
        held.or_else(|| self.queries.get(&id).and_then(|query| query.total_chunks))
    }

    /// The schema of a planned query.
    pub fn schema(&self, id: QueryId) -> Option<SchemaRef> {
        self.results.get(id).ok().map(|result| Arc::clone(result.schema()))
    }

    /// The query as it was opened; once it has ended, without what was asked.
    pub fn spec(&self, id: QueryId) -> Result<Arc<QuerySpec>, Failure> {
        self.queries.get(&id).map(|query| Arc::clone(&query.spec)).ok_or_else(|| self.unknown(id))
    }

    /// Somebody has read all of a result that has ended well, and nobody will ask for any of it again.
    pub fn read_to_the_end(&mut self, id: QueryId) {
        let total_chunks = self.total_chunks(id);
        if let Some(query) = self.queries.get_mut(&id).filter(|query| query.footer.is_some()) {
            query.total_chunks = total_chunks;
            self.results.let_go(id);
        }
    }

    /// These chunks will not be asked for again.
    pub fn acknowledge(&mut self, id: QueryId, through: u64, now: Duration) {
        self.results.acknowledge_through(id, through, now);
    }

    /// What was asked for last is encoded, and can be read from now on.
    pub fn made(&mut self, id: QueryId, now: Duration) {
        self.results.made(id, now);
    }

    /// Somebody waits for this query.
    pub fn touch(&mut self, id: QueryId, now: Duration) {
        self.results.touch(id, now);
    }

    /// How far a query is.
    pub fn status(&self, id: QueryId) -> Result<QueryStatus, Failure> {
        let query = self.queries.get(&id).ok_or_else(|| self.unknown(id))?;
        let result = self.results.get(id).ok();
        Ok(QueryStatus {
            id,
            state: query.state,
            total_chunks: self.total_chunks(id),
            total_records: query.footer.as_ref().map(|footer| footer.rows),
            records_so_far: result.map_or(0, |result| result.rows_so_far()),
            partial: query.partial,
            footer: query.footer.clone(),
        })
    }

    /// Why a query failed, if it did.
    pub fn failure(&self, id: QueryId) -> Option<Failure> {
        self.queries.get(&id).and_then(|query| query.failure.clone())
    }

    /// Follows a query's progress.
    pub fn changes(&self, id: QueryId) -> Option<watch::Receiver<()>> {
        self.queries.get(&id).map(|query| query.changed.subscribe())
    }

    /// Ends what waited or ran past its deadline and what nobody attends to; to be called a few times a second, from
    /// where no plan can be in the way.
    pub fn expire(&mut self, now: Duration) {
        self.charge_all_spent();
        self.charge_for_holding(now);
        for Expired { id, why } in self.admission.expired(now) {
            let failure = match &why {
                Some(why) => {
                    self.refused += 1;
                    refusal(why)
                }
                None => {
                    let message = "the deadline came while the query waited in the queue";
                    Failure::new(FailureKind::DeadlineExceeded, "DEADLINE", message)
                }
            };
            self.end(id, Err(failure), now);
        }
        let is_overdue = |query: &Query| query.state == QueryState::Running && now >= query.deadline;
        let overdue: Vec<(QueryId, Duration)> = self
            .queries
            .iter()
            .filter(|(_, query)| is_overdue(query))
            .map(|(id, query)| (*id, query.deadline))
            .collect();
        for (id, deadline) in overdue {
            if let Some(query) = self.queries.get(&id) {
                query.stop.set(StopReason::Deadline);
            }
            if now >= deadline.saturating_add(OVERDUE_MAX) {
                let message = "the query's time was over before it ended";
                self.end(id, Err(Failure::new(FailureKind::DeadlineExceeded, "DEADLINE", message)), now);
            }
        }
        for (id, why) in self.results.expire(now) {
            match why {
                Why::Idle => {
                    let message = "nobody attended to the query: abandoned";
                    self.end(id, Err(Failure::new(FailureKind::Cancelled, "ABANDONED", message)), now);
                }
                Why::Ttl => {}
            }
            self.forget(id);
        }
    }

    fn forget(&mut self, id: QueryId) {
        self.queries.remove(&id);
        if let Some(position) = self.ended.iter().position(|ended| *ended == id) {
            self.ended.remove(position);
        }
    }

    /// Ends everything; the node stops.
    pub fn end_all(&mut self, why: &str, now: Duration) {
        let running: Vec<QueryId> =
            self.queries.iter().filter(|(_, query)| !query.state.has_ended()).map(|(id, _)| *id).collect();
        for id in running {
            self.end(id, Err(Failure::new(FailureKind::Unavailable, "DRAINING", why)), now);
        }
    }

    /// How many queries run, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        self.admission.load()
    }

    /// Admission's figures.
    pub fn admission(&self) -> AdmissionCounters {
        self.admission.counters()
    }

    /// The store's figures.
    pub fn results(&self) -> StoreCounters {
        self.results.counters()
    }

    /// Queries let in, and refused, since the start.
    pub fn totals(&self) -> (u64, u64) {
        (self.admitted, self.refused)
    }

    fn notify(&self, id: QueryId) {
        if let Some(query) = self.queries.get(&id) {
            query.changed.send_replace(());
        }
    }

    fn unknown(&self, id: QueryId) -> Failure {
        gone(id, self.results.get(id).err().unwrap_or(Gone::Unknown))
    }
}

fn gone(id: QueryId, why: Gone) -> Failure {
    Failure::new(FailureKind::NotFound, &why.to_string(), format!("the result of query {id} is not here: {why}"))
}

fn out_of_room(error: &StoreError) -> Failure {
    match error {
        StoreError::OverBudget { .. } => {
            Failure::new(FailureKind::ResourceExhausted, "RESULT_BYTES", error.to_string())
        }
        StoreError::Gone(_) => Failure::new(FailureKind::Cancelled, "GONE", error.to_string()),
        StoreError::NotAccepted(_) => Failure::new(FailureKind::Internal, "RESULT", error.to_string()),
    }
}

fn refusal(refused: &Refused) -> Failure {
    let reason = match refused {
        Refused::QueueFull { .. } => "QUEUE_FULL",
        Refused::Displaced { .. } => "DISPLACED",
        Refused::DeadlineCannotBeMet { .. } | Refused::TooLate { .. } => "DEADLINE_CANNOT_BE_MET",
    };
    Failure {
        retry_after: Some(refused.retry_after()),
        ..Failure::new(FailureKind::ResourceExhausted, reason, refused.to_string())
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
