//! Sends requests when they are due and keeps a record of each.
//!
//! A thread of its own sleeps until the next request of the schedule is due and hands it over. When whoever takes it is
//! behind, it is taken late, but it keeps the time at which it was due: a stall is measured, not hidden. Each source has
//! a bound on its requests under way; what is due beyond it is recorded as unissued.
//!
//! Its threads ask the system not to be kept waiting by threads that compute, as those of nodes do that serve connections
//! ([`begin_to_serve`]): what a busy core does to a client is not the overlay's latency.
//!
//! Each source sends and reads on a thread of its own, as if it were a program of its own: else one that reads much would
//! keep the others from their answers, and its own slowness would be measured as theirs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::board::Board;
use super::record::{Record, Status};
use super::request::{Manner, Question, Sent, send};
use super::schedule::{Arrival, Pace, Schedule, Timing, Weighted};
use crate::client::Client;
use crate::node::begin_to_serve;
use crate::routing::Team;

/// From the start to the first request: the tasks are running by then.
const LEAD: Duration = Duration::from_millis(20);
/// Requests handed over but not taken yet.
const HANDED_OVER_MAX: usize = 1024;
/// Requests on one connection: below the number of streams that a node accepts on one, with room for their ends.
const PER_CONNECTION: usize = 100;

/// Requests of one kind of sender.
pub struct Source {
    pub timing: Timing,
    pub teams: Weighted<Option<Team>>,
    pub questions: Weighted<Arc<Question>>,
    pub manner: Manner,
    /// Requests under way at the most.
    pub outstanding_max: usize,
}

/// A run of several sources.
pub struct Run {
    /// Stands in each record.
    pub name: Arc<str>,
    pub sources: Vec<Source>,
    /// What is due before is not measured.
    pub warm_up: Duration,
    /// How long answers are waited for after the last source has ended.
    pub grace: Duration,
    pub seed: u64,
}

struct UnderWay {
    source: usize,
    team: Arc<str>,
    kind: Arc<str>,
    due: Duration,
    start: Instant,
}

struct Generator<'a> {
    run: &'a Run,
    origin: Instant,
    random: Rng,
    lanes: Vec<Lane>,
    under_way: HashMap<u64, UnderWay>,
    outstanding: Vec<usize>,
    issued: Vec<u64>,
    tasks: JoinSet<(u64, Sent)>,
    records: Vec<Record>,
    board: &'a Board,
}

/// Where a source sends and reads.
struct Lane {
    handle: Handle,
    clients: Vec<Client>,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
}

impl Lane {
    fn start(source: &Source, address: &str) -> Lane {
        let at_once = match source.timing.pace {
            Pace::Closed { at_once, .. } => at_once,
            _ => source.outstanding_max,
        };
        let (end, ended) = oneshot::channel();
        let handle = lane_thread(ended).unwrap_or_else(Handle::current);
        let _clients_live_there = handle.enter();
        let clients = (0..at_once.div_ceil(PER_CONNECTION).max(1)).map(|_| Client::new(address)).collect();
        Lane { handle: handle.clone(), clients, _end: end }
    }
}

/// A runtime on a thread of its own; none where no thread can be had: then all sources share one.
fn lane_thread(ended: oneshot::Receiver<()>) -> Option<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let handle = runtime.handle().clone();
    let run = move || {
        begin_to_serve();
        // Ended by a word or by the sender's end, alike.
        let _ = runtime.block_on(ended);
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(run).ok()?;
    Some(handle)
}

/// Runs it against a Leader. Dropping the future ends every request.
pub async fn run(run: &Run, address: &str, board: &Board) -> Vec<Record> {
    begin_to_serve();
    let timings: Vec<Timing> = run.sources.iter().map(|source| source.timing).collect();
    let mut generator = Generator {
        run,
        origin: Instant::now() + LEAD,
        random: Rng::with_seed(run.seed),
        lanes: run.sources.iter().map(|source| Lane::start(source, address)).collect(),
        under_way: HashMap::new(),
        outstanding: vec![0; run.sources.len()],
        issued: vec![0; run.sources.len()],
        tasks: JoinSet::new(),
        records: Vec::new(),
        board,
    };
    let (hand_over, mut due) = mpsc::channel(HANDED_OVER_MAX);
    let (origin, schedule) = (generator.origin, Schedule::new(&timings, run.seed));
    // It ends with its schedule, or when nobody takes what it hands over.
    std::thread::spawn(move || pace(schedule, origin, hand_over));
    generator.begin_loops().await;
    generator.serve(&mut due, &timings).await;
    generator.leave_open();
    generator.records.sort_by_key(|record| record.due_us);
    generator.records
}

fn pace(schedule: Schedule, origin: Instant, hand_over: mpsc::Sender<Arrival>) {
    begin_to_serve();
    for arrival in schedule {
        std::thread::sleep((origin + arrival.due).saturating_duration_since(Instant::now()));
        if hand_over.blocking_send(arrival).is_err() {
            return;
        }
    }
}

impl Generator<'_> {
    /// The first requests of closed loops, which all begin with the run.
    async fn begin_loops(&mut self) {
        tokio::time::sleep_until(self.origin.into()).await;
        for (index, source) in self.run.sources.iter().enumerate() {
            if let Pace::Closed { at_once, .. } = source.timing.pace {
                for _ in 0..at_once {
                    self.next_of_loop(index);
                }
            }
        }
    }

    async fn serve(&mut self, due: &mut mpsc::Receiver<Arrival>, timings: &[Timing]) {
        let open_loops = |timing: &&Timing| !matches!(timing.pace, Pace::Closed { .. });
        let mut more_due = timings.iter().any(|timing| open_loops(&timing));
        let last = timings.iter().map(|timing| timing.until).max().unwrap_or_default();
        // Closed loops that end by their number have no other end.
        let end = self.origin.checked_add(last.saturating_add(self.run.grace));
        let overdue = async {
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(overdue);
        while more_due || !self.tasks.is_empty() {
            tokio::select! {
                arrival = due.recv(), if more_due => match arrival {
                    Some(arrival) => self.issue(arrival.source, arrival.due),
                    None => more_due = false,
                },
                Some(ended) = self.tasks.join_next() => {
                    // A task that panicked has no answer; its request stays open in the records.
                    if let Ok((id, sent)) = ended {
                        self.ended(id, sent);
                    }
                }
                () = &mut overdue => return,
            }
        }
    }

    fn issue(&mut self, index: usize, due: Duration) {
        let source = &self.run.sources[index];
        let team = source.teams.choose(&mut self.random).clone();
        let question = Arc::clone(source.questions.choose(&mut self.random));
        let start = Instant::now();
        let under_way = UnderWay {
            source: index,
            team: team.as_ref().map_or("none", Team::as_str).into(),
            kind: Arc::clone(&question.name),
            due,
            start,
        };
        if self.outstanding[index] >= source.outstanding_max {
            let record = self.record(&under_way, start, Status::Unissued);
            self.keep(record, Some("the generator's bound on requests under way"));
            return;
        }
        self.issued[index] += 1;
        self.outstanding[index] += 1;
        let Lane { handle, clients, .. } = &self.lanes[index];
        let id = self.issued.iter().sum();
        let client = clients[id as usize % clients.len()].clone();
        let manner = source.manner;
        self.under_way.insert(id, under_way);
        self.tasks.spawn_on(async move { (id, send(&client, &question, team, manner).await) }, handle);
    }

    fn next_of_loop(&mut self, index: usize) {
        let timing = self.run.sources[index].timing;
        let Pace::Closed { requests, .. } = timing.pace else { return };
        let now = Instant::now().saturating_duration_since(self.origin);
        if now < timing.until && requests.is_none_or(|requests| self.issued[index] < requests) {
            self.issue(index, now);
        }
    }

    fn ended(&mut self, id: u64, sent: Sent) {
        let Some(under_way) = self.under_way.remove(&id) else { return };
        let mut record = self.record(&under_way, sent.end, sent.status);
        record.run_us = sent.run.as_micros() as u64;
        (record.rows, record.bytes, record.tries) = (sent.rows, sent.bytes, sent.tries);
        self.keep(record, sent.why.as_deref());
        self.outstanding[under_way.source] -= 1;
        self.next_of_loop(under_way.source);
    }

    /// What has not ended by now never does.
    fn leave_open(&mut self) {
        let now = Instant::now();
        let open: Vec<UnderWay> = self.under_way.drain().map(|(_, under_way)| under_way).collect();
        for under_way in open {
            let record = self.record(&under_way, now, Status::Open);
            self.keep(record, None);
        }
    }

    fn keep(&mut self, record: Record, why: Option<&str>) {
        self.board.add(&record, why);
        self.records.push(record);
    }

    fn record(&self, under_way: &UnderWay, end: Instant, status: Status) -> Record {
        let measured = self.origin + self.run.warm_up;
        let at = |time: Instant| match time.checked_duration_since(measured) {
            Some(after) => after.as_micros() as i64,
            None => -(measured.duration_since(time).as_micros() as i64),
        };
        Record {
            run: Arc::clone(&self.run.name),
            team: Arc::clone(&under_way.team),
            kind: Arc::clone(&under_way.kind),
            due_us: at(self.origin + under_way.due),
            start_us: at(under_way.start),
            end_us: at(end),
            run_us: 0,
            rows: 0,
            bytes: 0,
            tries: 1,
            status,
        }
    }
}
