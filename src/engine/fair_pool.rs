//! The threads of a node, shared by [`Turns`]: zones are scanned on them, and whoever makes a plan or encodes chunks on a
//! thread of its own takes a turn meanwhile, so that all of it together keeps `threads` cores busy and no more.
//!
//! The order is [`Turns`]' to say. Here it is carried out: at most `threads` turns at the same time, and for a moment one
//! beside them for what is short, each charged the time that it took, as [`Perform`] or the clock passed in say. A thread
//! that is done takes the next job itself, so a full node wakes nobody.
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

/// Who was served so much less than the others need not wait for the end of their jobs with what is short. A good part of
/// what [`super::turns`] grants a flow to take up at once, so that it is one that comes now and then.
const BEHIND: Duration = Duration::from_millis(5);

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
    /// Turns that are given, at most as many as there are threads and were lent; that beside them not counted.
    given: usize,
    /// Turns given in place of those that are held for too long.
    lent: usize,
    /// The turns that may be held for too long, at most as many as were given.
    long: Vec<Held>,
    /// Whether a turn is given beside those, to what is short.
    is_beside: bool,
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
    Elsewhere { tell: oneshot::Sender<Turn>, length: Length },
}

/// What is known of the time that a turn is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// Less than a job's.
    Short,
    /// It may be held for too long.
    Long,
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
            is_beside: false,
            number: 0,
            average: None,
            is_idleness_wanted: false,
        };
        let state = Mutex::new(state);
        Ok(FairPool(Arc::new(Pool { threads, clock, perform, state, idle: Notify::new() })))
    }

    /// Waits for a turn to compute on a thread of the caller's, for less than a job takes. Whoever has one must not wait for
    /// another turn, nor for rows to arrive: the turn is a core that is kept free.
    ///
    /// If all turns are given, and the flow was served less than those that have them, one more is: its thread and theirs
    /// share the cores for that moment. One such turn at a time, and it is charged as any other, so that nobody gets more
    /// by it, only sooner.
    pub async fn turn(&self, share: &Share) -> Turn {
        self.turn_elsewhere(share, Length::Short).await
    }

    /// The same for work that may take long without a pause. While it holds the turn for more than 10 ms, another is lent
    /// to those that wait.
    pub async fn long_turn(&self, share: &Share) -> Turn {
        self.turn_elsewhere(share, Length::Long).await
    }

    async fn turn_elsewhere(&self, share: &Share, length: Length) -> Turn {
        let (tell, receiver) = oneshot::channel();
        self.0.push(share, Work::Elsewhere { tell, length });
        receiver.await.expect("a turn is sent or still waits in the pool, which lives as long as `self`")
    }

    /// The share's flow kept a core busy for so long without a turn: what it gets of turns is so much less, as long as others
    /// want some.
    pub fn charge(&self, share: &Share, cost: Duration) {
        self.0.state().turns.charge(share, cost);
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
        self.give_beside(&mut state);
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

    /// Gives a turn beside the others, if what is short waits in vain and comes first.
    fn give_beside(self: &Arc<Self>, state: &mut State) {
        let is_short = |work: &Work| matches!(work, Work::Elsewhere { length: Length::Short, .. });
        while !state.is_beside && state.given >= self.width() + state.lent {
            let Some((ticket, work)) = state.turns.give_if_behind(BEHIND, is_short) else { return };
            if let Work::Elsewhere { tell, .. } = work {
                state.is_beside = self.tell(state, ticket, tell, Place::Beside);
            }
        }
    }

    /// Gives a turn to somebody who waits for it elsewhere. False if nobody does any more.
    fn tell(self: &Arc<Self>, state: &mut State, ticket: Ticket, tell: oneshot::Sender<Turn>, place: Place) -> bool {
        let start = (self.clock)();
        let turn = Turn { pool: Arc::clone(self), ticket: Some(ticket), start, place };
        let Err(mut unwanted) = tell.send(turn) else { return true };
        // Taken out, so that dropping the turn does not come back here.
        if let Some(ticket) = unwanted.ticket.take() {
            state.turns.done(ticket, Duration::ZERO);
        }
        false
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
            match self.done(ticket, took, Place::Usual) {
                Some(next) => (ticket, job) = next,
                None => return,
            }
        }
    }

    /// A turn has ended; gives the job that it goes to, if it goes to one.
    fn done(self: &Arc<Self>, ticket: Ticket, took: Duration, place: Place) -> Option<(Ticket, Job)> {
        let mut state = self.state();
        state.turns.done(ticket, took);
        state.average = Some(state.average.map_or(took, |average| (average * (AVERAGED - 1) + took) / AVERAGED));
        match place {
            Place::Usual => {}
            Place::Beside => {
                state.is_beside = false;
                self.give_beside(&mut state);
                return None;
            }
            Place::Long(number) => {
                if state.hand_in(number) {
                    // Another was given in its place long ago.
                    self.leave_over(&mut state);
                    return None;
                }
            }
        }
        self.next_job(&mut state)
    }

    /// Passes one turn on: to a job, which is given to the caller, or to somebody who waits for it elsewhere. If nobody
    /// wants it, it is free.
    fn next_job(self: &Arc<Self>, state: &mut State) -> Option<(Ticket, Job)> {
        while let Some((ticket, work)) = state.turns.give() {
            match work {
                Work::Job(job) => return Some((ticket, job)),
                Work::Elsewhere { tell, length } => {
                    let place = match length {
                        Length::Long => Place::Long(state.note_long((self.clock)())),
                        Length::Short => Place::Usual,
                    };
                    if self.tell(state, ticket, tell, place) {
                        return None;
                    }
                    // Whoever asked is gone.
                    if let Place::Long(number) = place {
                        state.hand_in(number);
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
    fn hand_in(&mut self, number: u64) -> bool {
        let Some(at) = self.long.iter().position(|held| held.number == number) else { return false };
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
    place: Place,
}

/// Which of the turns one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of as many as there are threads.
    Usual,
    /// The same, and it may be held for too long; with its number among those.
    Long(u64),
    /// One more than those.
    Beside,
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
        if let Some((ticket, job)) = self.pool.done(ticket, self.elapsed(), self.place) {
            let pool = Arc::clone(&self.pool);
            self.pool.threads.spawn_fifo(move || pool.run(ticket, job));
        }
    }
}

#[cfg(test)]
#[path = "fair_pool_tests.rs"]
mod tests;
