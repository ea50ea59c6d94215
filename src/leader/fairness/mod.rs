//! Which query starts next, when several teams want the same node.
//!
//! A strategy sees the account of what runs and what it cost, and says of one query whether it may start now, and of many
//! which is first; when each is asked, and what happens to those that must wait, is [`super::admission`]'s business. To
//! add a strategy, write its file and its line in [`STRATEGIES`]: config check, `--help`, contract test and benches walk
//! that table.

mod account;
mod cost;
mod fair_queue;
mod fifo;
mod hybrid;
mod strict;
mod weighted;

use std::time::Duration;

pub use account::{Account, Bill};
pub use cost::Cost;

pub use crate::engine::share::{Flow, Share};

/// What the strategies divide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairnessLimits {
    /// `concurrent_max`: queries running at once.
    pub concurrent_max: usize,
    /// `team_concurrent_max`: those of one flow; a flow that has them waits while others run less. At most
    /// `concurrent_max` makes sense.
    pub team_concurrent_max: usize,
    /// Cores that compute for a query at the same time.
    pub cores: usize,
    /// Whether one of them has nothing to do: who starts now takes nothing from anybody.
    pub is_core_idle: bool,
}

/// A query that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Its place in the queue, in order of arrival.
    pub position: usize,
    pub share: &'a Share,
    pub offered: Duration,
    /// When its time is over, on the same clock.
    pub deadline: Duration,
}

/// Who has how many places in the queue.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// All places, `queue_capacity`.
    pub capacity: usize,
    /// Each flow that waits and the one that arrives: its weight, and its places.
    pub flows: &'a [(&'a Flow, u32, usize)],
}

/// In which order nodes do the work of running queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnOrder {
    /// As it comes: who has more queries running gets more.
    Arrival,
    /// By shares: flows by weight, then their clients, then their queries.
    ByShare,
}

/// A fairness strategy.
///
/// Contract: nothing starts at `concurrent_max`; on an idle node every flow may start (limits are at least 1); the same
/// account gives the same answer, and what runs less of its own flow, all else equal, never makes a start less likely.
/// What is picked may start, and if one may start, one is picked. Whoever is displaced has a place, and is another flow,
/// or another client with more places.
pub trait Fairness: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &'static str;

    /// Whether a query of this client of the flow may start now.
    fn may_start(&self, flow: &Flow, client: u64, account: &Account, limits: &FairnessLimits) -> bool;

    /// Whether any client of the flow may: if not, none has to be asked for.
    fn may_any_start(&self, _flow: &Flow, _account: &Account, _limits: &FairnessLimits) -> bool {
        true
    }

    /// The position of the one that starts next, of those that wait in order of arrival; none if none may.
    fn pick(
        &self,
        waiting: &mut dyn Iterator<Item = Waiting<'_>>,
        account: &Account,
        limits: &FairnessLimits,
    ) -> Option<usize> {
        let mut may =
            waiting.filter(|waiting| self.may_start(&waiting.share.flow, waiting.share.client, account, limits));
        may.next().map(|waiting| waiting.position)
    }

    /// The queue is full: the flow that gives up a place for the one that arrives, the newest of its client with most.
    fn displaces(&self, _arriving: &Share, _places: &Places<'_>) -> Option<Flow> {
        None
    }

    /// The queue is full and no other flow gives up a place: whether the client with `most` places of the same flow does,
    /// for one that has `own`. If not, the one that arrives is refused.
    fn displaces_client(&self, _own: usize, _most: usize) -> bool {
        false
    }

    /// How many of its flow that wait would start before one that arrives now, whose client has `own` of them.
    fn ahead_in_flow(&self, own: usize, others: &mut dyn Iterator<Item = usize>) -> usize {
        own + others.sum::<usize>()
    }

    /// How many of those that wait would start before one that arrives now; `places` counts of its own flow only those
    /// that would.
    fn ahead(&self, _arriving: &Share, places: &Places<'_>) -> usize {
        places.flows.iter().map(|(_, _, count)| *count).sum()
    }

    /// Whose work nodes do next, once queries run.
    fn turns(&self) -> TurnOrder {
        TurnOrder::Arrival
    }
}

/// One line of the table of strategies.
pub struct Strategy {
    /// The name in the configuration.
    pub name: &'static str,
    /// Makes the strategy.
    pub make: fn() -> Box<dyn Fairness>,
    /// One line for `--help`.
    pub help: &'static str,
}

/// Every fairness strategy there is.
pub const STRATEGIES: &[Strategy] = &[
    Strategy {
        name: "strict",
        make: || Box::new(strict::Strict),
        help: "each team up to its own limit, all together up to the common one",
    },
    Strategy {
        name: "weighted",
        make: || Box::new(weighted::Weighted),
        help: "beyond its own limit while the other teams leave most of theirs idle",
    },
    Strategy {
        name: "hybrid",
        make: || Box::new(hybrid::Hybrid),
        help: "weighted on a node with room, strict from 80 % of the common limit on",
    },
    Strategy {
        name: "fair_queue",
        make: || Box::new(fair_queue::FairQueue),
        help: "teams get cores by weight, then clients equally, by what their queries cost",
    },
    Strategy {
        name: "fifo",
        make: || Box::new(fifo::Fifo),
        help: "first come, first served: unfair, to compare the others with",
    },
];

/// The strategy of that name; none if there is no such strategy.
pub fn by_name(name: &str) -> Option<Box<dyn Fairness>> {
    STRATEGIES.iter().find(|strategy| strategy.name == name).map(|strategy| (strategy.make)())
}

#[cfg(test)]
mod simulated;
#[cfg(test)]
pub(crate) mod tests;
