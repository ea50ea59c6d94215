//! Whose work a node does next: zones to scan, plans to make and to compute, chunks to encode.
//!
//! Decides the order; leaves running and measuring to [`super::fair_pool`]. Turns are shared by flows, in a flow by its
//! clients, for a client by its queries, each level as [`level::Level`] says. What a turn costs is known when it is done,
//! so each is charged what the query's last one cost, and put right afterwards: that way a flow with many threads at
//! work does not look as if it had nothing yet. A query that has just come in has been served least of its client's
//! queries, so it takes every second turn beside a giant of the same client, and finishes within twice its own turns.
//! Flows, which nobody can make up, are granted a small credit.
//!
//! Work without a share (weight 0) is done in the order of its arrival, as one lane among the flows.
//!
//! A turn costs O(log n) of what waits. Bounded by its users: a scan queues a few jobs for each of the node's
//! threads, and each running query and each reader waits for one turn at a time.
//!
//! Invariant: what was pushed comes out once; when all is done nothing is remembered but the time.

pub mod level;

use std::collections::VecDeque;
use std::time::Duration;

use super::share::{Flow, Share};
use crate::delivery::QueryId;
use level::Level;

/// What a query's first turn is taken to cost: about a zone.
const TURN_UNKNOWN: Duration = Duration::from_micros(500);

/// What a turn costs at least: about what giving it takes. So no work is free, however coarse the clock.
const TURN_MIN: Duration = Duration::from_micros(1);

/// How much of what a flow left to others just before it may take up at once. A modest team's queries come in bursts:
/// without this each burst would be served at the team's share, half a node beside one other, however little the team
/// asked for in the last second. Higher makes bursts quicker and lets one delay the others for longer; it bounds by how
/// much a second's service can be off the share.
const CREDIT: Duration = Duration::from_millis(40);

/// What takes turns with the others: a flow, or all the work that has no share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Arrival,
    Flow(Flow),
}

/// Work of one query that waits.
struct Jobs<T> {
    waiting: VecDeque<T>,
    /// What its last turn cost.
    typical: Duration,
}

impl<T> Default for Jobs<T> {
    fn default() -> Jobs<T> {
        Jobs { waiting: VecDeque::new(), typical: TURN_UNKNOWN }
    }
}

type Queries<T> = Level<QueryId, Jobs<T>>;
type Clients<T> = Level<u64, Queries<T>>;

/// All work that waits for a turn.
pub struct Turns<T> {
    lanes: Level<Lane, Clients<T>>,
    waiting: usize,
}

/// A turn that was given, to be handed back to [`Turns::done`].
#[derive(Debug)]
pub struct Ticket {
    lane: Lane,
    client: u64,
    query: QueryId,
    charged: Duration,
}

impl<T> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns { lanes: Level::with_credit(CREDIT), waiting: 0 }
    }
}

const OWED: &str = "what waits or is served has joined at every level";

impl<T> Turns<T> {
    /// Work arrives.
    pub fn push(&mut self, share: &Share, job: T) {
        let (lane, client, query) = match share.weight {
            0 => (Lane::Arrival, 0, QueryId(0)),
            _ => (Lane::Flow(share.flow.clone()), share.client, share.query),
        };
        let clients = self.lanes.join(&lane, share.weight.max(1));
        let queries = clients.join(&client, 1);
        queries.join(&query, 1).waiting.push_back(job);
        queries.set_ready(&query, true);
        clients.set_ready(&client, true);
        self.lanes.set_ready(&lane, true);
        self.waiting += 1;
    }

    /// The work whose turn it is. It is being served until [`Turns::done`].
    pub fn give(&mut self) -> Option<(Ticket, T)> {
        let lane = self.lanes.first()?.clone();
        let clients = self.lanes.get_mut(&lane).expect(OWED);
        let client = *clients.first().expect("a ready lane has a ready client");
        let queries = clients.get_mut(&client).expect(OWED);
        let query = *queries.first().expect("a ready client has a ready query");
        let jobs = queries.get_mut(&query).expect(OWED);
        let job = jobs.waiting.pop_front().expect("a ready query has work");
        let (charged, has_more) = (jobs.typical, !jobs.waiting.is_empty());

        queries.begin(&query);
        queries.charge(&query, charged, 1);
        queries.set_ready(&query, has_more);
        let has_more = queries.first().is_some();
        clients.begin(&client);
        clients.charge(&client, charged, 1);
        clients.set_ready(&client, has_more);
        let has_more = clients.first().is_some();
        self.lanes.begin(&lane);
        self.lanes.charge(&lane, charged, 1);
        self.lanes.set_ready(&lane, has_more);
        self.waiting -= 1;
        Some((Ticket { lane, client, query, charged }, job))
    }

    /// The same, but only to work of which this is so, and of a flow that has been served at least so much less than those
    /// that are served now, by its weight.
    pub fn give_if_behind(&mut self, by: Duration, is_it: impl Fn(&T) -> bool) -> Option<(Ticket, T)> {
        let lane = self.lanes.first()?;
        let clients = self.lanes.get(lane)?;
        let queries = clients.get(clients.first()?)?;
        let next = queries.get(queries.first()?)?.waiting.front()?;
        let is_behind = self.lanes.behind(lane) >= by;
        (is_behind && is_it(next)).then(|| self.give()).flatten()
    }

    /// A turn has ended, and took so long.
    pub fn done(&mut self, ticket: Ticket, took: Duration) {
        let Ticket { lane, client, query, charged } = ticket;
        let took = took.max(TURN_MIN);
        let clients = self.lanes.get_mut(&lane).expect(OWED);
        let queries = clients.get_mut(&client).expect(OWED);
        queries.get_mut(&query).expect(OWED).typical = took;
        settle(queries, &query, charged, took);
        settle(clients, &client, charged, took);
        settle(&mut self.lanes, &lane, charged, took);
    }

    /// The share's flow has cost so much beside its turns.
    pub fn charge(&mut self, share: &Share, cost: Duration) {
        if share.weight > 0 {
            self.lanes.charge(&Lane::Flow(share.flow.clone()), cost, share.weight);
        }
    }

    /// Work that waits.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Flows, or lanes, that are remembered.
    pub fn remembered(&self) -> usize {
        self.lanes.remembered()
    }
}

fn settle<K: Ord + Clone, C: Default>(level: &mut Level<K, C>, key: &K, charged: Duration, took: Duration) {
    if took >= charged {
        level.charge(key, took - charged, 1);
    } else {
        level.refund(key, charged - took);
    }
    level.leave(key);
}

#[cfg(test)]
mod tests;
