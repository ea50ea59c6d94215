//! Sends requests when they are due and keeps a record of each.
//!
//! Each source is one client, alone or with others, on as many connections as it needs, and has two threads of its own,
//! as if it were a program of its own: else one that reads much would keep the others from their answers, and its own
//! slowness would be measured as theirs. One sleeps until the next request of the schedule is due and hands it over,
//! the other sends and reads. When that one is behind, a request is sent late, but it keeps the time at which it was
//! due: a stall is measured, not hidden. Each source has a bound on its requests under way; what is due beyond it is
//! recorded as unissued.
//!
//! The threads ask the system not to be kept waiting by threads that compute, as those of nodes do that serve connections
//! ([`begin_to_serve`]): what a busy core does to a client is not the overlay's latency. And they take little of the cores
//! that they share with what is measured: a request passes from one thread to the other once, and what a source has to
//! send within [`TOGETHER`] it sends together.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;

use super::board::Board;
use super::record::{Record, Status};
use super::request::{Manner, Question, Sent, send};
use super::schedule::{Pace, Schedule, Timing, Weighted};
use crate::client::Client;
use crate::node::begin_to_serve;
use crate::routing::Team;

/// From the start to the first request: the threads are running by then.
const LEAD: Duration = Duration::from_millis(20);
/// A source whose requests are due at shorter distances sends some of them so much late at the most. Their latency counts
/// from when they were due. To wake up for each of thousands a second would take most of a core.
const TOGETHER: Duration = Duration::from_millis(1);
/// Requests on one connection: below the number of streams that a node accepts on one, with room for their ends.
const PER_CONNECTION: usize = 100;

/// Requests of one kind of sender.
pub struct Source {
    /// Sources of the same number are one client.
    pub client: usize,
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

/// Says when somebody has had enough: then it is true.
pub type Enough = watch::Receiver<bool>;

/// Runs it against a Leader. Dropping the future ends every request.
pub async fn run(run: Run, address: &str, board: &Arc<Board>) -> Vec<Record> {
    let (_never, enough) = watch::channel(false);
    run_until(run, address, board, enough).await
}

/// The same until somebody has had enough: then the records are of what has ended, and of what is under way.
pub async fn run_until(run: Run, address: &str, board: &Arc<Board>, mut enough: Enough) -> Vec<Record> {
    let origin = Instant::now() + LEAD;
    let last = run.sources.iter().map(|source| source.timing.until).max().unwrap_or_default();
    // Closed loops that end by their number have no other end.
    let end = origin.checked_add(last.saturating_add(run.grace));
    let (clock, seed) = (Times { name: run.name, origin, measured: origin + run.warm_up }, run.seed);
    let mut clients: HashMap<usize, Client> = HashMap::new();
    let senders = run.sources.into_iter().enumerate().map(|(index, source)| {
        let schedule = Schedule::new(source.timing, seed, index);
        let client = clients.entry(source.client).or_insert_with(|| Client::new(address));
        Sender::start(source, schedule, clock.clone(), Rng::with_seed(seed ^ index as u64), client, Arc::clone(board))
    });
    let senders = Senders(senders.collect());
    let all_ended = async {
        for sender in &senders.0 {
            sender.ended().await;
        }
    };
    let ended_or_late = async {
        match end {
            // What has not ended by then never does.
            Some(end) => drop(tokio::time::timeout_at(end.into(), all_ended).await),
            None => all_ended.await,
        }
    };
    tokio::select! {
        () = ended_or_late => {}
        // Without an error: the other end lives as long as this run may be ended.
        Ok(_) = enough.wait_for(|enough| *enough) => {}
    }
    let mut records: Vec<Record> = senders.0.iter().flat_map(|sender| sender.take_records()).collect();
    records.sort_by_key(|record| record.due_us);
    records
}

/// Ends what is under way when it is dropped.
struct Senders(Vec<Arc<Sender>>);

impl Drop for Senders {
    fn drop(&mut self) {
        for sender in &self.0 {
            sender.stop();
        }
    }
}

/// What the times of records are told by.
#[derive(Clone)]
struct Times {
    name: Arc<str>,
    origin: Instant,
    measured: Instant,
}

impl Times {
    fn micros(&self, time: Instant) -> i64 {
        match time.checked_duration_since(self.measured) {
            Some(after) => after.as_micros() as i64,
            None => -(self.measured.duration_since(time).as_micros() as i64),
        }
    }
}

/// A source at work.
struct Sender {
    source: Source,
    times: Times,
    /// Where it sends and reads.
    handle: Handle,
    clients: Vec<Client>,
    board: Arc<Board>,
    state: Mutex<State>,
    /// Told when the last request has ended.
    done: Notify,
    is_stopped: AtomicBool,
}

struct State {
    random: Rng,
    issued: u64,
    under_way: HashMap<u64, UnderWay>,
    /// Requests under way on each connection.
    on_connection: Vec<usize>,
    tasks: JoinSet<()>,
    records: Vec<Record>,
    /// Whether more are to come from the schedule.
    is_pacing: bool,
    /// When that was due which the other thread was told to issue and has not issued yet.
    handed_over: VecDeque<Duration>,
    /// Dropped, it ends the thread that sends.
    _end: oneshot::Sender<()>,
}

struct UnderWay {
    team: Arc<str>,
    kind: Arc<str>,
    due: Duration,
    start: Instant,
}

impl Sender {
    fn start(
        source: Source,
        schedule: Schedule,
        times: Times,
        random: Rng,
        client: &Client,
        board: Arc<Board>,
    ) -> Arc<Sender> {
        let at_once = match source.timing.pace {
            Pace::Closed { at_once, .. } => at_once,
            _ => source.outstanding_max,
        };
        let connections = at_once.div_ceil(PER_CONNECTION).max(1);
        let (end, ended) = oneshot::channel();
        let handle = sending_thread(ended).unwrap_or_else(Handle::current);
        let clients = {
            let _clients_live_there = handle.enter();
            (0..connections).map(|_| client.on_another_connection()).collect()
        };
        let state = State {
            random,
            issued: 0,
            under_way: HashMap::new(),
            on_connection: vec![0; connections],
            tasks: JoinSet::new(),
            records: Vec::new(),
            is_pacing: true,
            handed_over: VecDeque::new(),
            _end: end,
        };
        let (state, done, is_stopped) = (Mutex::new(state), Notify::new(), AtomicBool::new(false));
        let sender = Arc::new(Sender { source, times, handle, clients, board, state, done, is_stopped });
        let paced = Arc::clone(&sender);
        std::thread::spawn(move || paced.pace(schedule));
        sender
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Issues what the schedule says, when it says so; of a closed loop the first requests, which all begin with the run.
    fn pace(self: &Arc<Self>, schedule: Schedule) {
        begin_to_serve();
        let origin = self.times.origin;
        let sleep_until = |time: Duration| {
            std::thread::sleep((origin + time).saturating_duration_since(Instant::now()));
        };
        if let Pace::Closed { at_once, requests } = self.source.timing.pace {
            sleep_until(Duration::ZERO);
            let count = requests.map_or(at_once, |requests| at_once.min(usize::try_from(requests).unwrap_or(at_once)));
            self.hand_over(std::iter::repeat_n(origin.elapsed(), count));
        }
        let mut schedule = schedule.peekable();
        let mut not_before = Duration::ZERO;
        while let Some(first) = schedule.peek() {
            sleep_until(not_before.max(*first));
            if self.is_stopped() {
                return;
            }
            let now = origin.elapsed();
            self.hand_over(std::iter::from_fn(|| schedule.next_if(|due| *due <= now)));
            not_before = now + TOGETHER;
        }
        let mut state = self.state();
        state.is_pacing = false;
        self.tell_if_done(&state);
    }

    /// Has the thread that sends issue what is due. All of it at once: it is woken once then, and what it sends together goes
    /// out together.
    fn hand_over(self: &Arc<Self>, due: impl Iterator<Item = Duration>) {
        let is_told = {
            let mut state = self.state();
            let is_told = !state.handed_over.is_empty();
            state.handed_over.extend(due);
            is_told
        };
        if is_told {
            return;
        }
        let sender = Arc::clone(self);
        self.handle.spawn(async move {
            let mut state = sender.state();
            while !sender.is_stopped()
                && let Some(due) = state.handed_over.pop_front()
            {
                sender.issue(&mut state, due);
            }
            sender.tell_if_done(&state);
        });
    }

    fn next_of_loop(self: &Arc<Self>, state: &mut State) {
        let Timing { pace: Pace::Closed { requests, .. }, until, .. } = self.source.timing else { return };
        let now = self.times.origin.elapsed();
        if now < until && !self.is_stopped() && requests.is_none_or(|requests| state.issued < requests) {
            self.issue(state, now);
        }
    }

    /// What is asked next, for whom.
    fn choose(&self, state: &mut State, due: Duration, start: Instant) -> (Option<Team>, Arc<Question>, UnderWay) {
        let team = self.source.teams.choose(&mut state.random).clone();
        let question = Arc::clone(self.source.questions.choose(&mut state.random));
        let named = team.as_ref().map_or("none", Team::as_str).into();
        let under_way = UnderWay { team: named, kind: Arc::clone(&question.name), due, start };
        (team, question, under_way)
    }

    fn not_issued(&self, state: &mut State, under_way: &UnderWay, why: &str) {
        let record = self.record(under_way, under_way.start, Status::Unissued);
        self.board.add(&record, Some(why));
        state.records.push(record);
    }

    fn issue(self: &Arc<Self>, state: &mut State, due: Duration) {
        let start = Instant::now();
        let (team, question, under_way) = self.choose(state, due, start);
        let free = state.on_connection.iter().position(|requests| *requests < PER_CONNECTION);
        let free = free.filter(|_| state.under_way.len() < self.source.outstanding_max);
        let Some(connection) = free else {
            self.not_issued(state, &under_way, "the generator's bound on requests under way");
            return;
        };
        let id = state.issued;
        state.issued += 1;
        state.on_connection[connection] += 1;
        state.under_way.insert(id, under_way);
        while state.tasks.try_join_next().is_some() {}
        let request = Request { sender: Arc::clone(self), id, connection, sent: None };
        let (client, manner) = (self.clients[connection].clone(), self.source.manner);
        let sending = async move { request.answered(send(&client, &question, team, manner).await) };
        state.tasks.spawn_on(sending, &self.handle);
    }

    fn request_ended(self: &Arc<Self>, id: u64, connection: usize, sent: Option<Sent>) {
        let mut state = self.state();
        state.on_connection[connection] -= 1;
        // A request whose task panicked, or was stopped, has no answer; it stays open in the records.
        if let Some(sent) = sent
            && let Some(under_way) = state.under_way.remove(&id)
        {
            let mut record = self.record(&under_way, sent.end, sent.status);
            record.run_us = sent.run.as_micros() as u64;
            (record.rows, record.bytes, record.tries) = (sent.rows, sent.bytes, sent.tries);
            self.board.add(&record, sent.why.as_deref());
            state.records.push(record);
        }
        // In one step with the end of the last: between the two it would look as if all were done.
        self.next_of_loop(&mut state);
        self.tell_if_done(&state);
    }

    fn tell_if_done(&self, state: &State) {
        if !state.is_pacing && state.handed_over.is_empty() && state.on_connection.iter().all(|requests| *requests == 0)
        {
            self.done.notify_one();
        }
    }

    /// Waits until all its requests have been issued and have ended.
    async fn ended(&self) {
        self.done.notified().await;
    }

    /// The records, with what is still open, and what the thread that sends did not come to.
    fn take_records(&self) -> Vec<Record> {
        let mut state = self.state();
        let now = Instant::now();
        while let Some(due) = state.handed_over.pop_front() {
            let (_, _, under_way) = self.choose(&mut state, due, now);
            self.not_issued(&mut state, &under_way, "the generator was behind");
        }
        let open: Vec<UnderWay> = state.under_way.drain().map(|(_, under_way)| under_way).collect();
        for under_way in open {
            let record = self.record(&under_way, now, Status::Open);
            self.board.add(&record, None);
            state.records.push(record);
        }
        std::mem::take(&mut state.records)
    }

    /// Ends what is under way, and issues nothing any more.
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        // Taken out: a task that ends asks for the state.
        let tasks = std::mem::take(&mut self.state().tasks);
        drop(tasks);
    }

    fn record(&self, under_way: &UnderWay, end: Instant, status: Status) -> Record {
        let times = &self.times;
        Record {
            run: Arc::clone(&times.name),
            team: Arc::clone(&under_way.team),
            kind: Arc::clone(&under_way.kind),
            due_us: times.micros(times.origin + under_way.due),
            start_us: times.micros(under_way.start),
            end_us: times.micros(end),
            run_us: 0,
            rows: 0,
            bytes: 0,
            tries: 1,
            status,
        }
    }
}

/// A request under way; however its task ends, the sender is told.
struct Request {
    sender: Arc<Sender>,
    id: u64,
    connection: usize,
    sent: Option<Sent>,
}

impl Request {
    fn answered(mut self, sent: Sent) {
        self.sent = Some(sent);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.sender.request_ended(self.id, self.connection, self.sent.take());
    }
}

/// A runtime on a thread of its own; none where no thread can be had: then all sources share one.
fn sending_thread(ended: oneshot::Receiver<()>) -> Option<Handle> {
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
