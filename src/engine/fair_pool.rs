//! The threads of a node, shared by [`Turns`]: zones are scanned on them, and whoever makes a plan or encodes chunks on a
//! thread of its own takes a turn meanwhile, so that all of it together keeps `threads` cores busy and no more.
//!
//! The order is [`Turns`]' to say. Here it is carried out: at most `threads` turns at the same time, each charged the
//! time that it took, as [`Perform`] or the clock passed in say. A thread that is done takes the next job itself, so a full node wakes nobody.
//!
//! Invariant: work waits only while all turns are given; a turn that is dropped, wherever that happens, is given again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::executor::{Clock, Job, ScanPool};
use super::share::Share;
use super::turns::{Ticket, Turns};

/// About how many turns the average is over: a few scans.
const AVERAGED: u32 = 64;

/// Whoever holds a turn for so long does not keep the others from theirs any more: as long as it goes on, one turn more is
/// given, and the system divides the cores among those that compute. A good deal more than the longest job takes. Lower:
/// more at a time than there are cores. Higher: small queries wait so long behind a plan that does not yield.
const OVERRUN: Duration = Duration::from_millis(10);

/// Does a job, and says how long that kept its thread at work: what the job's share is charged. On the pool's threads, so
/// it may ask the system about the thread that it runs on.
pub type Perform = Arc<dyn Fn(Job) -> Duration + Send + Sync>;

/// A pool of threads whose work takes turns. Cheap to clone.
#[derive(Clone)]
pub struct FairPool(Arc<Pool>);

struct Pool {
    threads: rayon::ThreadPool,
    clock: Clock,
    perform: Perform,
    state: Mutex<State>,
    idle: Notify,
}

struct State {
    turns: Turns<Work>,
    /// Turns that are given, at most as many as there are threads and were lent.
    given: usize,
    /// Turns given in place of those that are held for too long.
    lent: usize,
    /// The turns that may be held for too long, at most as many as were given.
    long: Vec<Held>,
    /// Of the last of those.
    number: u64,
    /// What a turn took, the last ones counting most; none before the first.
    average: Option<Duration>,
    /// Whether somebody wants to be told when one is left over.
    is_idleness_wanted: bool,
}

/// A turn that may be held for too long.
struct Held {
    number: u64,
    since: Duration,
    is_lent: bool,
}

enum Work {
    /// Runs on a thread of the pool.
    Job(Job),
    /// Runs elsewhere; wants to be told.
    Elsewhere { tell: oneshot::Sender<Turn>, may_overrun: bool },
}

impl FairPool {
    /// A pool of `threads` threads named `scan-N`.
    pub fn new(threads: usize, clock: Clock) -> Result<FairPool, rayon::ThreadPoolBuildError> {
        let by_clock = Arc::clone(&clock);
        let perform: Perform = Arc::new(move |job| {
            let start = by_clock();
            job();
            by_clock().saturating_sub(start)
        });
        FairPool::performing(perform, || {}, threads, clock)
    }

    /// The same where the caller says how jobs are done and charged, and what each thread begins with.
    pub fn performing(
        perform: Perform,
        begin: impl Fn() + Send + Sync + 'static,
        threads: usize,
        clock: Clock,
    ) -> Result<FairPool, rayon::ThreadPoolBuildError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("scan-{n}"))
            .start_handler(move |_| begin())
            .build()?;
        let state = State {
            turns: Turns::default(),
            given: 0,
            lent: 0,
            long: Vec::new(),
            number: 0,
            average: None,
            is_idleness_wanted: false,
        };
        let state = Mutex::new(state);
        Ok(FairPool(Arc::new(Pool { threads, clock, perform, state, idle: Notify::new() })))
    }

    /// Waits for a turn to compute on a thread of the caller's. Whoever has one must not wait for another turn, nor for
    /// rows to arrive: the turn is a core that is kept free.
    pub async fn turn(&self, share: &Share) -> Turn {
        self.turn_elsewhere(share, false).await
    }

    /// The same for work that may take long without a pause. While it holds the turn for more than 10 ms, another is lent
    /// to those that wait.
    pub async fn long_turn(&self, share: &Share) -> Turn {
        self.turn_elsewhere(share, true).await
    }

    async fn turn_elsewhere(&self, share: &Share, may_overrun: bool) -> Turn {
        let (tell, receiver) = oneshot::channel();
        self.0.push(share, Work::Elsewhere { tell, may_overrun });
        receiver.await.expect("a turn is sent or still waits in the pool, which lives as long as `self`")
    }

    /// What a turn takes on average, the last ones counting most; none before the first.
    pub fn average(&self) -> Option<Duration> {
        self.0.state().average
    }

    /// Whether a turn is left over.
    pub fn is_idle(&self) -> bool {
        self.0.state().given < self.0.threads.current_num_threads()
    }

    /// The next turn that is left over ends one [`FairPool::idled`]. With `even_now` so does one that is left over now:
    /// for who last saw none.
    pub fn want_idleness(&self, even_now: bool) {
        let mut state = self.0.state();
        if even_now && state.given < self.0.threads.current_num_threads() {
            self.0.idle.notify_one();
        } else {
            state.is_idleness_wanted = true;
        }
    }

    /// Waits until a turn was left over after somebody wanted to know.
    pub async fn idled(&self) {
        self.0.idle.notified().await;
    }

    /// Gives a turn more for each that is held for too long, if any work waits; to be called a few times a second. What
    /// arrives does the same.
    pub fn lend(&self) {
        let mut state = self.0.state();
        self.0.lend_overrun(&mut state);
        self.0.start_all(state);
    }

    /// Turns that are given, and work that waits for one.
    pub fn load(&self) -> (usize, usize) {
        let state = self.0.state();
        (state.given, state.turns.waiting())
    }
}

impl ScanPool for FairPool {
    fn spawn(&self, share: &Share, job: Job) {
        self.0.push(share, Work::Job(job));
    }

    fn width(&self) -> usize {
        self.0.threads.current_num_threads()
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, share: &Share, work: Work) {
        let mut state = self.state();
        state.turns.push(share, work);
        self.lend_overrun(&mut state);
        self.start_all(state);
    }

    fn width(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Marks the turns that are held for too long while work waits.
    fn lend_overrun(&self, state: &mut State) {
        if state.long.is_empty() || state.turns.waiting() == 0 || state.given < self.width() + state.lent {
            return;
        }
        let now = (self.clock)();
        let overrun = |held: &&mut Held| !held.is_lent && now.saturating_sub(held.since) > OVERRUN;
        for held in state.long.iter_mut().filter(overrun) {
            held.is_lent = true;
            state.lent += 1;
        }
    }

    /// Gives turns as long as there are some, and work that waits.
    fn start_all(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut jobs = Vec::new();
        while state.given < self.width() + state.lent && state.turns.waiting() > 0 {
            state.given += 1;
            jobs.extend(self.next_job(&mut state));
        }
        drop(state);
        for (ticket, job) in jobs {
            let pool = Arc::clone(self);
            self.threads.spawn_fifo(move || pool.run(ticket, job));
        }
    }

    /// Does jobs as long as there are any.
    fn run(self: Arc<Self>, mut ticket: Ticket, mut job: Job) {
        loop {
            // A scan job reports its own panics; whatever it did, the thread goes on with the next.
            let quiet = Box::new(move || {
                let _ = catch_unwind(AssertUnwindSafe(job));
            });
            let took = (self.perform)(quiet);
            match self.done(ticket, took, None) {
                Some(next) => (ticket, job) = next,
                None => return,
            }
        }
    }

    /// A turn has ended, with its number if it has one; gives the job that it goes to, if it goes to one.
    fn done(self: &Arc<Self>, ticket: Ticket, took: Duration, number: Option<u64>) -> Option<(Ticket, Job)> {
        let mut state = self.state();
        state.turns.done(ticket, took);
        state.average = Some(state.average.map_or(took, |average| (average * (AVERAGED - 1) + took) / AVERAGED));
        if state.hand_in(number) {
            // Another was given in its place long ago.
            self.leave_over(&mut state);
            return None;
        }
        self.next_job(&mut state)
    }

    /// Passes one turn on: to a job, which is given to the caller, or to somebody who waits for it elsewhere. If nobody
    /// wants it, it is free.
    fn next_job(self: &Arc<Self>, state: &mut State) -> Option<(Ticket, Job)> {
        while let Some((ticket, work)) = state.turns.give() {
            match work {
                Work::Job(job) => return Some((ticket, job)),
                Work::Elsewhere { tell, may_overrun } => {
                    let start = (self.clock)();
                    let number = may_overrun.then(|| state.note_long(start));
                    let turn = Turn { pool: Arc::clone(self), ticket: Some(ticket), start, number };
                    let Err(mut unwanted) = tell.send(turn) else { return None };
                    // Whoever asked is gone. Taken out, so that dropping the turn does not come back here.
                    state.hand_in(number);
                    if let Some(ticket) = unwanted.ticket.take() {
                        state.turns.done(ticket, Duration::ZERO);
                    }
                }
            }
        }
        self.leave_over(state);
        None
    }

    /// A turn is passed on to nobody.
    fn leave_over(&self, state: &mut State) {
        state.given -= 1;
        if std::mem::take(&mut state.is_idleness_wanted) {
            self.idle.notify_one();
        }
    }
}

impl State {
    /// A turn is given that may be held for too long; gives its number.
    fn note_long(&mut self, since: Duration) -> u64 {
        self.number += 1;
        self.long.push(Held { number: self.number, since, is_lent: false });
        self.number
    }

    /// A turn comes back. True if another was lent in its place.
    fn hand_in(&mut self, number: Option<u64>) -> bool {
        let Some(at) = self.long.iter().position(|held| Some(held.number) == number) else { return false };
        let is_lent = self.long.swap_remove(at).is_lent;
        self.lent -= usize::from(is_lent);
        is_lent
    }
}

/// The right to keep one core busy, until it is dropped; then the time is charged to the share that it was given to.
pub struct Turn {
    pool: Arc<Pool>,
    /// None once it was handed back.
    ticket: Option<Ticket>,
    start: Duration,
    /// Of one that may be held for too long.
    number: Option<u64>,
}

impl Turn {
    /// How long it has been held.
    pub fn elapsed(&self) -> Duration {
        (self.pool.clock)().saturating_sub(self.start)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        if let Some((ticket, job)) = self.pool.done(ticket, self.elapsed(), self.number) {
            let pool = Arc::clone(&self.pool);
            self.pool.threads.spawn_fifo(move || pool.run(ticket, job));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;
    use crate::delivery::QueryId;
    use crate::engine::share::Flow;

    fn share(flow: &str, query: u128) -> Share {
        Share { flow: Flow(Some(flow.into())), client: 1, query: QueryId(query), weight: 1 }
    }

    /// A pool of one thread on a clock that each look advances by a millisecond.
    fn pool(threads: usize) -> FairPool {
        let ticks = AtomicU64::new(0);
        let clock: Clock = Arc::new(move || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed)));
        FairPool::new(threads, clock).expect("threads")
    }

    /// Holds the pool's only thread until the sender goes.
    fn hold(pool: &FairPool) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        pool.spawn(
            &share("held", 0),
            Box::new(move || {
                tell.send(()).expect("the test waits");
                let _ = held.recv();
            }),
        );
        told.recv().expect("the thread runs");
        release
    }

    #[test]
    fn jobs_run_in_turn_and_not_in_order_of_arrival() {
        let pool = pool(1);
        let release = hold(&pool);
        let (done, order) = mpsc::channel();
        for (flow, query) in [("a", 1), ("a", 1), ("a", 1), ("a", 1), ("b", 2), ("b", 2)] {
            let done = done.clone();
            pool.spawn(&share(flow, query), Box::new(move || done.send(query).expect("the test waits")));
        }
        // One that panics takes nobody along.
        pool.spawn(&share("c", 3), Box::new(|| panic!("on purpose")));
        drop((release, done));
        assert_eq!(order.iter().collect::<Vec<u128>>(), [1, 2, 1, 2, 1, 1]);
    }

    #[test]
    fn a_turn_elsewhere_waits_for_its_place_and_is_passed_on_when_dropped() {
        let pool = pool(1);
        let share = share("a", 1);
        let first = pool.turn(&share).now_or_never().expect("the node is idle");
        let mut second = Box::pin(pool.turn(&share));
        let mut third = Box::pin(pool.turn(&share));
        let mut fourth = Box::pin(pool.turn(&share));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert!(fourth.as_mut().now_or_never().is_none());
        assert_eq!(pool.load(), (1, 3));
        // Who does not want it any more is passed over; who got it and never looked gives it back.
        drop(second);
        drop(first);
        drop(third);
        let fourth = fourth.now_or_never().expect("its turn");
        let (tell, told) = mpsc::channel();
        pool.spawn(&share, Box::new(move || tell.send(()).expect("the test waits")));
        assert!(told.try_recv().is_err(), "the only turn is given");
        drop(fourth);
        told.recv().expect("the job ran");
    }

    #[test]
    fn who_holds_a_turn_for_too_long_does_not_keep_the_others_waiting() {
        let time = Arc::new(AtomicU64::new(0));
        let (set, now) = (Arc::clone(&time), time);
        let clock: Clock = Arc::new(move || Duration::from_millis(now.load(Ordering::Relaxed)));
        let pool = FairPool::new(1, clock).expect("a thread");
        let (tell, told) = mpsc::channel();
        let spawn = || {
            let tell = tell.clone();
            pool.spawn(&share("b", 2), Box::new(move || tell.send(()).expect("the test waits")));
        };
        let until = |load: (usize, usize)| {
            while pool.load() != load {
                std::thread::yield_now();
            }
        };
        let long = pool.long_turn(&share("a", 1)).now_or_never().expect("the node is idle");
        spawn();
        set.store(10, Ordering::Relaxed);
        pool.lend();
        assert_eq!(pool.load(), (1, 1), "not yet too long");
        set.store(11, Ordering::Relaxed);
        pool.lend();
        told.recv().expect("the job ran beside it");
        until((1, 0));
        spawn();
        told.recv().expect("so does what comes later");
        until((1, 0));
        // Once it is back, one turn is one turn again: what waits goes on waiting for the one that was lent.
        let release = hold(&pool);
        spawn();
        assert_eq!(pool.load(), (2, 1));
        drop(long);
        assert_eq!(pool.load(), (1, 1));
        drop(release);
        told.recv().expect("its turn");
        until((0, 0));
        // Who did not say that it may take long keeps its turn.
        let held = pool.turn(&share("a", 1)).now_or_never().expect("the node is idle");
        spawn();
        set.store(1_000, Ordering::Relaxed);
        pool.lend();
        assert_eq!(pool.load(), (1, 1));
        drop(held);
        told.recv().expect("its turn");
    }

    #[test]
    fn who_wants_to_know_is_told_once_that_a_turn_is_left_over() {
        let pool = pool(1);
        let is_told = |pool: &FairPool| pool.idled().now_or_never().is_some();
        let take = || pool.turn(&share("a", 1)).now_or_never().expect("the node is idle");
        drop(take());
        assert!(pool.is_idle() && !is_told(&pool), "nobody wanted to know");
        let held = take();
        pool.want_idleness(true);
        assert!(!pool.is_idle() && !is_told(&pool));
        drop(held);
        assert!(is_told(&pool) && !is_told(&pool));
        // One that is left over now counts only for who has not seen it.
        pool.want_idleness(false);
        assert!(!is_told(&pool));
        drop(take());
        assert!(is_told(&pool));
        pool.want_idleness(true);
        assert!(is_told(&pool));
    }

    #[test]
    fn random_traffic_leaves_every_turn_free() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let pool = pool(random.usize(1..4));
            let (tell, told) = mpsc::channel();
            let mut waiting = Vec::new();
            let jobs = random.usize(1..200);
            for job in 0..jobs {
                let share = share(&random.u8(0..3).to_string(), random.u128(0..5));
                let tell = tell.clone();
                pool.spawn(&share, Box::new(move || tell.send(job).expect("the test waits")));
                let asked = pool.clone();
                let mut turn = Box::pin(async move { asked.turn(&share).await });
                if turn.as_mut().now_or_never().is_none() {
                    waiting.push(turn);
                }
                waiting.truncate(random.usize(0..5));
            }
            drop((waiting, tell));
            let mut ran: Vec<usize> = told.iter().collect();
            ran.sort_unstable();
            assert_eq!(ran, (0..jobs).collect::<Vec<_>>(), "seed {seed}");
            // The last thread hands its turn back a moment after its job's last word.
            while pool.load() != (0, 0) {
                std::thread::yield_now();
            }
        }
    }
}
