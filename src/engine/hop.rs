//! One `Scan` at one node: its own partitions from the store, and a branch for each next hop.
//!
//! The stream never fails as a whole. What goes wrong with a partition or a branch is a message in it, so that a dead
//! worker does not take its neighbours' rows along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use overlay_ingest::PartitionId;

use super::executor::{Clock, ScanPool};
use super::message::{BranchFailure, FailureCode, How, NodeWork, ScanMessage, ScanRequest};
use super::predicate::{self, ZoneFilter};
use super::scan::{Output, PART_BYTES_MAX, Remaining, ScanJobs, ZoneOutcome};
use super::share::{Flow, Share};
use super::stop::{Stop, StopReason};
use super::store::Store;
use crate::routing::NodeId;
use crate::routing::assignment::{Branch, split};

/// What each hop keeps for itself of the time left, so that its report arrives before the asker gives up.
pub const HOP_MARGIN: Duration = Duration::from_millis(100);

/// The messages of a scan.
pub type ScanStream = BoxStream<'static, ScanMessage>;

/// Why another node's scan ended without its end.
#[derive(Debug, Clone)]
pub struct RemoteError {
    pub code: FailureCode,
    pub message: String,
}

/// Sends a scan to a neighbour. Implemented in `transport`. Nothing is sent before the stream is first polled.
pub trait RemoteScan: Send + Sync {
    /// The neighbour's messages, then its end. An error in the stream speaks only for the link to `next`.
    fn scan(
        &self,
        next: &NodeId,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<ScanMessage, RemoteError>>, RemoteError>>;
}

/// What a node needs to run scans.
pub struct Hop {
    pub me: NodeId,
    pub store: Arc<Store>,
    pub remote: Arc<dyn RemoteScan>,
    pub pool: Arc<dyn ScanPool>,
    pub clock: Clock,
    pub work_clock: Clock,
    /// The table's schema.
    pub schema: SchemaRef,
    /// The functions that a predicate may name.
    pub functions: Arc<TaskContext>,
}

impl Hop {
    /// Runs the request; `output` says whether the reader is in this process. Work ends when `stop` is raised or the
    /// stream is dropped.
    pub fn run(self: &Arc<Self>, mut request: ScanRequest, stop: Stop, output: Output) -> ScanStream {
        request.hops.push(self.me.clone());
        let deadline = (self.clock)() + request.time_left;
        let split = split(&self.me, std::mem::take(&mut request.orders));
        let in_flight = request.in_flight.max(1);
        let run = Arc::new(Run {
            hop: Arc::clone(self),
            remaining: Arc::new(Remaining::new(request.limit)),
            request,
            deadline,
            stop: stop.clone(),
            output,
        });

        let mut sources: Vec<Source> = Vec::with_capacity(split.branches.len() + 2);
        if !split.stray.is_empty() {
            let partitions = split.stray.into_iter().flat_map(|order| order.partitions).collect();
            let message = format!("{} is not on the path of the order", self.me);
            let failure = run.failure(FailureCode::Internal, message, partitions, None);
            sources.push(Source::Refusal(Box::new(failure)));
        }
        if !split.own.is_empty() {
            sources.push(Source::Own(split.own));
        }
        sources.extend(split.branches.into_iter().map(Source::Branch));
        // Own partitions are beside the branches, not instead of one of them.
        let width = if in_flight == 1 { 1 } else { in_flight.saturating_add(1) };
        let guard = StopOnDrop(stop);
        stream::iter(sources)
            .map(move |source| match source {
                Source::Own(partitions) => run.own(partitions),
                Source::Branch(branch) => run.branch(branch),
                Source::Refusal(failure) => one(*failure),
            })
            .flatten_unordered(Some(width))
            .inspect(move |_| {
                let _held_until_the_stream_is_dropped = &guard;
            })
            .boxed()
    }
}

enum Source {
    Own(Vec<PartitionId>),
    Branch(Branch),
    Refusal(Box<ScanMessage>),
}

/// Ends the jobs of a stream that nobody reads any more.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set(StopReason::Cancelled);
    }
}

/// One request under way at one node.
struct Run {
    hop: Arc<Hop>,
    request: ScanRequest,
    remaining: Arc<Remaining>,
    deadline: Duration,
    stop: Stop,
    output: Output,
}

impl Run {
    fn failure(
        &self,
        code: FailureCode,
        message: impl Into<String>,
        partitions: Vec<PartitionId>,
        next: Option<&NodeId>,
    ) -> ScanMessage {
        let mut route = self.request.hops.clone();
        route.extend(next.cloned());
        ScanMessage::Failed(BranchFailure {
            node: next.unwrap_or(&self.hop.me).clone(),
            route,
            code,
            message: message.into(),
            partitions,
            load: None,
        })
    }

    fn filter(&self) -> datafusion::error::Result<ZoneFilter> {
        let predicate = match self.request.predicate.as_slice() {
            [] => None,
            bytes => Some(predicate::decode(bytes, &self.hop.functions, &self.hop.schema)?),
        };
        ZoneFilter::new(predicate, self.request.projection.clone(), &self.hop.schema, self.request.scan_path)
    }

    /// The account of this node, before it did anything.
    fn no_work(&self) -> NodeWork {
        NodeWork {
            node: self.hop.me.clone(),
            route: self.request.hops.clone(),
            cpu: Duration::ZERO,
            rows_scanned: 0,
            bytes_scanned: 0,
            bytes_sent: 0,
        }
    }

    /// Whether the reader is another node.
    fn is_asked_from_afar(&self) -> bool {
        self.request.hops.len() > 1
    }

    fn share(&self) -> Share {
        let ScanRequest { team, client, query, weight, .. } = &self.request;
        Share { flow: Flow(team.clone()), client: *client, query: *query, weight: *weight }
    }

    /// This node's own partitions.
    fn own(self: &Arc<Self>, partitions: Vec<PartitionId>) -> ScanStream {
        let filter = match self.filter() {
            Ok(filter) => Arc::new(filter),
            Err(error) => {
                let failure = self.failure(FailureCode::Internal, error.to_string(), partitions, None);
                return stream::iter([failure]).boxed();
            }
        };
        let mut held = Vec::with_capacity(partitions.len());
        let mut lacking = Vec::new();
        for id in partitions {
            match self.hop.store.find(&id) {
                Some(partition) => held.push((id, partition, self.request.zones.get(&id).cloned())),
                None => lacking.push(id),
            }
        }
        let lacking = (!lacking.is_empty()).then(|| {
            let message = format!("{} does not hold this version of the partition", self.hop.me);
            self.failure(FailureCode::FailedPrecondition, message, lacking, None)
        });
        let jobs = ScanJobs {
            me: self.hop.me.clone(),
            pool: Arc::clone(&self.hop.pool),
            share: self.share(),
            work_clock: Arc::clone(&self.hop.work_clock),
            filter,
            remaining: Arc::clone(&self.remaining),
            stop: self.stop.clone(),
            output: self.output,
            part_bytes_max: PART_BYTES_MAX,
        };
        let work = self.no_work();
        let run = Arc::clone(self);
        let scanned =
            stream::unfold((Some((jobs.run(held).boxed(), work, Vec::new())), run), |(state, run)| async move {
                let (mut zones, mut work, mut skipped) = state?;
                loop {
                    let outcome = tokio::select! {
                        biased;
                        outcome = zones.next() => outcome,
                        reason = run.stop.raised() => {
                            // What is not answered by now the reader finds missing by itself.
                            let message = run.failure(stop_code(reason), reason.to_string(), Vec::new(), None);
                            return Some((message, (None, run)));
                        }
                    };
                    match outcome {
                        Some(ZoneOutcome::Answered(answers, took)) => {
                            work.cpu += took;
                            // Rows that the zone map decided were counted, but not looked at; every part of a zone says
                            // how many it has.
                            let scanned = answers.iter().filter(|answer| answer.how == How::Scanned && answer.last);
                            work.rows_scanned += scanned.map(|answer| answer.rows_scanned).sum::<u64>();
                            work.bytes_scanned += answers.iter().map(|answer| answer.bytes_scanned).sum::<u64>();
                            if run.is_asked_from_afar() {
                                work.bytes_sent +=
                                    answers.iter().map(|answer| answer.payload.bytes_sent()).sum::<u64>();
                            }
                            return Some((ScanMessage::Zones(answers), (Some((zones, work, skipped)), run)));
                        }
                        Some(ZoneOutcome::Skipped(id)) => {
                            if skipped.last() != Some(&id) {
                                skipped.push(id);
                            }
                        }
                        Some(ZoneOutcome::Failed(id, why)) => {
                            let message = run.failure(FailureCode::Internal, why, vec![id], None);
                            return Some((message, (Some((zones, work, skipped)), run)));
                        }
                        None => return Some((ScanMessage::Done { work, skipped, load: None }, (None, run))),
                    }
                }
            });
        stream::iter(lacking).chain(scanned).boxed()
    }

    /// The partitions that lie behind one neighbour.
    fn branch(self: &Arc<Self>, branch: Branch) -> ScanStream {
        let run = Arc::clone(self);
        async move { run.ask(branch).await }.flatten_stream().boxed()
    }

    async fn ask(self: Arc<Self>, branch: Branch) -> ScanStream {
        let next = branch.next;
        let partitions: Vec<PartitionId> =
            branch.orders.iter().flat_map(|order| order.partitions.iter().copied()).collect();
        let time_left = self.deadline.saturating_sub((self.hop.clock)()).saturating_sub(HOP_MARGIN);
        if time_left.is_zero() {
            let message = "no time is left to ask";
            return one(self.failure(FailureCode::DeadlineExceeded, message, partitions, Some(&next)));
        }
        if self.request.hops.contains(&next) {
            let message = format!("the path would come back to {next}");
            return one(self.failure(FailureCode::Internal, message, partitions, Some(&next)));
        }
        let limit = self.remaining.left();
        if limit == Some(0) {
            return one(ScanMessage::Done { work: self.no_work(), skipped: partitions, load: None });
        }
        let zones: BTreeMap<_, _> =
            partitions.iter().filter_map(|id| self.request.zones.get(id).map(|zones| (*id, zones.clone()))).collect();
        let request = ScanRequest { orders: branch.orders, time_left, limit, zones, ..self.request.clone() };
        let opened = tokio::select! {
            biased;
            opened = self.hop.remote.scan(&next, request) => opened,
            reason = self.stop.raised() => Err(stopped(reason)),
        };
        match opened {
            Ok(messages) => self.relay(next, partitions, messages),
            Err(error) => one(self.failure(error.code, error.message, partitions, Some(&next))),
        }
    }

    /// Passes a neighbour's messages on, undecoded, until its end, its failure, or ours.
    fn relay(
        self: Arc<Self>,
        next: NodeId,
        partitions: Vec<PartitionId>,
        messages: BoxStream<'static, Result<ScanMessage, RemoteError>>,
    ) -> ScanStream {
        stream::unfold((Some(messages), self, next, partitions), |(messages, run, next, partitions)| async move {
            let mut messages = messages?;
            let message = tokio::select! {
                biased;
                message = messages.next() => message?,
                reason = run.stop.raised() => Err(stopped(reason)),
            };
            Some(match message {
                Ok(message) => {
                    if let ScanMessage::Zones(answers) = &message {
                        run.remaining.take(answers.iter().map(|answer| answer.rows).sum());
                    }
                    (message, (Some(messages), run, next, partitions))
                }
                Err(error) => {
                    let message = run.failure(error.code, error.message, partitions.clone(), Some(&next));
                    (message, (None, run, next, partitions))
                }
            })
        })
        .boxed()
    }
}

fn one(message: ScanMessage) -> ScanStream {
    stream::iter([message]).boxed()
}

fn stop_code(reason: StopReason) -> FailureCode {
    match reason {
        StopReason::Deadline => FailureCode::DeadlineExceeded,
        StopReason::Cancelled => FailureCode::Unavailable,
    }
}

fn stopped(reason: StopReason) -> RemoteError {
    RemoteError { code: stop_code(reason), message: reason.to_string() }
}
