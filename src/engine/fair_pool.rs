//! The threads of a node, shared by [`Turns`]: zones are scanned on them, and whoever makes a plan or encodes chunks on a
//! thread of its own takes a turn meanwhile, so that all of it together keeps `threads` cores busy and no more.
//!
//! The order is [`Turns`]' to say. Here it is carried out: at most `threads` turns at the same time, each charged the
//! time that it took on the clock passed in. A thread that is done takes the next job itself, so a full node wakes nobody.
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

/// A pool of threads whose work takes turns. Cheap to clone.
#[derive(Clone)]
pub struct FairPool(Arc<Pool>);

struct Pool {
    threads: rayon::ThreadPool,
    clock: Clock,
    state: Mutex<State>,
    idle: Notify,
}

struct State {
    turns: Turns<Work>,
    /// Turns that are given, at most as many as there are threads.
    given: usize,
    /// What a turn took, the last ones counting most; none before the first.
    average: Option<Duration>,
    /// Whether somebody wants to be told when one is left over.
    is_idleness_wanted: bool,
}

enum Work {
    /// Runs on a thread of the pool.
    Job(Job),
    /// Runs elsewhere; wants to be told.
    Elsewhere(oneshot::Sender<Turn>),
}

impl FairPool {
    /// A pool of `threads` threads named `scan-N`.
    pub fn new(threads: usize, clock: Clock) -> Result<FairPool, rayon::ThreadPoolBuildError> {
        let threads =
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("scan-{n}")).build()?;
        let state = State { turns: Turns::default(), given: 0, average: None, is_idleness_wanted: false };
        let state = Mutex::new(state);
        Ok(FairPool(Arc::new(Pool { threads, clock, state, idle: Notify::new() })))
    }

    /// Waits for a turn to compute on a thread of the caller's. Whoever has one must not wait for another turn, nor for
    /// rows to arrive: the turn is a core that is kept free.
    pub async fn turn(&self, share: &Share) -> Turn {
        let (sender, receiver) = oneshot::channel();
        self.0.push(share, Work::Elsewhere(sender));
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
        if state.given == self.threads.current_num_threads() {
            return;
        }
        state.given += 1;
        let next = self.next_job(&mut state);
        drop(state);
        if let Some((ticket, job)) = next {
            let pool = Arc::clone(self);
            self.threads.spawn_fifo(move || pool.run(ticket, job));
        }
    }

    /// Does jobs as long as there are any.
    fn run(self: Arc<Self>, mut ticket: Ticket, mut job: Job) {
        loop {
            let start = (self.clock)();
            // A scan job reports its own panics; whatever it did, the thread goes on with the next.
            let _ = catch_unwind(AssertUnwindSafe(job));
            let took = (self.clock)().saturating_sub(start);
            match self.done(ticket, took) {
                Some(next) => (ticket, job) = next,
                None => return,
            }
        }
    }

    /// A turn has ended; gives the job that it goes to, if it goes to one.
    fn done(self: &Arc<Self>, ticket: Ticket, took: Duration) -> Option<(Ticket, Job)> {
        let mut state = self.state();
        state.turns.done(ticket, took);
        state.average = Some(state.average.map_or(took, |average| (average * (AVERAGED - 1) + took) / AVERAGED));
        self.next_job(&mut state)
    }

    /// Passes one turn on: to a job, which is given to the caller, or to somebody who waits for it elsewhere. If nobody
    /// wants it, it is free.
    fn next_job(self: &Arc<Self>, state: &mut State) -> Option<(Ticket, Job)> {
        while let Some((ticket, work)) = state.turns.give() {
            match work {
                Work::Job(job) => return Some((ticket, job)),
                Work::Elsewhere(sender) => {
                    let turn = Turn { pool: Arc::clone(self), ticket: Some(ticket), start: (self.clock)() };
                    let Err(mut unwanted) = sender.send(turn) else { return None };
                    // Whoever asked is gone. Taken out, so that dropping the turn does not come back here.
                    if let Some(ticket) = unwanted.ticket.take() {
                        state.turns.done(ticket, Duration::ZERO);
                    }
                }
            }
        }
        state.given -= 1;
        if std::mem::take(&mut state.is_idleness_wanted) {
            self.idle.notify_one();
        }
        None
    }
}

/// The right to keep one core busy, until it is dropped; then the time is charged to the share that it was given to.
pub struct Turn {
    pool: Arc<Pool>,
    /// None once it was handed back.
    ticket: Option<Ticket>,
    start: Duration,
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
        if let Some((ticket, job)) = self.pool.done(ticket, self.elapsed()) {
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
