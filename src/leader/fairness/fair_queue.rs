//! `fair_queue`: hierarchical weighted fair queueing by charged cost. The flow that is least far in virtual time comes
//! first, in it the client that is, and of that client's queries the one whose time runs out first.
//!
//! **Permits.** What is shared is cores, and they are shared by turns, zone by zone; a permit is only the right to take
//! part, and costs memory. Queries of one flow that run together share what the flow gets: each more makes all of them
//! slower, holds its rows for longer, and ends no earlier than if it had waited. So while every core is busy a flow runs
//! [`PER_CORE`] queries a core and no more. As soon as a core has nothing to do, one more query starts, and so on until
//! none is idle: a flow whose queries wait for something else gets as many as it takes. That is work-conserving: queries
//! wait only while so many run that no core has nothing to do.
//!
//! A client of the flow that has none running may start one beside those, up to twice as many: turns go to the client that was
//! served least, so it does get something at once, and what one client has running must not be what another's small query
//! waits for. Who takes a new name for each query is a new client each time: of such as run twice as many then.
//!
//! A query that turns out to be long does not count among those any more: the next one starts beside it, and since turns
//! go to clients and queries that were served least, what is small ends soon among any number of giants, be they of its
//! own team or client. So many giants may run as the limits allow.
//!
//! With several nodes the cores are those of the largest, because a query is on all nodes at the same time, and one more
//! query starts while the nodes together have less to do than cores. That is known from their replies, so it is less
//! exact; what it prevents is that one flow's queries fill every link, in which those of others would have to queue.
//!
//! Up to what all may run, a permit is kept for whoever comes: a flow may have, for every permit that is free,
//! `team_concurrent_max` / (`concurrent_max` − `team_concurrent_max`) of its own. With the usual limits one flow alone
//! stops at 60, two at 37 each, three at 27. The next flow finds a permit free and does not wait for somebody else's
//! giant to end; only when five took all they could, one after the other, may a sixth have to wait for the next end of
//! any query.
//!
//! **Deadlines.** A query is taken to be due [`PATIENCE`] after its arrival at the latest. So it can be overtaken by
//! queries of its client that are due earlier, but only by those that came within that time after it: nobody starves.
//! (Admission puts those first that are likely to end before their deadlines; see there.)
//!
//! **The queue.** When it is full, a flow below its share of the places takes one of the flow that is furthest above its
//! own; it is the newest query of that flow's client with the most that goes. In the same way a client takes one of another of
//! its flow that has at least two more. No flow can fill the queue alone, and no client those of its flow; who keeps
//! within his share is never displaced.

use std::time::Duration;

use super::{Account, Fairness, FairnessLimits, Flow, Places, Share, TurnOrder, Waiting};

/// How long after its arrival a query is due at the latest, however late its deadline.
const PATIENCE: Duration = Duration::from_secs(5);

/// Queries of one flow that run at the same time for every core, while all cores are busy. One would leave a core idle
/// whenever a query is between two pieces of work: it waits for a thread, its last rows are stored, its plan is made.
/// More: a flow's own queries wait less to begin and longer to end, and their rows take more memory.
const PER_CORE: usize = 2;

/// So many times as many run if that is what it takes for each client of the flow to have one. More: a team of many clients
/// has all of them running, each slowly. Fewer: a client's small query waits for the scans of others of its team.
const NEWCOMERS: usize = 2;

pub(super) struct FairQueue;

impl Fairness for FairQueue {
    fn name(&self) -> &'static str {
        "fair_queue"
    }

    fn may_start(&self, flow: &Flow, client: u64, account: &Account, limits: &FairnessLimits) -> bool {
        let is_use_of_many = limits.is_core_idle || account.brief(flow) < PER_CORE * limits.cores;
        let is_of_use = is_use_of_many || account.brief_of_client(flow, client) == 0;
        is_of_use && self.may_any_start(flow, account, limits)
    }

    fn may_any_start(&self, flow: &Flow, account: &Account, limits: &FairnessLimits) -> bool {
        let free = limits.concurrent_max.saturating_sub(account.total());
        let left_to_others = limits.concurrent_max.saturating_sub(limits.team_concurrent_max);
        let is_of_use = limits.is_core_idle || account.brief(flow) < NEWCOMERS * PER_CORE * limits.cores;
        is_of_use && free > 0 && account.of(flow) * left_to_others < free * limits.team_concurrent_max
    }

    fn pick(
        &self,
        waiting: &mut dyn Iterator<Item = Waiting<'_>>,
        account: &Account,
        limits: &FairnessLimits,
    ) -> Option<usize> {
        // Most neighbours in the queue are of the same client: whether it may start is asked once for a run of them.
        let mut run: Option<(&Flow, u64, bool)> = None;
        let mut may = |flow, client| match run {
            Some((of, of_client, may)) if of_client == client && of == flow => may,
            _ => run.insert((flow, client, self.may_start(flow, client, account, limits))).2,
        };
        let first = waiting.filter(|waiting| may(&waiting.share.flow, waiting.share.client)).min_by_key(|waiting| {
            let (flow_time, client_time) = account.virtual_times(waiting.share);
            let due = waiting.deadline.min(waiting.offered.saturating_add(PATIENCE));
            (flow_time, &waiting.share.flow, client_time, waiting.share.client, due, waiting.position)
        });
        first.map(|waiting| waiting.position)
    }

    fn displaces(&self, arriving: &Share, places: &Places<'_>) -> Option<Flow> {
        let weights: u64 = places.flows.iter().map(|(_, weight, _)| u64::from(*weight)).sum();
        // A flow's places against its share of them, without rounding.
        let is_above = |count: usize, weight: u32| count as u64 * weights > places.capacity as u64 * u64::from(weight);
        let own = places.flows.iter().find(|(flow, _, _)| **flow == arriving.flow);
        let (_, weight, count) = own?;
        if is_above(*count + 1, *weight) {
            return None;
        }
        let above = places.flows.iter().filter(|(_, weight, count)| is_above(*count, *weight));
        let most = above.max_by(|a, b| (a.2 as u64 * u64::from(b.1)).cmp(&(b.2 as u64 * u64::from(a.1))));
        most.map(|(flow, _, _)| (*flow).clone())
    }

    fn displaces_client(&self, own: usize, most: usize) -> bool {
        own + 1 < most
    }

    /// A client's own queries, and as many of each other client as start in the meantime.
    fn ahead_in_flow(&self, own: usize, others: &mut dyn Iterator<Item = usize>) -> usize {
        own + others.map(|theirs| theirs.min(own + 1)).sum::<usize>()
    }

    /// What comes first in its flow, and as many of each other flow as that one is entitled to start in the meantime.
    fn ahead(&self, arriving: &Share, places: &Places<'_>) -> usize {
        let own = places.flows.iter().find(|(flow, _, _)| **flow == arriving.flow).map_or(0, |(_, _, count)| *count);
        let others = places.flows.iter().filter(|(flow, _, _)| **flow != arriving.flow);
        let weight = arriving.weight.max(1) as usize;
        own + others
            .map(|(_, theirs, count)| (*count).min(((own + 1) * *theirs as usize).div_ceil(weight)))
            .sum::<usize>()
    }

    fn turns(&self) -> TurnOrder {
        TurnOrder::ByShare
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{busy, check_starts, limits, running, share, team};
    use super::*;
    use crate::leader::fairness::Cost;

    #[test]
    fn alone_a_flow_stops_at_its_limit_and_a_newcomer_always_finds_a_permit() {
        check_starts(
            &FairQueue,
            limits(100, 60),
            &[(59, 0, true), (60, 0, false), (37, 37, true), (38, 37, false), (0, 60, true), (0, 99, true)],
        );
        check_starts(&FairQueue, limits(5, 5), &[(4, 0, true), (5, 0, false), (4, 1, false)]);
        check_starts(&FairQueue, limits(1, 1), &[(0, 0, true), (1, 0, false), (0, 1, false)]);
        for flows in 1..=4 {
            let mut account = Account::default();
            let names: Vec<String> = (0..flows).map(|n| n.to_string()).collect();
            while let Some(name) =
                names.iter().find(|name| FairQueue.may_start(&team(name), 1, &account, &limits(100, 60)))
            {
                account.arrives(&share(name, 1));
                account.starts(&share(name, 1));
            }
            let newcomer = FairQueue.may_start(&team("new"), 1, &account, &limits(100, 60));
            assert!(newcomer, "{flows} flows took {} of 100", account.total());
        }
    }

    #[test]
    fn while_every_core_is_busy_more_queries_are_of_no_use() {
        let cases = [(0, 60, true), (3, 0, true), (3, 30, true), (4, 0, false), (4, 30, false)];
        check_starts(&FairQueue, busy(limits(100, 60)), &cases);
        check_starts(&FairQueue, busy(limits(3, 3)), &[(2, 0, true), (3, 0, false), (2, 1, false)]);
    }

    #[test]
    fn a_client_that_has_none_running_does_not_wait_for_others_of_its_team() {
        let limits = busy(limits(100, 60));
        // Of client 1 run so many; then one of each other client starts, as long as one may.
        for (of_first, newcomers) in [(4, 4), (5, 3), (7, 1), (8, 0)] {
            let mut account = running(&[("a", of_first)]);
            let mut started = 0;
            while FairQueue.may_start(&team("a"), 100 + started, &account, &limits) {
                let share = share("a", 100 + started);
                account.arrives(&share);
                account.starts(&share);
                started += 1;
                let again = FairQueue.may_start(&share.flow, share.client, &account, &limits);
                assert!(!again, "it has one running now");
            }
            assert_eq!(started, newcomers, "beside {of_first}");
            assert!(!FairQueue.may_start(&team("a"), 1, &account, &limits));
        }
    }

    #[test]
    fn a_clients_giant_does_not_speak_for_it() {
        let limits = busy(limits(100, 60));
        let mut account = running(&[("a", 4)]);
        let giant = share("a", 2);
        account.arrives(&giant);
        let mut bill = account.starts(&giant);
        assert!(!FairQueue.may_start(&giant.flow, giant.client, &account, &limits));
        account.becomes_long(&mut bill);
        assert!(FairQueue.may_start(&giant.flow, giant.client, &account, &limits));
        account.ends(bill);
        assert!(FairQueue.may_start(&giant.flow, giant.client, &account, &limits));
        assert!(!FairQueue.may_start(&giant.flow, 1, &account, &limits));
    }

    /// Queries wait as `flow client deadline`, all offered at 0, and are picked one after the other, each costing 10 ms.
    fn check_order(queue: &[(&str, u64, u64)], expected: &[usize]) {
        let mut account = Account::default();
        let shares: Vec<Share> = queue.iter().map(|(flow, client, _)| share(flow, *client)).collect();
        shares.iter().for_each(|share| account.arrives(share));
        let mut left: Vec<usize> = (0..queue.len()).collect();
        let mut picked = Vec::new();
        while !left.is_empty() {
            let waiting = |position: &usize| Waiting {
                position: *position,
                share: &shares[*position],
                offered: Duration::ZERO,
                deadline: Duration::from_secs(queue[*position].2),
            };
            let next = FairQueue.pick(&mut left.iter().map(waiting), &account, &limits(100, 60)).expect("room");
            let mut bill = account.starts(&shares[next]);
            account.charge(&mut bill, Cost::cpu(Duration::from_millis(10)), 1);
            account.ends(bill);
            left.retain(|position| *position != next);
            picked.push(next);
        }
        assert_eq!(picked, expected, "{queue:?}");
    }

    #[test]
    fn flows_then_clients_then_deadlines() {
        check_order(&[("a", 1, 9), ("a", 1, 9), ("a", 1, 9), ("b", 1, 9), ("b", 1, 9)], &[0, 3, 1, 4, 2]);
        check_order(&[("a", 1, 9), ("a", 1, 9), ("a", 2, 9), ("a", 2, 9)], &[0, 2, 1, 3]);
        check_order(&[("a", 1, 4), ("a", 1, 3), ("a", 1, 2)], &[2, 1, 0]);
        // Beyond five seconds all are due alike, in order of arrival.
        check_order(&[("a", 1, 60), ("a", 1, 50), ("a", 1, 6), ("a", 1, 4)], &[3, 0, 1, 2]);
    }

    /// Places as `flow weight count` in a queue of 12; the last flow is the one that arrives.
    fn check_displaced(flows: &[(&str, u32, usize)], expected: Option<&str>) {
        let named: Vec<(Flow, u32, usize)> =
            flows.iter().map(|(name, weight, count)| (team(name), *weight, *count)).collect();
        let flows: Vec<(&Flow, u32, usize)> =
            named.iter().map(|(flow, weight, count)| (flow, *weight, *count)).collect();
        let (name, weight, _) = named.last().expect("who arrives");
        let arriving = Share { flow: name.clone(), weight: *weight, ..share("x", 1) };
        let displaced = FairQueue.displaces(&arriving, &Places { capacity: 12, flows: &flows });
        assert_eq!(displaced, expected.map(team), "{flows:?}");
    }

    #[test]
    fn no_flow_fills_the_queue_alone() {
        check_displaced(&[("a", 1, 12), ("b", 1, 0)], Some("a"));
        check_displaced(&[("a", 1, 7), ("b", 1, 5)], Some("a"));
        check_displaced(&[("a", 1, 6), ("b", 1, 6)], None);
        check_displaced(&[("a", 1, 5), ("b", 1, 7)], None);
        check_displaced(&[("a", 1, 12)], None);
        // By weight: 3 of 12 places are a's.
        check_displaced(&[("a", 1, 4), ("b", 3, 8)], Some("a"));
        check_displaced(&[("b", 3, 9), ("a", 1, 3)], None);
        // Of two above their shares, the one that is further above.
        check_displaced(&[("a", 1, 5), ("b", 1, 7), ("c", 1, 0)], Some("b"));
        check_displaced(&[("a", 2, 7), ("b", 1, 5), ("c", 1, 0)], Some("b"));
    }

    #[test]
    fn a_modest_flow_waits_for_its_share_and_not_for_the_backlog() {
        for (flows, expected) in [
            (vec![("a", 1, 100), ("b", 1, 0)], 1),
            (vec![("a", 1, 100), ("b", 1, 5)], 11),
            (vec![("a", 1, 2), ("b", 1, 5)], 7),
            (vec![("a", 4, 100), ("b", 1, 0)], 4),
            (vec![("b", 1, 0)], 0),
        ] {
            let named: Vec<(Flow, u32, usize)> =
                flows.iter().map(|(name, w, count)| (team(name), *w, *count)).collect();
            let borrowed: Vec<(&Flow, u32, usize)> = named.iter().map(|(flow, w, count)| (flow, *w, *count)).collect();
            let ahead = FairQueue.ahead(&share("b", 1), &Places { capacity: 200, flows: &borrowed });
            assert_eq!(ahead, expected, "{flows:?}");
        }
    }
}
