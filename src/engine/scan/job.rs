//! Which zones are looked at together, by one job.
//!
//! Of each zone is decided here what there is to do: nothing, where its bounds or its index answer; else which of its rows
//! are looked at. Zones that leave something to do are put into jobs of about the same work, in the order of the
//! partitions: a selective query looks at a zone or two of each, and a job, a message and a wake-up for each of those
//! would cost more than the looks.

use std::sync::Arc;
use std::time::Duration;

use overlay_ingest::PartitionId;

use super::{ScanJobs, ZoneOutcome};
use crate::engine::message::{How, ZoneAnswer};
use crate::engine::on_disk::PartitionOnDisk;
use crate::engine::store::{HeldPartition, Stored, Zone};
use crate::engine::typed_zones::Verdict;

/// To hand a job over, take its result and send it costs as much as comparing some zones, so a job takes several, of one
/// partition or of several: this many that are compared, or half as many of which every row is taken. Fewer: more
/// hand-overs and messages, and smaller blocks. More: worse shared among threads, and others wait longer for their turn.
const ZONES_PER_JOB: usize = 8;

/// The same of a partition in its file: to read a zone is much more than to compare it.
const ZONES_PER_READ: usize = 4;

/// So many zones that are compared are looked at by who asks, without a turn and a change of threads, which would take
/// longer: a zone takes 20 µs, and 200 µs if all its rows match.
const ZONES_LOOKED_AT_HERE: usize = 2;

/// Partitions that are told of at once, where none of their zones needs a look. It bounds a message.
const PARTITIONS_TOLD_MAX: usize = 256;

/// What is to be done for some zones.
pub(super) enum Task {
    /// Looked at by one job, one after the other.
    Zones(Zones),
    /// Read from the partition's file and looked at by one job.
    Read { asked: PartitionId, on_disk: Arc<PartitionOnDisk>, zones: Vec<u32> },
}

/// Zones in memory that one job is about.
#[derive(Default)]
pub(super) struct Zones {
    /// What needs no look, a partition's together.
    pub told: Vec<ZoneOutcome>,
    pub looks: Vec<ZoneLook>,
}

/// A zone that is looked at.
pub(super) struct ZoneLook {
    pub asked: PartitionId,
    pub held: Arc<HeldPartition>,
    pub zone: u32,
    pub look: Look,
}

impl Task {
    /// The partitions that a job has to do with; none if it has nothing to look at.
    pub fn asked(&self) -> Vec<PartitionId> {
        match self {
            Task::Zones(zones) => {
                let mut asked: Vec<PartitionId> = zones.looks.iter().map(|look| look.asked).collect();
                asked.dedup();
                asked
            }
            Task::Read { asked, .. } => vec![*asked],
        }
    }

    /// Whether there is less to do than to hand it over.
    pub fn is_tiny(&self) -> bool {
        let is_compared = |look: &ZoneLook| matches!(look.look, Look::Compare(_));
        match self {
            Task::Zones(Zones { looks, .. }) => looks.len() <= ZONES_LOOKED_AT_HERE && looks.iter().all(is_compared),
            Task::Read { .. } => false,
        }
    }
}

impl ZoneLook {
    pub fn entry(&self) -> &Zone {
        &self.held.zones[self.zone as usize]
    }
}

impl Zones {
    fn is_empty(&self) -> bool {
        self.told.is_empty() && self.looks.is_empty()
    }

    /// Whether they are enough for a job.
    fn is_full(&self) -> bool {
        self.told.len() >= PARTITIONS_TOLD_MAX || self.fitting() < self.looks.len()
    }

    /// How many of the zones one job takes; at least one if there is one.
    fn fitting(&self) -> usize {
        let mut weight = 0;
        let fits = self.looks.iter().take_while(|look| {
            let fits = weight < ZONES_PER_JOB;
            weight += look.look.weight();
            fits
        });
        fits.count()
    }
}

/// Which rows of a zone are looked at.
pub(super) enum Look {
    /// DataFusion evaluates the predicate.
    Evaluate,
    /// These conditions are compared.
    Compare(Vec<usize>),
    /// None: the bounds say that every row matches.
    TakeAll,
}

impl Look {
    /// How much work it is: rows that leave cost more than rows that are compared.
    fn weight(&self) -> usize {
        match self {
            Look::Compare(_) => 1,
            Look::Evaluate | Look::TakeAll => 2,
        }
    }
}

/// What is to be done, job by job, as somebody comes to ask for it: what was cancelled meanwhile is not even looked up.
pub(super) struct Tasks {
    jobs: Arc<ScanJobs>,
    partitions: std::vec::IntoIter<(PartitionId, Stored, Option<Vec<u32>>)>,
    /// For the next job, and what did not fit into the last.
    zones: Zones,
    /// Zones of a partition in its file, after those in memory.
    file: Option<File>,
}

/// What its bounds decide is known when the file is open.
struct File {
    asked: PartitionId,
    on_disk: Arc<PartitionOnDisk>,
    zones: Vec<u32>,
}

impl Tasks {
    /// For these partitions, with the zones that are wanted of each; `None`: all.
    pub fn new(jobs: &Arc<ScanJobs>, partitions: Vec<(PartitionId, Stored, Option<Vec<u32>>)>) -> Tasks {
        Tasks { jobs: Arc::clone(jobs), partitions: partitions.into_iter(), zones: Zones::default(), file: None }
    }
}

impl Iterator for Tasks {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        while self.file.is_none() && !self.zones.is_full() {
            let Some((asked, stored, wanted)) = self.partitions.next() else { break };
            match stored {
                Stored::InMemory(held) => self.jobs.look_at(asked, &held, wanted, &mut self.zones),
                Stored::OnDisk(on_disk) => {
                    let zones = wanted.unwrap_or_else(|| (0..on_disk.zone_count()).collect());
                    self.file = Some(File { asked, on_disk, zones }).filter(|file| !file.zones.is_empty());
                }
            }
        }
        if !self.zones.is_empty() {
            let rest = self.zones.looks.split_off(self.zones.fitting());
            return Some(Task::Zones(std::mem::replace(&mut self.zones, Zones { told: Vec::new(), looks: rest })));
        }
        let mut file = self.file.take()?;
        let rest = file.zones.split_off(ZONES_PER_READ.min(file.zones.len()));
        let (asked, on_disk) = (file.asked, Arc::clone(&file.on_disk));
        let read = Task::Read { asked, on_disk, zones: std::mem::replace(&mut file.zones, rest) };
        self.file = Some(file).filter(|file| !file.zones.is_empty());
        Some(read)
    }
}

impl ScanJobs {
    /// Adds what is to be done for a partition. Zones that need no look are told together: a selective query has many.
    pub(super) fn look_at(
        &self,
        asked: PartitionId,
        held: &Arc<HeldPartition>,
        wanted: Option<Vec<u32>>,
        job: &mut Zones,
    ) {
        if self.is_over() {
            job.told.push(ZoneOutcome::Skipped(asked));
            return;
        }
        let wanted = wanted.unwrap_or_else(|| (0..held.zones.len() as u32).collect());
        let terms = self.filter.resolve(&held.typed);
        let may_match = if terms.is_none() { self.filter.may_match(&held.map) } else { Vec::new() };
        let mut told = Vec::new();
        for zone in wanted {
            let Some(entry) = held.zones.get(zone as usize) else {
                let why = format!("no zone {zone} in a partition of {}", held.zones.len());
                job.told.push(ZoneOutcome::Failed(asked, why));
                continue;
            };
            let rows = entry.rows.len() as u64;
            let mut tell = |how: How, matched: u64| {
                told.push(ZoneAnswer { rows: matched, ..self.answer(asked, entry, held.zones.len(), how) });
            };
            let look = match &terms {
                None if may_match.get(zone as usize).copied().unwrap_or(true) => Look::Evaluate,
                None => {
                    tell(How::ZoneMap, 0);
                    continue;
                }
                Some(terms) => match terms.verdict(zone as usize) {
                    Verdict::NoRow => {
                        tell(How::ZoneMap, 0);
                        continue;
                    }
                    Verdict::EveryRow if self.may_tell_counts() => {
                        tell(How::ZoneMap, rows);
                        continue;
                    }
                    Verdict::EveryRow => Look::TakeAll,
                    Verdict::Open(open) => {
                        let may_count = self.may_tell_counts() && self.filter.may_use_index();
                        if let Some(count) = may_count.then(|| terms.count(zone as usize, &entry.rows, &open)).flatten()
                        {
                            tell(How::Index, count);
                            continue;
                        }
                        Look::Compare(open)
                    }
                },
            };
            job.looks.push(ZoneLook { asked, held: Arc::clone(held), zone, look });
        }
        if !told.is_empty() {
            job.told.push(ZoneOutcome::Answered(told, Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use datafusion::common::ToDFSchema;
    use datafusion::prelude::SessionContext;
    use futures::{FutureExt, StreamExt};
    use overlay_ingest::generate::{GenerateOptions, generate};
    use overlay_ingest::{Dataset, DateRange, Layout, parse_date};

    use super::super::{JOBS_PER_THREAD, Output, PART_BYTES_MAX, Remaining};
    use super::*;
    use crate::delivery::QueryId;
    use crate::engine::executor::{InlinePool, Job, ScanPool};
    use crate::engine::filter::RangeFilter;
    use crate::engine::message::ScanPath;
    use crate::engine::predicate::ZoneFilter;
    use crate::engine::reader::PinnedPartition;
    use crate::engine::share::{Flow, Share};
    use crate::engine::stop::{Stop, StopReason};
    use crate::routing::NodeId;

    type Wanted = Vec<(PartitionId, Stored, Option<Vec<u32>>)>;

    /// Some days of few zones.
    fn days() -> Vec<Arc<HeldPartition>> {
        days_in_zones_of(100)
    }

    fn days_in_zones_of(zone_rows: usize) -> Vec<Arc<HeldPartition>> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("set");
        generate(&root, &GenerateOptions { days: 5, sites: 4, ..GenerateOptions::default() }).unwrap();
        let dataset = Dataset::open(&root).unwrap();
        let day = |date| parse_date(&dataset, date, Layout { zone_rows }).unwrap().partition;
        dataset.dates(DateRange::ALL).map(|date| Arc::new(HeldPartition::new(&day(date)))).collect()
    }

    /// Every row, with these columns.
    fn jobs(projection: Vec<usize>, stop: Stop) -> Arc<ScanJobs> {
        let schema = overlay_ingest::schema::observations();
        Arc::new(ScanJobs {
            me: NodeId::from("a"),
            pool: Arc::new(InlinePool),
            share: Share { flow: Flow(None), client: 0, query: QueryId(1), weight: 0 },
            work_clock: Arc::new(|| Duration::ZERO),
            filter: Arc::new(ZoneFilter::new(None, projection, &schema, ScanPath::Any).unwrap()),
            remaining: Arc::new(Remaining::new(None)),
            stop,
            output: Output::Packed,
            part_bytes_max: PART_BYTES_MAX,
        })
    }

    fn wanted(days: &[Arc<HeldPartition>], zones: impl Fn(usize) -> Option<Vec<u32>>) -> Wanted {
        let each =
            |(day, held): (usize, &Arc<HeldPartition>)| (held.id, Stored::InMemory(Arc::clone(held)), zones(day));
        days.iter().enumerate().map(each).collect()
    }

    /// The zones of each job, and how many partitions it tells of.
    fn read(tasks: Tasks) -> Vec<(Vec<(PartitionId, u32)>, usize)> {
        let read = |task| match task {
            Task::Zones(zones) => (zones.looks.iter().map(|look| (look.asked, look.zone)).collect(), zones.told.len()),
            Task::Read { .. } => panic!("all of it is in memory"),
        };
        tasks.map(read).collect()
    }

    #[test]
    fn every_zone_is_looked_at_once_by_jobs_of_one_size() {
        let days = days();
        assert!(days.iter().all(|day| day.zones.len() > 1), "several zones a day");
        for few in [false, true] {
            // All zones of each day, or of every second day the last.
            let zones = |day: usize| {
                few.then(|| Vec::from_iter(day.is_multiple_of(2).then(|| days[day].zones.len() as u32 - 1)))
            };
            let found = read(Tasks::new(&jobs(vec![0, 4], Stop::default()), wanted(&days, zones)));
            let expected: Vec<(PartitionId, u32)> = days
                .iter()
                .enumerate()
                .flat_map(|(at, day)| {
                    let all = zones(at).unwrap_or_else(|| (0..day.zones.len() as u32).collect());
                    all.into_iter().map(|zone| (day.id, zone))
                })
                .collect();
            // Every row is taken, which weighs twice what comparing does.
            let jobs = expected.chunks(ZONES_PER_JOB / 2).map(|zones| (zones.to_vec(), 0)).collect::<Vec<_>>();
            assert_eq!(found, jobs);
        }
    }

    #[test]
    fn what_needs_no_look_is_told_together() {
        let days = days();
        // No column is wanted, so the bounds know the counts.
        assert_eq!(read(Tasks::new(&jobs(vec![], Stop::default()), wanted(&days, |_| None))), [(vec![], days.len())]);
        let stop = Stop::default();
        stop.set(StopReason::Cancelled);
        let found = read(Tasks::new(&jobs(vec![0], stop), wanted(&days, |_| None)));
        assert_eq!(found, [(vec![], days.len())], "each is said to be skipped");
        // A zone that there is not fails for itself.
        let found = read(Tasks::new(&jobs(vec![0], Stop::default()), wanted(&days[..1], |_| Some(vec![0, 99]))));
        assert_eq!(found, [(vec![(days[0].id, 0)], 1)]);
    }

    #[test]
    fn only_what_is_quickly_compared_is_done_by_who_asks() {
        let day = days().swap_remove(0);
        let check = |looks: Vec<Look>, expected: bool| {
            let look = |look| ZoneLook { asked: day.id, held: Arc::clone(&day), zone: 0, look };
            let looks = looks.into_iter().map(look).collect();
            assert_eq!(Task::Zones(Zones { told: Vec::new(), looks }).is_tiny(), expected);
        };
        let compare = || Look::Compare(vec![0]);
        check(vec![compare()], true);
        check(vec![compare(), compare()], true);
        check(vec![compare(), compare(), compare()], false);
        check(vec![Look::TakeAll], false);
        check(vec![compare(), Look::Evaluate], false);
    }

    /// A pool in which no turn ever comes.
    struct Full;

    impl ScanPool for Full {
        fn spawn(&self, _: &Share, _: Job) {}

        fn width(&self) -> usize {
            1
        }
    }

    /// Keeps every job, and runs none before it is told to.
    struct Keeping {
        width: usize,
        jobs: Mutex<VecDeque<Job>>,
    }

    impl ScanPool for Keeping {
        fn spawn(&self, _: &Share, job: Job) {
            self.jobs.lock().unwrap().push_back(job);
        }

        fn width(&self) -> usize {
            self.width
        }
    }

    #[test]
    fn of_a_scan_that_nobody_reads_only_so_many_jobs_are_under_way() {
        let days = days_in_zones_of(5);
        for width in [1, 2] {
            let pool = Arc::new(Keeping { width, jobs: Mutex::default() });
            let one = Arc::into_inner(jobs(vec![0, 4], Stop::default())).expect("nobody else has it");
            let jobs = ScanJobs { pool: Arc::clone(&pool) as Arc<dyn ScanPool>, ..one };
            let mut outcomes = Box::pin(jobs.run(wanted(&days, |_| None)));
            let waiting = || pool.jobs.lock().unwrap().len();
            assert!(outcomes.next().now_or_never().is_none());
            assert_eq!(waiting(), width * JOBS_PER_THREAD);
            // As many more as were taken, each with its zones.
            let done = pool.jobs.lock().unwrap().drain(..3).collect::<Vec<_>>();
            done.into_iter().for_each(|job| job());
            let taken = std::iter::from_fn(|| outcomes.next().now_or_never()).count();
            assert!(taken >= 3, "{taken} outcomes");
            assert_eq!(waiting(), width * JOBS_PER_THREAD);
        }
    }

    #[test]
    fn a_few_zones_need_no_turn() {
        let days = days();
        let schema = overlay_ingest::schema::observations();
        let filter = RangeFilter { min: Some(5.0), ..RangeFilter::default() };
        let pinned = [PinnedPartition { id: days[0].id, stats: None }];
        let expr = filter.to_expr(&pinned).unwrap();
        let predicate =
            SessionContext::new().create_physical_expr(expr, &Arc::clone(&schema).to_dfschema().unwrap()).unwrap();
        let scanned = |count: usize| {
            let one = Arc::into_inner(jobs(vec![0, 4], Stop::default())).expect("nobody else has it");
            let filter = ZoneFilter::new(Some(Arc::clone(&predicate)), vec![0, 4], &schema, ScanPath::Any).unwrap();
            let jobs = ScanJobs { pool: Arc::new(Full), filter: Arc::new(filter), ..one };
            let is_open = |held: &HeldPartition, zone: u32| {
                let terms = jobs.filter.resolve(&held.typed).expect("it is compared");
                matches!(terms.verdict(zone as usize), Verdict::Open(_))
            };
            // The first ones, wherever they are.
            let all =
                days.iter().enumerate().flat_map(|(day, held)| (0..held.zones.len()).map(move |zone| (day, zone)));
            let open = all.filter(|(day, zone)| is_open(&days[*day], *zone as u32)).take(count).collect::<Vec<_>>();
            assert_eq!(open.len(), count, "zones of which some rows match");
            let of_day = |day| open.iter().filter(|(of, _)| *of == day).map(|(_, zone)| *zone as u32).collect();
            futures::executor::block_on_stream(Box::pin(jobs.run(wanted(&days, |day| Some(of_day(day))))))
                .map(|outcome| match outcome {
                    ZoneOutcome::Answered(answers, _) => answers.iter().map(|answer| answer.rows).sum::<u64>(),
                    ZoneOutcome::Failed(..) | ZoneOutcome::Skipped(_) => 0,
                })
                .sum::<u64>()
        };
        assert!(scanned(1) > 0 && scanned(2) > scanned(1));
        assert_eq!(scanned(3), 0, "more wait for a turn");
    }
}
