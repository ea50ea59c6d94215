//! Reads one leaf: assigns its partitions, runs the scans, accepts their zones, asks again for what is missing.
//!
//! An attempt is one assignment. Between attempts only unanswered zones are asked for, from a holder or over a path
//! that has not failed for that partition yet; when there is none left, what is missing stays missing: the reader
//! then fails, or with `allow_partial` records it and ends. It never ends normally over a gap in silence.

mod query;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use overlay_ingest::PartitionId;

use super::acceptance::{Acceptance, Interest};
use super::coverage::{Gap, LeafEnd, Outcome};
use super::hop::ScanStream;
use super::message::{BranchFailure, FailureCode, How, NodeWork, Payload, ScanMessage, ScanRequest, ZoneAnswer};
use super::meter::Spent;
use super::plain::{plain_schema, spell_out};
use super::scan::Output;
use super::stop::{Stop, StopReason};
use crate::delivery::Arrived;
use crate::delivery::encoding::checksum;
use crate::delivery::encoding::packed::Packed;
use crate::routing::NodeId;
use crate::routing::assignment::{Order, Tried, assign};
use crate::routing::topology::Link;

pub use query::{LeafSpec, Overview, PinnedPartition, QueryContext, ReadError};

/// One execution of one leaf.
pub struct Reader {
    context: Arc<QueryContext>,
    spec: LeafSpec,
    /// Whether the leaf's schema promises plain texts.
    is_plain: bool,
    /// Whether rows of this node are wanted in blocks as well.
    is_packing: bool,
    /// Of the rows as they come from other nodes.
    packed_schema: SchemaRef,
    acceptance: Acceptance,
    tried: Tried,
    attempt: u32,
    /// Zones accepted before the running attempt.
    zones_before: u64,
    running: Option<ScanStream>,
    /// How each partition of the running attempt was asked for.
    asked: BTreeMap<PartitionId, Order>,
    skipped: BTreeSet<PartitionId>,
    /// Rows of these came damaged in the running attempt.
    damaged: BTreeSet<PartitionId>,
    gaps: BTreeMap<PartitionId, Gap>,
    work: Vec<NodeWork>,
    /// What the answers of the running attempt say of nodes that did not come to their end yet.
    unfinished: BTreeMap<NodeId, NodeWork>,
    released: VecDeque<Arrived>,
    ended: bool,
}

impl Reader {
    /// Nothing is sent before the first call of [`Reader::next`].
    pub fn new(context: Arc<QueryContext>, spec: LeafSpec) -> Reader {
        let expected = spec.partitions.iter().map(|partition| (partition.id, partition.stats.as_ref().map(|s| s.rows)));
        let is_plain = context.plain_texts && plain_schema(&spec.schema) == spec.schema;
        let packed_schema = match is_plain {
            true => Arc::new(context.hop.schema.project(&spec.projection).unwrap_or_else(|_| Schema::empty())),
            false => Arc::clone(&spec.schema),
        };
        Reader {
            acceptance: Acceptance::new(expected.collect::<Vec<_>>(), spec.limit, context.allow_partial),
            context,
            spec,
            is_plain,
            is_packing: false,
            packed_schema,
            tried: Tried::default(),
            attempt: 0,
            zones_before: 0,
            running: None,
            asked: BTreeMap::new(),
            skipped: BTreeSet::new(),
            damaged: BTreeSet::new(),
            gaps: BTreeMap::new(),
            work: Vec::new(),
            unfinished: BTreeMap::new(),
            released: VecDeque::new(),
            ended: false,
        }
    }

    /// The rows of this node in blocks as well, as those of others come: for who passes them on.
    pub fn packing(mut self) -> Reader {
        self.is_packing = true;
        self
    }

    /// The next batch; `None` when every partition has its outcome.
    pub async fn next(&mut self) -> Option<Result<Arrived, ReadError>> {
        loop {
            if let Some(arrived) = self.released.pop_front() {
                return Some(Ok(arrived));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.step().await {
                self.running = None;
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// Takes one message, or starts the next attempt, or concludes.
    async fn step(&mut self) -> Result<(), ReadError> {
        if self.acceptance.satisfied() {
            return self.conclude(None);
        }
        let Some(running) = &mut self.running else { return self.start() };
        let context = Arc::clone(&self.context);
        let message = tokio::select! {
            biased;
            reason = context.stop.raised() => return self.conclude(Some(reason)),
            message = running.next() => message,
        };
        match message {
            Some(ScanMessage::Zones(answers)) => {
                let mut answers = answers.into_iter();
                while let Some(answer) = answers.next() {
                    let more = match answer.payload {
                        Payload::Packed { answers, .. } | Payload::Block { answers, .. } => {
                            answers.saturating_sub(1) as usize
                        }
                        _ => 0,
                    };
                    self.accept(std::iter::once(answer).chain(answers.by_ref().take(more)).collect())?;
                }
            }
            Some(ScanMessage::Failed(failure)) => {
                if let Some(load) = failure.load {
                    context.overview.replied(&failure.node, load);
                }
                self.note_failure(&failure);
            }
            Some(ScanMessage::Done { work, skipped, load }) => {
                if let Some(load) = load {
                    context.overview.replied(&work.node, load);
                }
                self.settle(&work);
                if work.rows_scanned > 0 || work.bytes_scanned > 0 || skipped.is_empty() {
                    self.work.push(work);
                }
                self.skipped.extend(skipped);
            }
            None => self.end_attempt(),
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), ReadError> {
        if let Some(reason) = self.context.stop.reason() {
            return self.conclude(Some(reason));
        }
        let missing = self.acceptance.missing();
        if missing.is_empty() {
            return self.conclude(None);
        }
        let time_left = self.context.deadline.saturating_sub((self.context.hop.clock)());
        let wanted: Vec<PartitionId> = missing.keys().copied().collect();
        let assignment = assign(
            &self.context.overview.snapshot(),
            &wanted,
            &*self.context.forwarding,
            self.context.asynchronous,
            self.context.turn,
            &self.tried,
        );
        for id in &assignment.unassigned {
            self.gaps.entry(*id).or_insert_with(|| no_holder(&*self.context.overview, id));
        }
        if assignment.orders.is_empty() {
            return self.conclude(None);
        }
        self.context.overview.ordered(&assignment.orders);
        self.asked.clear();
        for order in &assignment.orders {
            for id in &order.partitions {
                let single = Order { path: order.path.clone(), partitions: vec![*id] };
                self.asked.insert(*id, single);
            }
        }
        let request = ScanRequest {
            query: self.context.query,
            attempt: self.attempt,
            leaf: self.spec.leaf,
            team: self.context.team.clone(),
            client: self.context.client,
            weight: self.context.weight,
            time_left,
            hops: Vec::new(),
            leader: self.context.leader.clone(),
            orders: assignment.orders,
            zones: missing.into_iter().filter(|(_, zones)| !zones.is_empty()).collect(),
            in_flight: assignment.in_flight,
            projection: self.spec.projection.clone(),
            predicate: self.spec.predicate.clone(),
            limit: self.acceptance.rows_left(),
            scan_path: self.context.scan_path,
        };
        // A flag of its own: dropping this attempt's stream ends this attempt's jobs, not the query.
        let output = match (self.is_plain, self.is_packing) {
            (true, _) => Output::Plain,
            (false, true) => Output::Packed,
            (false, false) => Output::Batches,
        };
        self.running = Some(self.context.hop.run(request, Stop::default(), output));
        Ok(())
    }

    /// Counts an answer's work until its node tells all of its own; a reader that is satisfied early never hears that.
    fn note_work(&mut self, answer: &ZoneAnswer) {
        let asked = self.asked.get(&answer.partition);
        let links = asked.map_or(0, |order| order.path.nodes().len().saturating_sub(1) as u64);
        // Rows are said with every part, and count once.
        let counts = answer.last && answer.how == How::Scanned;
        let spent = Spent {
            cpu: answer.cpu,
            bytes_sent: answer.payload.bytes_sent() * links,
            rows_scanned: if counts { answer.rows_scanned } else { 0 },
        };
        self.context.meter.add(spent);
        let work = self.unfinished.entry(answer.node.clone()).or_insert_with(|| NodeWork {
            node: answer.node.clone(),
            route: asked.map(|order| order.path.nodes().to_vec()).unwrap_or_default(),
            cpu: Duration::ZERO,
            rows_scanned: 0,
            bytes_scanned: 0,
            bytes_sent: 0,
        });
        work.cpu += answer.cpu;
        work.rows_scanned += spent.rows_scanned;
        work.bytes_scanned += answer.bytes_scanned;
        // Rows of this node are sent by nobody.
        work.bytes_sent += if links > 0 { answer.payload.bytes_sent() } else { 0 };
    }

    /// A node has told all of its work: what its answers did not say is metered now.
    fn settle(&mut self, work: &NodeWork) {
        let known = self.unfinished.remove(&work.node);
        let links = work.route.len().saturating_sub(1) as u64;
        let (cpu, sent, rows) =
            known.map_or_else(Default::default, |known| (known.cpu, known.bytes_sent, known.rows_scanned));
        self.context.meter.add(Spent {
            cpu: work.cpu.saturating_sub(cpu),
            bytes_sent: work.bytes_sent.saturating_sub(sent) * links,
            rows_scanned: work.rows_scanned.saturating_sub(rows),
        });
    }

    /// Takes answers that share a payload, most often one.
    fn accept(&mut self, answers: Vec<ZoneAnswer>) -> Result<(), ReadError> {
        let mut is_wanted = false;
        for answer in &answers {
            self.note_work(answer);
            is_wanted |= self.acceptance.interest(answer, self.attempt)? == Interest::Wanted;
        }
        if !is_wanted {
            return Ok(());
        }
        match self.open(&answers) {
            Ok(rows) => {
                let mut at = 0;
                for answer in answers {
                    // Fits: together the answers have as many rows as came.
                    let count = answer.rows as usize;
                    let own = rows.as_ref().filter(|_| count > 0).map(|rows| rows.slice(at, count));
                    at += count;
                    for rows in self.acceptance.offer(answer, own, self.attempt)? {
                        self.release(rows);
                    }
                }
            }
            // The zones stay open, so they are asked for again.
            Err(message) => {
                for answer in answers {
                    let order = self.asked.get(&answer.partition);
                    let route = order.map_or_else(Vec::new, |order| order.path.nodes().to_vec());
                    let (node, code, message) = (Some(answer.node), FailureCode::DataLoss, message.clone());
                    self.damaged.insert(answer.partition);
                    self.gaps.insert(answer.partition, Gap { node, route, code, message });
                }
            }
        }
        Ok(())
    }

    /// Zones that came in one block leave together again.
    fn release(&mut self, rows: Arrived) {
        match self.released.back_mut() {
            Some(before) if let Some(joined) = before.joined(&rows) => *before = joined,
            _ => self.released.push_back(rows),
        }
    }

    /// The rows of answers that share a payload, after its checksum; never more or fewer than their headers say. Packed
    /// ones stay so where their types are those that are wanted.
    fn open(&self, answers: &[ZoneAnswer]) -> Result<Option<Arrived>, String> {
        let [answer, others @ ..] = answers else { return Ok(None) };
        let wrong = |error: String| format!("zone {}: {error}", answer.zone);
        let rows = answers.iter().try_fold(0_u64, |rows, answer| rows.checked_add(answer.rows));
        let other_rows = || wrong("the rows are not those of its header".into());
        let batch = match &answer.payload {
            Payload::Batch(batch) => batch.clone(),
            Payload::Packed { answers: expected, .. } | Payload::Block { answers: expected, .. } => {
                let is_alone = |answer: &ZoneAnswer| matches!(answer.payload, Payload::None);
                if answers.len() != *expected as usize || !others.iter().all(is_alone) {
                    return Err(wrong(format!("its rows are shared with {} answers of {expected}", answers.len())));
                }
                let block = self.block(&answer.payload).map_err(wrong)?;
                if Some(block.rows() as u64) != rows {
                    return Err(other_rows());
                }
                if !self.is_plain {
                    return Ok(Some(block.into()));
                }
                let batch = block.to_batch().map_err(|error| wrong(error.to_string()))?;
                spell_out(&batch).map_err(|error| wrong(error.to_string()))?
            }
            Payload::None if answer.rows == 0 => return Ok(None),
            Payload::None if self.spec.schema.fields().is_empty() => {
                let options = RecordBatchOptions::new().with_row_count(usize::try_from(answer.rows).ok());
                RecordBatch::try_new_with_options(Arc::clone(&self.spec.schema), Vec::new(), &options)
                    .map_err(|error| error.to_string())?
            }
            Payload::None => return Err(wrong(format!("{} rows without data", answer.rows))),
        };
        if Some(batch.num_rows() as u64) != rows || batch.schema().fields() != self.spec.schema.fields() {
            return Err(other_rows());
        }
        // Metadata may differ on the way; the plan promised this schema.
        RecordBatch::try_new_with_options(
            Arc::clone(&self.spec.schema),
            batch.columns().to_vec(),
            &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
        )
        .map(|batch| Some(batch.into()))
        .map_err(|error| error.to_string())
    }

    /// The block of a payload; one from another node after a look whether it is as it was sent, and readable.
    fn block(&self, payload: &Payload) -> Result<Packed, String> {
        let block = match payload {
            Payload::Packed { bytes, xxh3, .. } if checksum(bytes) != *xxh3 => {
                return Err("the checksum does not fit".into());
            }
            Payload::Packed { bytes, .. } => {
                Some(Packed::open(bytes.clone(), &self.packed_schema).map_err(|error| error.to_string())?)
            }
            Payload::Block { block, .. } => block.clone().in_schema(&self.packed_schema),
            Payload::None | Payload::Batch(_) => None,
        };
        block.ok_or_else(|| "its columns are others".into())
    }

    fn note_failure(&mut self, failure: &BranchFailure) {
        for id in &failure.partitions {
            if self.asked.contains_key(id) {
                // Who used up the time is told, not the one that later finds none left.
                if self.gaps.get(id).is_none_or(|gap| gap.code != FailureCode::DeadlineExceeded) {
                    self.gaps.insert(*id, Gap::from_failure(failure));
                }
                self.skipped.remove(id);
                if failure.code == FailureCode::FailedPrecondition {
                    self.tried.refused(*id, failure.node.clone());
                }
            }
        }
        if let [.., from, to] = failure.route.as_slice()
            && failure.code == FailureCode::Unavailable
        {
            self.tried.broke(Link::between(from, to));
        }
    }

    fn end_attempt(&mut self) {
        self.running = None;
        self.acceptance.end_attempt();
        let missing: Vec<PartitionId> = self.acceptance.missing().into_keys().collect();
        // Skipped for a limit that then was not reached: nobody failed, so the same holder may be asked again.
        let is_excused = |id: &PartitionId| self.skipped.contains(id) && !self.damaged.contains(id);
        // But where nothing new came and nobody failed, all count: else they were skipped and asked for for ever.
        let stuck = self.acceptance.accepted_zones() == self.zones_before && missing.iter().all(is_excused);
        let unanswered = missing.iter().filter(|id| stuck || !is_excused(id));
        let unanswered: Vec<Order> = unanswered.filter_map(|id| self.asked.get(id).cloned()).collect();
        self.tried.record(&unanswered);
        self.zones_before = self.acceptance.accepted_zones();
        self.skipped.clear();
        self.damaged.clear();
        self.attempt += 1;
    }

    fn conclude(&mut self, stopped: Option<StopReason>) -> Result<(), ReadError> {
        self.running = None;
        self.acceptance.end_attempt();
        self.ended = true;
        if stopped == Some(StopReason::Cancelled) {
            return Err(ReadError::Cancelled);
        }
        let satisfied = self.acceptance.satisfied();
        let missing: Vec<(PartitionId, Gap)> = match satisfied {
            true => Vec::new(),
            false => self.acceptance.missing().into_keys().map(|id| (id, self.gap(&id, stopped))).collect(),
        };
        if !missing.is_empty() && !self.context.allow_partial {
            // The time of a hop is over a little before that of the query, and is the same end.
            let late = missing.iter().any(|(_, gap)| gap.code == FailureCode::DeadlineExceeded);
            return Err(match stopped.is_some() || late {
                true => ReadError::Expired(missing),
                false => ReadError::Missing(missing),
            });
        }
        let mut outcomes: BTreeMap<PartitionId, Outcome> =
            self.acceptance.answered().map(|(id, rows, how)| (id, Outcome::Answered { rows, how })).collect();
        for partition in &self.spec.partitions {
            outcomes.entry(partition.id).or_insert(Outcome::NotNeeded);
        }
        outcomes.extend(missing.into_iter().map(|(id, gap)| (id, Outcome::Missing(gap))));
        let work = self.all_work();
        self.context.sink.ended(self.spec.leaf, LeafEnd::Ended, outcomes, work);
        Ok(())
    }

    fn all_work(&mut self) -> Vec<NodeWork> {
        let mut work = std::mem::take(&mut self.work);
        work.extend(std::mem::take(&mut self.unfinished).into_values());
        work
    }

    fn gap(&self, id: &PartitionId, stopped: Option<StopReason>) -> Gap {
        if let Some(gap) = self.gaps.get(id) {
            return gap.clone();
        }
        let path = self.asked.get(id).map(|order| order.path.nodes().to_vec()).unwrap_or_default();
        let (code, message) = match stopped {
            Some(_) => (FailureCode::DeadlineExceeded, "had not answered when the time was over"),
            None => (FailureCode::Unavailable, "did not answer for all of it"),
        };
        Gap { node: path.last().cloned(), route: path, code, message: message.into() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.ended {
            let answered = self.acceptance.answered();
            let outcomes = answered.map(|(id, rows, how)| (id, Outcome::Answered { rows, how })).collect();
            let work = self.all_work();
            self.context.sink.ended(self.spec.leaf, LeafEnd::Dropped, outcomes, work);
        }
    }
}

fn no_holder(overview: &dyn Overview, id: &PartitionId) -> Gap {
    match overview.last_holder(id) {
        Some((node, route)) => Gap {
            node: Some(node),
            route,
            code: FailureCode::Unavailable,
            message: "held it last and cannot be reached".into(),
        },
        None => Gap {
            node: None,
            route: Vec::new(),
            code: FailureCode::Unavailable,
            message: "no node that can be reached holds it".into(),
        },
    }
}
