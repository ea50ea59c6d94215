//! Scans zones that this node holds: small jobs of one zone or a few ([`job`]), on the pool passed in.
//!
//! A query keeps a few jobs in flight for every thread of the pool, so that no query fills the pool's queue. Jobs never
//! block; their results are taken in the order of the zones. A job that is lost or panics is an error of its zone, never
//! the end of the stream. Cancel is noticed between two zones. A zone that its bounds or its index decide is told
//! without a job.

mod from_file;
mod job;
mod together;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::future::Either;
use futures::{Stream, StreamExt, stream};
use overlay_ingest::PartitionId;
use tokio::sync::oneshot;

use super::executor::{Clock, ScanPool};
use super::message::{How, Payload, ZoneAnswer};
use super::predicate::{Matches, ZoneFilter};
use super::share::Share;
use super::stop::Stop;
use super::store::{Stored, Zone};
use super::zone_rows::ZoneRows;
use crate::delivery::encoding::checksum;
use crate::delivery::encoding::packed::{Packed, RowsByRun};
use crate::routing::NodeId;
use job::{Look, Task, Tasks, ZoneLook, Zones};

/// A zone's rows leave in parts of about this many bytes at most, so that one message stays far below the size limit
/// of a connection and streams share it in small turns.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// Jobs of a scan that wait or run, or whose rows were not taken yet, for every thread of the pool. Fewer: on a busy node
/// the pool is through with them before the query's task, which needs a core as well, has come to queue more, and the
/// query's turns go to others. More: rows of more zones are held beside those that are stored, about 2 MB a job.
const JOBS_PER_THREAD: usize = 8;

/// Why a zone could not be scanned; told, never looked into.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Rows that may still be handed out, shared by everything that one hop asks for.
#[derive(Debug)]
pub struct Remaining(Option<AtomicU64>);

impl Remaining {
    /// With no limit there is always room.
    pub fn new(limit: Option<u64>) -> Remaining {
        Remaining(limit.map(AtomicU64::new))
    }

    /// Takes up to `wanted` rows; gives the number taken.
    pub fn take(&self, wanted: u64) -> u64 {
        let Some(left) = &self.0 else { return wanted };
        let before = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| Some(left - wanted.min(left)));
        before.unwrap_or_else(|left| left).min(wanted)
    }

    /// What is left, or `None` without a limit.
    pub fn left(&self) -> Option<u64> {
        self.0.as_ref().map(|left| left.load(Ordering::Acquire))
    }

    /// Whether a limit is used up.
    pub fn exhausted(&self) -> bool {
        self.left() == Some(0)
    }
}

/// The form in which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The reader is in this process.
    Batches,
    /// The reader is in this process and knows no dictionaries.
    Plain,
    /// The rows go on to a client and are not looked at here.
    Packed,
    /// The reader is another node: packed, with checksums.
    ForPeer,
}

impl Output {
    fn is_packed(self) -> bool {
        matches!(self, Output::Packed | Output::ForPeer)
    }
}

/// Everything that the jobs of one scan share.
pub struct ScanJobs {
    pub me: NodeId,
    pub pool: Arc<dyn ScanPool>,
    /// Whose turns the jobs take.
    pub share: Share,
    /// Tells what a job computed; see [`Clock`].
    pub work_clock: Clock,
    pub filter: Arc<ZoneFilter>,
    pub remaining: Arc<Remaining>,
    pub stop: Stop,
    pub output: Output,
    /// See [`PART_BYTES_MAX`].
    pub part_bytes_max: usize,
}

/// What came of one zone.
pub enum ZoneOutcome {
    /// One zone that was looked at, in one part or more, and the time that it took; or several that needed no look.
    Answered(Vec<ZoneAnswer>, Duration),
    /// The limit was reached before, or the scan stopped: nothing is known of this zone.
    Skipped(PartitionId),
    /// The zone could not be scanned.
    Failed(PartitionId, String),
}

impl ScanJobs {
    /// Scans the wanted zones of the partitions; `zones` gives `None` for all zones of one.
    pub fn run(
        self,
        partitions: Vec<(PartitionId, Stored, Option<Vec<u32>>)>,
    ) -> impl Stream<Item = ZoneOutcome> + Send {
        let in_flight = self.pool.width() * JOBS_PER_THREAD;
        let jobs = Arc::new(self);
        stream::iter(Tasks::new(&jobs, partitions))
            .map(move |task| {
                let asked = task.asked();
                if asked.is_empty() {
                    return Either::Left(std::future::ready(jobs.work(task)));
                }
                if jobs.is_over() {
                    return Either::Left(std::future::ready(asked.into_iter().map(ZoneOutcome::Skipped).collect()));
                }
                let is_tiny = task.is_tiny();
                let failed = move |why: &str| -> Vec<ZoneOutcome> {
                    asked.iter().map(|asked| ZoneOutcome::Failed(*asked, why.to_owned())).collect()
                };
                let (sender, receiver) = oneshot::channel();
                let job = Arc::clone(&jobs);
                let work = move || {
                    // Nobody waits any more: the query was cancelled while the job stood in the queue.
                    if sender.is_closed() {
                        return;
                    }
                    let scanned = catch_unwind(AssertUnwindSafe(|| job.work(task)));
                    // The receiver may be gone by now; then nobody wants the rows.
                    let _ = sender.send(scanned.ok());
                };
                match is_tiny {
                    true => work(),
                    false => jobs.pool.spawn(&jobs.share, Box::new(work)),
                }
                Either::Right(async move {
                    match receiver.await {
                        Ok(Some(outcomes)) => outcomes,
                        Ok(None) => failed("a scan job panicked"),
                        Err(_) => failed("a scan job was lost"),
                    }
                })
            })
            .buffered(in_flight)
            .flat_map(stream::iter)
    }

    /// Whether nothing more is wanted.
    fn is_over(&self) -> bool {
        self.stop.reason().is_some() || self.remaining.exhausted()
    }

    /// Does what is to be done, on the caller's thread.
    fn work(&self, task: Task) -> Vec<ZoneOutcome> {
        match task {
            Task::Zones(Zones { told: mut outcomes, looks }) => {
                let is_same = |one: &ZoneLook, next: &ZoneLook| one.asked == next.asked;
                for looks in looks.chunk_by(is_same) {
                    match self.shares_blocks() {
                        true => outcomes.extend(self.scan_together(looks)),
                        false => outcomes.extend(looks.iter().map(|look| self.scan_zone(look))),
                    }
                }
                outcomes
            }
            Task::Read { asked, on_disk, zones } => self.scan_file(asked, &on_disk, &zones),
        }
    }

    /// Whether zones that are looked at together leave in one block. A limit is counted zone by zone.
    fn shares_blocks(&self) -> bool {
        self.output.is_packed() && !self.filter.counts_only() && self.remaining.left().is_none()
    }

    /// Whether a count without a look at rows is an answer: no row is wanted, and no limit has to be shared.
    fn may_tell_counts(&self) -> bool {
        self.filter.counts_only() && self.remaining.left().is_none()
    }

    /// What there is to say of a zone, one of so many of its partition, before its rows are looked at.
    fn answer(&self, asked: PartitionId, zone: &Zone, zone_count: usize, how: How) -> ZoneAnswer {
        ZoneAnswer {
            asked,
            // The names come from the zone itself, not from what was asked: the reader compares.
            partition: zone.partition,
            zone: zone.index,
            zone_count: zone_count as u32,
            part: 0,
            last: true,
            rows: 0,
            rows_scanned: zone.rows.len() as u64,
            bytes_scanned: 0,
            cpu: Duration::ZERO,
            how,
            cut: false,
            node: self.me.clone(),
            payload: Payload::None,
        }
    }

    fn scan_zone(&self, look: &ZoneLook) -> ZoneOutcome {
        let (asked, zone) = (look.asked, look.zone);
        if self.is_over() {
            return ZoneOutcome::Skipped(asked);
        }
        let start = (self.work_clock)();
        match self.filter_zone(look) {
            Ok(Some(mut answers)) => {
                let took = (self.work_clock)().saturating_sub(start);
                if let Some(first) = answers.first_mut() {
                    first.cpu = took;
                }
                ZoneOutcome::Answered(answers, took)
            }
            Ok(None) => ZoneOutcome::Skipped(asked),
            Err(error) => ZoneOutcome::Failed(asked, format!("zone {zone}: {error}")),
        }
    }

    fn matches(&self, look: &ZoneLook) -> datafusion::error::Result<Matches> {
        let zone_rows = &look.entry().rows;
        match (&look.look, self.filter.resolve(&look.held.typed)) {
            (Look::Compare(open), Some(terms)) => self.filter.apply_typed(zone_rows, &terms, open),
            (Look::TakeAll, _) => Ok(Matches::all(zone_rows)),
            _ => self.filter.apply(zone_rows),
        }
    }

    fn filter_zone(&self, look: &ZoneLook) -> Result<Option<Vec<ZoneAnswer>>, Error> {
        let entry = look.entry();
        let matches = self.matches(look)?;
        let mut answer = self.answer(look.asked, entry, look.held.zones.len(), How::Scanned);
        answer.bytes_scanned = column_bytes(&entry.rows, self.filter.columns());
        self.hand_out(answer, &entry.rows, &matches)
    }

    /// The answer with the rows that match, as many as the limit leaves; `None` if it leaves none.
    fn hand_out(
        &self,
        mut answer: ZoneAnswer,
        zone_rows: &ZoneRows,
        matches: &Matches,
    ) -> Result<Option<Vec<ZoneAnswer>>, Error> {
        let matched = matches.rows as u64;
        let rows = self.remaining.take(matched);
        if rows == 0 && matched > 0 {
            return Ok(None);
        }
        answer.rows = rows;
        answer.cut = rows < matched;
        if rows == 0 || self.filter.counts_only() {
            return Ok(Some(vec![answer]));
        }
        let plain = self.output == Output::Plain;
        let batch = self.filter.take(zone_rows, matches, rows as usize, plain)?;
        if !self.output.is_packed() {
            answer.payload = Payload::Batch(batch);
            return Ok(Some(vec![answer]));
        }
        self.in_parts(answer, &batch).map(Some)
    }

    fn packed(&self, block: Packed, answers: u32) -> Payload {
        match self.output {
            Output::ForPeer => {
                let bytes = block.bytes().clone();
                Payload::Packed { xxh3: checksum(&bytes), bytes, answers }
            }
            _ => Payload::Block { block, answers },
        }
    }

    /// The answer with its rows in blocks, in as many parts as their size asks for.
    fn in_parts(&self, answer: ZoneAnswer, batch: &RecordBatch) -> Result<Vec<ZoneAnswer>, Error> {
        let block = RowsByRun::of_batch(batch).block()?;
        let part_count = block.bytes().len().div_ceil(self.part_bytes_max.max(1)).clamp(1, batch.num_rows());
        let mut whole = Some(block);
        let part_rows = batch.num_rows().div_ceil(part_count);
        let part_count = batch.num_rows().div_ceil(part_rows);
        (0..part_count)
            .map(|part| {
                let first = part * part_rows;
                let rows = part_rows.min(batch.num_rows() - first);
                let block = match whole.take() {
                    Some(block) if part_count == 1 => block,
                    _ => RowsByRun::of_batch(&batch.slice(first, rows)).block()?,
                };
                Ok(ZoneAnswer {
                    part: part as u32,
                    last: part + 1 == part_count,
                    rows: rows as u64,
                    // Billed once, with the first part.
                    bytes_scanned: if part == 0 { answer.bytes_scanned } else { 0 },
                    cpu: if part == 0 { answer.cpu } else { Duration::ZERO },
                    payload: self.packed(block, 1),
                    ..answer.clone()
                })
            })
            .collect()
    }
}

/// Bytes of the columns' values in the table's types; dictionaries, which many zones share, are left out.
fn column_bytes(rows: &ZoneRows, columns: impl Iterator<Item = usize>) -> u64 {
    let width = |column: usize| {
        let data_type = rows.schema().field(column).data_type();
        match data_type {
            arrow::datatypes::DataType::Dictionary(key, _) => key.primitive_width().unwrap_or(0),
            other => other.primitive_width().unwrap_or(0),
        }
    };
    columns.map(|column| (width(column) * rows.len()) as u64).sum()
}
