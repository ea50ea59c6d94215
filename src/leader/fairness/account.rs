//! What every flow and every client got: one account for all strategies, kept when the strategy is switched.
//!
//! Charged is cost, never a count of requests. A query is charged an estimate when it starts, more as soon as it is
//! measured to cost more, and gets back at its end what was charged too much, but not beyond where its flow stood when it
//! started: an estimate never turns into credit. Virtual times are those of [`Level`]: what was charged divided by the
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

/// What runs now, and what it cost so far.
#[derive(Default)]
pub struct Account {
    flows: BTreeMap<Flow, Standing>,
    shares: Level<Flow, Level<u64>>,
    running: usize,
}

/// How it stands with one flow.
#[derive(Debug, Clone, Copy)]
struct Standing {
    running: usize,
    weight: u32,
    charged: Duration,
    /// Averages over its queries; none before the first has ended.
    per_query: Option<f64>,
    per_row: Option<f64>,
}

/// What one query was charged, from its start to its end.
#[derive(Debug)]
pub struct Bill {
    share: Share,
    charged: Duration,
    measured: Duration,
    cpu: Duration,
    rows_scanned: u64,
    /// Where its flow and its client could have been at its start had they idled.
    flow_floor: VirtualTime,
    client_floor: VirtualTime,
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
        let none = Standing { running: 0, weight, charged: Duration::ZERO, per_query: None, per_row: None };
        self.flows.entry(share.flow.clone()).or_insert(none).weight = weight;
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
        self.running += 1;
        let estimate = standing.per_query.map_or(QUERY_UNKNOWN, nanos);
        let clients = self.shares.get_mut(&share.flow).expect(WAITS);
        clients.begin(&share.client);
        let client_floor = clients.now();
        self.shares.begin(&share.flow);
        let mut bill = Bill {
            share: share.clone(),
            charged: Duration::ZERO,
            measured: Duration::ZERO,
            cpu: Duration::ZERO,
            rows_scanned: 0,
            flow_floor: self.shares.now(),
            client_floor,
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
    }

    /// The query has ended: what was measured is charged in the end, and learnt from.
    pub(in crate::leader) fn ends(&mut self, mut bill: Bill) {
        let measured = bill.measured;
        self.set_charged(&mut bill, measured);
        let Bill { share, cpu, rows_scanned, .. } = bill;
        let standing = self.flows.get_mut(&share.flow).expect(WAITS);
        standing.running -= 1;
        self.running -= 1;
        learn(&mut standing.per_query, measured.as_nanos() as f64);
        if rows_scanned > 0 {
            learn(&mut standing.per_row, cpu.as_nanos() as f64 / rows_scanned as f64);
        }
        self.leaves(&share);
    }

    /// Cost that comes up after the query's end: its result is held and sent.
    pub(in crate::leader) fn charge_afterwards(&mut self, share: &Share, cost: Cost) {
        let cost = cost.core_time();
        if let Some(standing) = self.flows.get_mut(&share.flow) {
            standing.charged += cost;
        }
        self.shares.charge(&share.flow, cost, share.weight.max(1));
        if let Some(clients) = self.shares.get_mut(&share.flow) {
            clients.charge(&share.client, cost, 1);
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
            clients.refund(&share.client, less, bill.client_floor);
            self.shares.refund(&share.flow, less, bill.flow_floor);
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
mod tests {
    use super::super::tests::share;
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn start(account: &mut Account, share: &Share) -> Bill {
        account.arrives(share);
        account.starts(share)
    }

    /// How far `a` is ahead of the flow `other`, which keeps the account busy.
    fn ahead(account: &Account, a: &Share, other: &Share) -> Duration {
        account.virtual_times(a).0.ahead_of(account.virtual_times(other).0)
    }

    #[test]
    fn charged_is_what_was_measured_in_the_end() {
        for (increments, rows) in [(vec![], 0), (vec![5], 100), (vec![1, 2, 3], 6000), (vec![0, 900], 9)] {
            let mut account = Account::default();
            let green = share("green", 1);
            let mut bill = start(&mut account, &green);
            account.plans(&mut bill, 1_000_000);
            for more in &increments {
                account.charge(&mut bill, Cost::cpu(ms(*more)), rows);
            }
            account.ends(bill);
            assert_eq!(account.charged(&green.flow), ms(increments.iter().sum()), "{increments:?}");
            assert_eq!((account.total(), account.of(&green.flow), account.clients(&green.flow)), (0, 0, 0));
        }
    }

    #[test]
    fn a_giant_is_billed_when_it_is_planned_and_while_it_runs() {
        let mut account = Account::default();
        let (green, pink) = (share("green", 1), share("pink", 2));
        let keeps_busy = start(&mut account, &pink);
        // The flow learns that a row costs 1 µs.
        let mut first = start(&mut account, &green);
        account.charge(&mut first, Cost::cpu(ms(1)), 1000);
        account.ends(first);
        let before = account.charged(&green.flow);
        let mut giant = start(&mut account, &green);
        account.plans(&mut giant, 5_000_000);
        assert_eq!(account.charged(&green.flow) - before, ms(5000), "by its rows, before it did anything");
        assert!(ahead(&account, &green, &pink) >= ms(4900));
        account.charge(&mut giant, Cost::cpu(ms(3000)), 3_000_000);
        assert_eq!(account.charged(&green.flow) - before, ms(5000), "as estimated so far");
        account.charge(&mut giant, Cost::cpu(ms(4000)), 2_000_000);
        assert_eq!(account.charged(&green.flow) - before, ms(7000), "more than estimated");
        account.ends(giant);
        account.ends(keeps_busy);
    }

    #[test]
    fn an_estimate_that_was_too_high_never_becomes_credit() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut account = Account::default();
            let (green, pink) = (share("green", 1), share("pink", 2));
            account.arrives(&pink);
            let mut sum = Duration::ZERO;
            for _ in 0..30 {
                // Pink goes on in the meantime, and the account's time with it.
                let mut other = start(&mut account, &pink);
                account.charge(&mut other, Cost::cpu(ms(random.u64(0..20))), random.u64(0..1000));
                account.ends(other);
                account.arrives(&green);
                let at_start = account.virtual_times(&green).0;
                let mut bill = account.starts(&green);
                account.plans(&mut bill, random.u64(0..1_000_000));
                for _ in 0..random.u8(0..3) {
                    let cost = ms(random.u64(0..30));
                    sum += cost;
                    account.charge(&mut bill, Cost::cpu(cost), random.u64(0..10_000));
                }
                account.ends(bill);
                assert!(account.virtual_times(&green).0 >= at_start, "green gained by ending, seed {seed}");
                assert_eq!(account.charged(&green.flow), sum, "seed {seed}");
            }
            account.leaves(&pink);
        }
    }

    #[test]
    fn what_comes_after_the_end_is_a_debt_while_others_are_busy() {
        let mut account = Account::default();
        let (green, pink) = (share("green", 1), share("pink", 2));
        let held = Cost { byte_seconds_held: (512 << 20) as f64, ..Cost::default() };
        let busy = start(&mut account, &pink);
        let bill = start(&mut account, &green);
        account.ends(bill);
        account.charge_afterwards(&green, held);
        assert!(ahead(&account, &green, &pink) > ms(900));
        assert_eq!(account.charged(&green.flow), ms(1000));
        account.ends(busy);
        assert_eq!(ahead(&account, &green, &pink), Duration::ZERO, "all start level when nobody is left");
    }

    #[test]
    fn clients_that_come_and_go_are_not_kept() {
        let mut account = Account::default();
        let lasting = start(&mut account, &share("green", 0));
        for client in 1..20_000 {
            let share = share("green", client);
            let mut bill = start(&mut account, &share);
            account.charge(&mut bill, Cost::cpu(ms(client)), 1);
            account.ends(bill);
            let kept = account.clients(&share.flow);
            assert!(kept <= crate::engine::turns::level::DEBTORS_MAX + 1, "{kept} clients");
        }
        account.ends(lasting);
    }
}
