//! The bounded queue in front of everything.
//!
//! Decides which query starts, which waits, and which is refused before any work is spent on it. Leaves who is next, and
//! who gives up a place in a full queue, to the [`Fairness`] strategy, and running, telling and cancelling to the caller.
//! It keeps the [`Account`] that all strategies share: whoever arrives, starts, costs and ends is booked here.
//!
//! A query starts, and takes its permit, inside [`Admission::offer`] or [`Admission::start_next`]; the latter also hands
//! out what the former started. So a full queue never refuses what could run at once, and the queue never needs a place
//! more than it has. A caller that drives it: at an offer, a finish, a withdrawal and every second or so, call
//! [`Admission::expired`], then [`Admission::start_next`] until it has nothing more.
//!
//! Deadlines come before the strategy: of those that may start, first come those that will most likely end in time, and
//! of these the one that the strategy says. How long a query takes is guessed from what its flow's last ones took, and from
//! the time that its client gave it; a query that cannot end in time is sent away.
//!
//! A refusal does not look at the queue, only at the flows and the clients that wait, and keeps nothing but counts.
//!
//! Invariants: running ≤ `concurrent_max`; queued ≤ `queue_capacity`; a query is at one place only; after all are gone
//! every count is back at zero.

mod arriving;
mod counts;
mod flow;
mod queue;
mod recent;
mod refused;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::fairness::{Account, Bill, Cost, Fairness, FairnessLimits, Flow, Places, Share, TurnOrder};
use crate::delivery::QueryId;

use arriving::Decision;
pub use counts::{AdmissionCounters, FlowCounters, Waits};
use flow::FlowState;
use queue::{Queue, Queued};
use recent::Recent;
use refused::Hints;
pub use refused::Refused;

/// Limits of admission; each at least 1, except that a queue of 0 refuses whatever cannot start at once.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// `queue_capacity`: queries that wait.
    pub queue_capacity: usize,
    /// `concurrent_max`: queries that run.
    pub concurrent_max: usize,
    /// `team_concurrent_max`: queries of one flow that run, as far as the strategy holds to it.
    pub team_concurrent_max: usize,
    /// Cores that compute for queries, until more is told.
    pub cores: usize,
}

/// Where a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Waiting, with this many that arrived before it.
    Queued(usize),
    /// It has a permit.
    Running,
}

/// How long a query may run before it counts as a long one, whatever it cost as far as was told. A good deal more than
/// queries take that wait for the cores of a busy node.
const RUNS_LONG: Duration = Duration::from_secs(10);

/// A query that had to give its place in the queue to another; it is gone, and its client is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Displaced {
    pub id: QueryId,
    pub why: Refused,
}

/// A query that waited in vain; it is gone, and its client is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    pub id: QueryId,
    /// None if its deadline has come; else it was sent away before, because it could not have ended in time.
    pub why: Option<Refused>,
}

struct Running {
    bill: Bill,
    started: Duration,
}

/// The queue and the permits.
pub struct Admission {
    limits: AdmissionLimits,
    strategy: Box<dyn Fairness>,
    queue: Queue,
    running: BTreeMap<QueryId, Running>,
    account: Account,
    /// Started, but not yet handed out by `start_next`. All of them are running.
    started: VecDeque<QueryId>,
    flows: BTreeMap<Flow, FlowState>,
    is_core_idle: bool,
    active_peak: usize,
    queued_peak: usize,
    waits: Recent,
    services: Recent,
    hints: Hints,
}

impl Admission {
    /// An empty queue and all permits free.
    pub fn new(limits: AdmissionLimits, strategy: Box<dyn Fairness>) -> Admission {
        Admission {
            limits,
            strategy,
            queue: Queue::default(),
            running: BTreeMap::new(),
            account: Account::default(),
            started: VecDeque::new(),
            flows: BTreeMap::new(),
            is_core_idle: true,
            active_peak: 0,
            queued_peak: 0,
            waits: Recent::default(),
            services: Recent::default(),
            hints: Hints::default(),
        }
    }

    /// Another strategy decides from now on. Queue, permits and account stay: no query is dropped, and what every flow
    /// got so far still counts.
    pub fn set_strategy(&mut self, strategy: Box<dyn Fairness>) {
        self.strategy = strategy;
    }

    /// The strategy that decides, and in which order the work of running queries is to be done.
    pub fn strategy(&self) -> (&'static str, TurnOrder) {
        (self.strategy.name(), self.strategy.turns())
    }

    /// How many cores compute for queries, at least 1, and whether one has nothing to do, as far as the caller knows now.
    /// The next query that starts takes it: until told again, no core is idle.
    pub fn tell_cores(&mut self, cores: usize, is_one_idle: bool) {
        self.limits.cores = cores.max(1);
        self.is_core_idle = is_one_idle;
    }

    /// A query arrives. It either starts at once, to be collected by [`Self::start_next`], or waits; if it took the place
    /// of another, that one is given. The deadline is a point in time on the clock of `now`. The flow is one of the
    /// configured teams or `none`: the caller has checked that, since each flow is counted for ever. The id must be new;
    /// that of the share does not count here.
    ///
    /// Errors: as [`Refused`] says; nothing is kept of the query then.
    pub fn offer(
        &mut self,
        id: QueryId,
        share: Share,
        deadline: Duration,
        now: Duration,
    ) -> Result<Option<Displaced>, Refused> {
        assert!(self.place(id).is_none(), "query {id} is offered twice");
        // Whoever came before and may start does so first.
        self.start_all_that_may(now);
        let decision = self.decide(&share, deadline, now);
        let Ok(decision) = decision.inspect_err(|_| self.flow_of(&share.flow).counters.refused += 1) else {
            return decision.map(|_| None);
        };
        let mut displaced = None;
        if let Decision::Displace { at, why } = decision {
            displaced = self.leave_queue(at).map(|gone| {
                self.account.leaves(&gone.share);
                self.flow_of(&gone.share.flow).counters.displaced += 1;
                Displaced { id: gone.id, why }
            });
        }
        self.account.arrives(&share);
        let query = Queued { id, share, offered: now, deadline };
        if decision == Decision::Start {
            self.start(query, now);
        } else {
            self.flow_of(&query.share.flow).queues(&query.share);
            self.queue.push(query);
            self.queued_peak = self.queued_peak.max(self.queue.len());
        }
        self.check();
        Ok(displaced)
    }

    /// The next query that runs from now on; it holds a permit until [`Self::finish`]. None if none may start.
    pub fn start_next(&mut self, now: Duration) -> Option<QueryId> {
        self.start_all_that_may(now);
        self.started.pop_front()
    }

    /// A running query was planned: so many rows of its partitions could not be pruned.
    pub fn planned(&mut self, id: QueryId, rows: u64) {
        if let Some(running) = self.running.get_mut(&id) {
            self.account.plans(&mut running.bill, rows);
        }
    }

    /// A query cost so much more than was told before, by scanning so many rows: at once, so that a giant is billed while
    /// it runs. What comes up after its end is charged to the share.
    pub fn charge(&mut self, id: QueryId, share: &Share, cost: Cost, rows_scanned: u64) {
        match self.running.get_mut(&id) {
            Some(running) => self.account.charge(&mut running.bill, cost, rows_scanned),
            None => self.account.charge_afterwards(share, cost),
        }
    }

    /// A request was refused, and that took the node so much.
    pub fn charge_refusal(&mut self, share: &Share, cost: Cost) {
        self.account.charge_flow(share, cost);
    }

    /// A query that ran has ended, however it ended: gives its permit back. False, and nothing happens, if it does not
    /// run (any more).
    pub fn finish(&mut self, id: QueryId, now: Duration) -> bool {
        let Some(started) = self.running.get(&id).map(|running| running.started) else { return false };
        let service = now.saturating_sub(started);
        if let Some(flow) = self.stop(id) {
            self.flow_of(&flow).ends(service, now);
            self.services.add(service);
        }
        self.check();
        true
    }

    /// A query that waits, or that nobody has collected yet, is not wanted any more. False, and nothing happens, if it
    /// is not there; one that was collected is ended by [`Self::finish`].
    pub fn withdraw(&mut self, id: QueryId) -> bool {
        if let Some(at) = self.queue.position(id) {
            self.give_up(at);
        } else if self.started.contains(&id) {
            self.stop(id);
        } else {
            return false;
        }
        self.check();
        true
    }

    /// Takes out the queries that waited until their deadline, or so long that they could not end before it any more, in
    /// order of arrival. They never start; until they are taken out they hold their places. Notes as well which of those
    /// that run have become long.
    pub fn expired(&mut self, now: Duration) -> Vec<Expired> {
        for running in self.running.values_mut() {
            if now.saturating_sub(running.started) > RUNS_LONG {
                self.account.becomes_long(&mut running.bill);
            }
        }
        let mut expired = Vec::new();
        while let Some(at) = self.queue.position_of(|query| !self.is_in_time(query, now)) {
            let Some(query) = self.give_up(at) else { break };
            let left = query.deadline.saturating_sub(now);
            let why = (!left.is_zero()).then(|| {
                self.flow_of(&query.share.flow).counters.displaced += 1;
                let least = self.least_service(&query.share, query.given());
                let retry_after = self.hints.next(self.services.average(), self.running.len(), now);
                Refused::TooLate { left, least, retry_after }
            });
            expired.push(Expired { id: query.id, why });
        }
        self.check();
        expired
    }

    /// Where a query is; none if it is not here.
    pub fn place(&self, id: QueryId) -> Option<Place> {
        if self.running.contains_key(&id) {
            return Some(Place::Running);
        }
        self.queue.position(id).map(Place::Queued)
    }

    /// How many run, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        (self.running.len(), self.queue.len())
    }

    /// Mean time from start to end of the last 200 that ended. None before the first has ended.
    pub fn service_average(&self) -> Option<Duration> {
        self.services.average()
    }

    /// What happened and how it stands. Sorts the waits of every flow: for those who look, not for every query.
    pub fn counters(&self) -> AdmissionCounters {
        let flow = |(flow, state): (&Flow, &FlowState)| {
            let charged = self.account.charged(flow);
            (flow.clone(), FlowCounters { waits: state.waits.summary(), charged, ..state.counters })
        };
        AdmissionCounters {
            strategy: self.strategy.name(),
            active: self.running.len(),
            active_peak: self.active_peak,
            queued: self.queue.len(),
            queued_peak: self.queued_peak,
            flows: self.flows.iter().map(flow).collect(),
            waits: self.waits.summary(),
            service_average: self.services.average(),
        }
    }

    fn fairness_limits(&self) -> FairnessLimits {
        FairnessLimits {
            concurrent_max: self.limits.concurrent_max,
            team_concurrent_max: self.limits.team_concurrent_max,
            cores: self.limits.cores,
            is_core_idle: self.is_core_idle,
        }
    }

    /// Every start changes the account, and so perhaps who may start: the strategy is asked anew each time.
    fn start_all_that_may(&mut self, now: Duration) {
        while let Some(query) = self.pick(now).and_then(|at| self.leave_queue(at)) {
            self.start(query, now);
        }
        self.check();
    }

    fn pick(&self, now: Duration) -> Option<usize> {
        if self.running.len() >= self.limits.concurrent_max {
            return None;
        }
        // Asked of the clients first: under overload nobody may, whenever one of thousands a second arrives.
        let limits = self.fairness_limits();
        let may_any = |(flow, state): (&Flow, &FlowState)| {
            !state.queued_of.is_empty()
                && self.strategy.may_any_start(flow, &self.account, &limits)
                && state.queued_of.keys().any(|client| self.strategy.may_start(flow, *client, &self.account, &limits))
        };
        if !self.flows.iter().any(may_any) {
            return None;
        }
        // Under overload all have waited for nearly all of their time, and those that start too late to end take cores
        // from those that would. So who will end comes first, then who may.
        let first = |is_it: &dyn Fn(&Queued) -> bool| {
            self.strategy.pick(&mut self.queue.waiting(is_it), &self.account, &limits)
        };
        first(&|query| self.has_left(query, self.most_service(&query.share, query.given()), now))
            .or_else(|| first(&|query| self.is_in_time(query, now)))
    }

    /// Whether a query that waits may still end before its deadline.
    fn is_in_time(&self, query: &Queued, now: Duration) -> bool {
        self.has_left(query, self.least_service(&query.share, query.given()), now)
    }

    fn has_left(&self, query: &Queued, time: Duration, now: Duration) -> bool {
        let left = query.deadline.saturating_sub(now);
        !left.is_zero() && time <= left
    }

    fn start(&mut self, query: Queued, now: Duration) {
        let Queued { id, share, offered, .. } = query;
        let waited = now.saturating_sub(offered);
        self.waits.add(waited);
        self.flow_of(&share.flow).starts(waited);
        self.running.insert(id, Running { bill: self.account.starts(&share), started: now });
        self.active_peak = self.active_peak.max(self.running.len());
        self.started.push_back(id);
        self.is_core_idle = false;
    }

    fn stop(&mut self, id: QueryId) -> Option<Flow> {
        let Running { bill, .. } = self.running.remove(&id)?;
        self.started.retain(|started| *started != id);
        let flow = bill.share().flow.clone();
        self.account.ends(bill);
        self.flow_of(&flow).counters.active -= 1;
        Some(flow)
    }

    fn give_up(&mut self, at: usize) -> Option<Queued> {
        let query = self.leave_queue(at)?;
        self.account.leaves(&query.share);
        Some(query)
    }

    fn leave_queue(&mut self, at: usize) -> Option<Queued> {
        let query = self.queue.remove(at)?;
        self.flow_of(&query.share.flow).leaves_queue(query.share.client);
        Some(query)
    }

    /// Asks something about who has how many places, with the one that arrives among them, whose flow has `own`.
    fn with_places<R>(&self, arriving: &Share, own: usize, ask: impl FnOnce(&Places<'_>) -> R) -> R {
        let others = self.flows.iter().filter(|(flow, state)| **flow != arriving.flow && state.counters.queued > 0);
        let others = others.map(|(flow, state)| (flow, state.weight.max(1), state.counters.queued));
        let flows: Vec<_> = [(&arriving.flow, arriving.weight.max(1), own)].into_iter().chain(others).collect();
        ask(&Places { capacity: self.limits.queue_capacity, flows: &flows })
    }

    fn flow_of(&mut self, flow: &Flow) -> &mut FlowState {
        if !self.flows.contains_key(flow) {
            self.flows.insert(flow.clone(), FlowState::default());
        }
        self.flows.get_mut(flow).expect("it was put there")
    }

    fn check(&self) {
        assert!(self.running.len() <= self.limits.concurrent_max, "{} queries run", self.running.len());
        assert!(self.queue.len() <= self.limits.queue_capacity, "{} queries wait", self.queue.len());
        assert_eq!(self.running.len(), self.account.total(), "running queries and their account");
    }
}

#[cfg(test)]
mod tests;
