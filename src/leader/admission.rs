//! The bounded queue in front of everything.
//!
//! Decides which query starts, which waits, and which is refused before any work is spent on it. Leaves who may start to
//! the [`Fairness`] strategy, and running, telling and cancelling to the caller. The queue is read in arrival order and
//! the first that may start starts, so a flow at its limit never holds up the others behind it.
//!
//! A query starts, and takes its permit, inside [`Admission::offer`] or [`Admission::start_next`]; the latter also hands
//! out what the former started. So a full queue never refuses what could run at once, and the queue never needs a place
//! more than it has. A caller that drives it: at an offer, a finish, a withdrawal and every second or so, call
//! [`Admission::expired`], then [`Admission::start_next`] until it has nothing more.
//!
//! Invariants: running ≤ `concurrent_max`; queued ≤ `queue_capacity`; a query is at one place only; after all are gone
//! every count is back at zero.

mod counts;
mod recent;
mod refused;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::fairness::{Account, Fairness, FairnessLimits, Flow};
use crate::delivery::QueryId;

pub use counts::{AdmissionCounters, FlowCounters, Waits};
use recent::Recent;
pub use refused::Refused;
use refused::retry_after;

/// Limits of admission; each at least 1, except that a queue of 0 refuses whatever cannot start at once.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// `queue_capacity`: queries that wait.
    pub queue_capacity: usize,
    /// `concurrent_max`: queries that run.
    pub concurrent_max: usize,
    /// `team_concurrent_max`: queries of one flow that run, as far as the strategy holds to it.
    pub team_concurrent_max: usize,
}

/// Where a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Waiting, with this many before it.
    Queued(usize),
    /// It has a permit.
    Running,
}

struct Waiting {
    id: QueryId,
    flow: Flow,
    offered: Duration,
    deadline: Duration,
}

struct Running {
    flow: Flow,
    started: Duration,
}

/// The queue and the permits.
pub struct Admission {
    limits: AdmissionLimits,
    strategy: Box<dyn Fairness>,
    queue: VecDeque<Waiting>,
    running: BTreeMap<QueryId, Running>,
    account: Account,
    /// Started, but not yet handed out by `start_next`. All of them are running.
    started: VecDeque<QueryId>,
    flows: BTreeMap<Flow, FlowCounters>,
    active_peak: usize,
    queued_peak: usize,
    waits: Recent,
    services: Recent,
}

impl Admission {
    /// An empty queue and all permits free.
    pub fn new(limits: AdmissionLimits, strategy: Box<dyn Fairness>) -> Admission {
        Admission {
            limits,
            strategy,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            account: Account::default(),
            started: VecDeque::new(),
            flows: BTreeMap::new(),
            active_peak: 0,
            queued_peak: 0,
            waits: Recent::default(),
            services: Recent::default(),
        }
    }

    /// A query arrives. It either starts at once, to be collected by [`Self::start_next`], or waits. The deadline is a
    /// point in time on the clock of `now`. The flow is one of the configured teams or `none`: the caller has checked
    /// that, since each flow is counted for ever. The id must be new.
    ///
    /// Errors: as [`Refused`] says; nothing is kept of the query then.
    pub fn offer(&mut self, id: QueryId, flow: Flow, deadline: Duration, now: Duration) -> Result<(), Refused> {
        assert!(self.place(id).is_none(), "query {id} is offered twice");
        // Whoever came before and may start does so first.
        self.start_all_that_may(now);
        let decision = self.decide(&flow, deadline, now);
        let counters = self.flows.entry(flow.clone()).or_default();
        if decision.is_err() {
            counters.refused += 1;
        }
        let waiting = Waiting { id, flow, offered: now, deadline };
        match decision? {
            Decision::Start => self.start(waiting, now),
            Decision::Wait => {
                counters.queued += 1;
                counters.queued_peak = counters.queued_peak.max(counters.queued);
                self.queue.push_back(waiting);
                self.queued_peak = self.queued_peak.max(self.queue.len());
            }
        }
        self.check();
        Ok(())
    }

    /// The next query that runs from now on; it holds a permit until [`Self::finish`]. None if none may start.
    pub fn start_next(&mut self, now: Duration) -> Option<QueryId> {
        self.start_all_that_may(now);
        self.started.pop_front()
    }

    /// A query that ran has ended, however it ended: gives its permit back. False, and nothing happens, if it does not
    /// run (any more).
    pub fn finish(&mut self, id: QueryId, now: Duration) -> bool {
        let Some(ended) = self.stop(id) else { return false };
        self.services.add(now.saturating_sub(ended.started));
        self.check();
        true
    }

    /// A query that waits, or that nobody has collected yet, is not wanted any more. False, and nothing happens, if it
    /// is not there; one that was collected is ended by [`Self::finish`].
    pub fn withdraw(&mut self, id: QueryId) -> bool {
        if let Some(at) = self.queue.iter().position(|waiting| waiting.id == id) {
            self.leave_queue(at);
        } else if let Some(at) = self.started.iter().position(|started| *started == id) {
            self.started.remove(at);
            self.stop(id);
        } else {
            return false;
        }
        self.check();
        true
    }

    /// Takes out the queries that waited until their deadline, in order of arrival. They never start; until they are
    /// taken out they hold their places.
    pub fn expired(&mut self, now: Duration) -> Vec<QueryId> {
        let mut expired = Vec::new();
        while let Some(at) = self.queue.iter().position(|waiting| waiting.deadline <= now) {
            expired.extend(self.leave_queue(at).map(|waiting| waiting.id));
        }
        self.check();
        expired
    }

    /// Where a query is; none if it is not here.
    pub fn place(&self, id: QueryId) -> Option<Place> {
        if self.running.contains_key(&id) {
            return Some(Place::Running);
        }
        self.queue.iter().position(|waiting| waiting.id == id).map(Place::Queued)
    }

    /// What happened and how it stands.
    pub fn counters(&self) -> AdmissionCounters {
        AdmissionCounters {
            active: self.running.len(),
            active_peak: self.active_peak,
            queued: self.queue.len(),
            queued_peak: self.queued_peak,
            flows: self.flows.clone(),
            waits: Waits {
                average: self.waits.average(),
                p50: self.waits.percentile(50),
                p99: self.waits.percentile(99),
            },
            service_average: self.services.average(),
        }
    }

    fn decide(&self, flow: &Flow, deadline: Duration, now: Duration) -> Result<Decision, Refused> {
        let left = deadline.saturating_sub(now);
        if left.is_zero() {
            return Err(Refused::DeadlineCannotBeMet { wait: Duration::ZERO, left });
        }
        if self.may_start(flow) {
            return Ok(Decision::Start);
        }
        if self.queue.len() >= self.limits.queue_capacity {
            let (queued, active) = (self.queue.len(), self.running.len());
            return Err(Refused::QueueFull {
                queued,
                active,
                retry_after: retry_after(self.services.average(), active),
            });
        }
        match self.expected_wait(flow) {
            Some(wait) if wait > left => Err(Refused::DeadlineCannotBeMet { wait, left }),
            _ => Ok(Decision::Wait),
        }
    }

    /// How long a query that arrives now would wait: so many must end first, and on average one of n ends every n-th
    /// part of a service time. None as long as no query has ended. Of two possible answers the shorter, because to
    /// refuse what could have run is worse than to let one wait in vain.
    fn expected_wait(&self, flow: &Flow) -> Option<Duration> {
        let service = self.services.average()?;
        let wait =
            |ahead: usize, active: usize| (active > 0).then(|| service.mul_f64((ahead + 1) as f64 / active as f64));
        let for_any = wait(self.queue.len(), self.account.total());
        let own_ahead = self.flows.get(flow).map_or(0, |counters| counters.queued);
        let for_own = wait(own_ahead, self.account.of(flow));
        if self.account.total() < self.limits.concurrent_max {
            return for_own.or(for_any);
        }
        for_own.into_iter().chain(for_any).min()
    }

    fn may_start(&self, flow: &Flow) -> bool {
        let limits = FairnessLimits {
            concurrent_max: self.limits.concurrent_max,
            team_concurrent_max: self.limits.team_concurrent_max,
        };
        self.strategy.may_start(flow, &self.account, &limits)
    }

    /// Every start changes the account, and so perhaps who may start: each round begins at the front again.
    fn start_all_that_may(&mut self, now: Duration) {
        let next =
            |me: &Admission| me.queue.iter().position(|waiting| waiting.deadline > now && me.may_start(&waiting.flow));
        while let Some(waiting) = next(self).and_then(|at| self.leave_queue(at)) {
            self.start(waiting, now);
        }
        self.check();
    }

    fn start(&mut self, waiting: Waiting, now: Duration) {
        let Waiting { id, flow, offered, .. } = waiting;
        self.waits.add(now.saturating_sub(offered));
        self.account.add(&flow);
        let counters = self.flows.entry(flow.clone()).or_default();
        counters.admitted += 1;
        counters.active += 1;
        counters.active_peak = counters.active_peak.max(counters.active);
        self.running.insert(id, Running { flow, started: now });
        self.active_peak = self.active_peak.max(self.running.len());
        self.started.push_back(id);
    }

    fn stop(&mut self, id: QueryId) -> Option<Running> {
        let ended = self.running.remove(&id)?;
        self.started.retain(|started| *started != id);
        self.account.remove(&ended.flow);
        self.flow_mut(&ended.flow).active -= 1;
        Some(ended)
    }

    fn leave_queue(&mut self, at: usize) -> Option<Waiting> {
        let waiting = self.queue.remove(at)?;
        self.flow_mut(&waiting.flow).queued -= 1;
        Some(waiting)
    }

    fn flow_mut(&mut self, flow: &Flow) -> &mut FlowCounters {
        self.flows.get_mut(flow).expect("a flow is counted from its first offer on")
    }

    fn check(&self) {
        assert!(self.running.len() <= self.limits.concurrent_max, "{} queries run", self.running.len());
        assert!(self.queue.len() <= self.limits.queue_capacity, "{} queries wait", self.queue.len());
        assert_eq!(self.running.len(), self.account.total(), "running queries and their account");
    }
}

enum Decision {
    Start,
    Wait,
}

#[cfg(test)]
mod tests;
