//! What every flow and every client got: one account for all strategies, kept when the strategy is switched.
//!
//! Charged is cost, never a count of requests. A query is charged an estimate when it starts, more as soon as it is
//! measured to cost more, and gets back at its end what was charged too much. Only its own charges are given back, so an
//! estimate never turns into credit. Virtual times are those of [`Level`]: what was charged divided by the
//! weight, without credit for idling.
//!
//! Bounded: flows are those of the configuration, and of each the clients with queries and some with debts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cost::Cost;
use crate::engine::share::{Flow, Share};
use crate::engine::turns::level::{Level, VirtualTime};

/// What the first query of a flow is taken to cost.
const QUERY_UNKNOWN: Duration = Duration::from_millis(1);
/// How much of an average the newest value makes up.
const NEWEST: f64 = 0.125;
/// A query that cost more is a *long* one: several times what a scan of a million rows takes. Less, and queries of usual
/// length all run at the same time under load and end together, late. More, and what is small waits longer for a flow's
/// first giants.
const LONG: Duration = Duration::from_millis(250);

/// What runs now, and what it cost so far.
#[derive(Default)]
pub struct Account {
    flows: BTreeMap<Flow, Standing>,
    shares: Level<Flow, Level<u64>>,
    running: usize,
}

/// How it stands with one flow.
#[derive(Debug, Default)]
struct Standing {
    running: usize,
    /// Those of them that are not long, and by client; none that has none.
    brief: usize,
    brief_of: BTreeMap<u64, usize>,
    weight: u32,
    charged: Duration,
    /// Averages over its queries; none before the first has ended.
    per_query: Option<f64>,
    per_row: Option<f64>,
}

impl Standing {
    fn one_brief_less(&mut self, client: u64) {
        self.brief -= 1;
        if let Some(count) = self.brief_of.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.brief_of.remove(&client);
            }
        }
    }
}

/// What one query was charged, from its start to its end.
#[derive(Debug)]
pub struct Bill {
    share: Share,
    charged: Duration,
    measured: Duration,
    cpu: Duration,
    rows_scanned: u64,
    is_long: bool,
}

impl Bill {
    /// Whom it is for.
    pub fn share(&self) -> &Share {
        &self.share
    }
}

const WAITS: &str = "what starts, leaves or ends has arrived";

impl Account {
    /// Running queries of all flows.
    pub fn total(&self) -> usize {
        self.running
    }

    /// Running queries of one flow.
    pub fn of(&self, flow: &Flow) -> usize {
        self.flows.get(flow).map_or(0, |standing| standing.running)
    }

    /// Running queries of one flow that are not long, as far as is known.
    pub fn brief(&self, flow: &Flow) -> usize {
        self.flows.get(flow).map_or(0, |standing| standing.brief)
    }

    /// Those of them that are of this client.
    pub fn brief_of_client(&self, flow: &Flow, client: u64) -> usize {
        self.flows.get(flow).and_then(|standing| standing.brief_of.get(&client)).copied().unwrap_or(0)
    }

    /// Its weight relative to other flows, at least 1.
    pub fn weight(&self, flow: &Flow) -> u32 {
        self.flows.get(flow).map_or(1, |standing| standing.weight)
    }

    /// All that the flow was ever charged, in time of a core.
    pub fn charged(&self, flow: &Flow) -> Duration {
        self.flows.get(flow).map_or(Duration::ZERO, |standing| standing.charged)
    }

    /// How far the flow is, and within it the client; whoever is least far comes next.
    pub fn virtual_times(&self, share: &Share) -> (VirtualTime, VirtualTime) {
        let clients = self.shares.get(&share.flow);
        (self.shares.time(&share.flow), clients.map_or_else(VirtualTime::default, |level| level.time(&share.client)))
    }

    /// Clients of a flow that are remembered.
    pub fn clients(&self, flow: &Flow) -> usize {
        self.shares.get(flow).map_or(0, Level::remembered)
    }

    /// A query begins to wait. Its flow's newest weight counts.
    pub(in crate::leader) fn arrives(&mut self, share: &Share) {
        let weight = share.weight.max(1);
        let standing = self.flows.entry(share.flow.clone()).or_default();
        standing.weight = weight;
        self.shares.join(&share.flow, weight).join(&share.client, 1);
    }

    /// A query that waited does not want to start any more.
    pub(in crate::leader) fn leaves(&mut self, share: &Share) {
        self.shares.get_mut(&share.flow).expect(WAITS).leave(&share.client);
        self.shares.leave(&share.flow);
    }

    /// A query that waited starts, and is charged what the flow's queries usually cost.
    pub(in crate::leader) fn starts(&mut self, share: &Share) -> Bill {
        let standing = self.flows.get_mut(&share.flow).expect(WAITS);
        standing.running += 1;
        standing.brief += 1;
        *standing.brief_of.entry(share.client).or_default() += 1;
        self.running += 1;
        let estimate = standing.per_query.map_or(QUERY_UNKNOWN, nanos);
        let clients = self.shares.get_mut(&share.flow).expect(WAITS);
        clients.begin(&share.client);
        self.shares.begin(&share.flow);
        let mut bill = Bill {
            share: share.clone(),
            charged: Duration::ZERO,
            measured: Duration::ZERO,
            cpu: Duration::ZERO,
            rows_scanned: 0,
            is_long: false,
        };
        self.set_charged(&mut bill, estimate);
        bill
    }

    /// The query was planned: so many rows of partitions could not be pruned. Replaces the first estimate by a better one
    /// if the flow's cost a row is known.
    pub(in crate::leader) fn plans(&mut self, bill: &mut Bill, rows: u64) {
        let per_row = self.flows.get(&bill.share.flow).and_then(|standing| standing.per_row);
        if let Some(per_row) = per_row {
            let estimate = nanos(per_row * rows as f64).max(bill.measured);
            self.set_charged(bill, estimate);
        }
    }

    /// The running query cost so much more, by scanning so many rows.
    pub(in crate::leader) fn charge(&mut self, bill: &mut Bill, cost: Cost, rows_scanned: u64) {
        bill.measured = bill.measured.saturating_add(cost.core_time());
        bill.cpu = bill.cpu.saturating_add(cost.cpu);
        bill.rows_scanned += rows_scanned;
        if bill.measured > bill.charged {
            self.set_charged(bill, bill.measured);
        }
        if bill.measured > LONG {
            self.becomes_long(bill);
        }
    }

    /// The running query is a long one from now on, whatever was measured: an operator that does not pause tells nothing.
    pub(in crate::leader) fn becomes_long(&mut self, bill: &mut Bill) {
        if !std::mem::replace(&mut bill.is_long, true) {
            self.flows.get_mut(&bill.share.flow).expect(WAITS).one_brief_less(bill.share.client);
        }
    }

    /// The query has ended: what was measured is charged in the end, and learnt from.
    pub(in crate::leader) fn ends(&mut self, mut bill: Bill) {
        let measured = bill.measured;
        self.set_charged(&mut bill, measured);
        let Bill { share, cpu, rows_scanned, is_long, .. } = bill;
        let standing = self.flows.get_mut(&share.flow).expect(WAITS);
        standing.running -= 1;
        if !is_long {
            standing.one_brief_less(share.client);
        }
        self.running -= 1;
        learn(&mut standing.per_query, measured.as_nanos() as f64);
        if rows_scanned > 0 {
            learn(&mut standing.per_row, cpu.as_nanos() as f64 / rows_scanned as f64);
        }
        self.leaves(&share);
    }

    /// Cost of a flow that is no query's. Nothing is kept of its client.
    pub(in crate::leader) fn charge_flow(&mut self, share: &Share, cost: Cost) {
        let cost = cost.core_time();
        if let Some(standing) = self.flows.get_mut(&share.flow) {
            standing.charged += cost;
        }
        self.shares.charge(&share.flow, cost, share.weight.max(1));
    }

    /// Cost that comes up after the query's end: its result is held and sent.
    pub(in crate::leader) fn charge_afterwards(&mut self, share: &Share, cost: Cost) {
        self.charge_flow(share, cost);
        if let Some(clients) = self.shares.get_mut(&share.flow) {
            clients.charge(&share.client, cost.core_time(), 1);
        }
    }

    fn set_charged(&mut self, bill: &mut Bill, charged: Duration) {
        let share = &bill.share;
        let standing = self.flows.get_mut(&share.flow).expect(WAITS);
        let clients = self.shares.get_mut(&share.flow).expect(WAITS);
        if charged >= bill.charged {
            let more = charged - bill.charged;
            standing.charged += more;
            clients.charge(&share.client, more, 1);
            self.shares.charge(&share.flow, more, standing.weight);
        } else {
            let less = bill.charged - charged;
            standing.charged = standing.charged.saturating_sub(less);
            clients.refund(&share.client, less);
            self.shares.refund(&share.flow, less);
        }
        bill.charged = charged;
    }
}

fn nanos(nanos: f64) -> Duration {
    Duration::from_nanos(nanos as u64)
}

fn learn(average: &mut Option<f64>, newest: f64) {
    *average = Some(average.map_or(newest, |average| average + NEWEST * (newest - average)));
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
