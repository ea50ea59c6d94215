//! Forwarding strategies: where a partition has several live holders, which one scans it; and in which order, and how
//! many at once, next hops are asked. Paths are not theirs (`path`), nor is who may be asked at all (`assignment`).
//!
//! Contract, held by the tests below over the whole table:
//! - the same arguments give the same answer; a strategy has no state. What must change from query to query comes
//!   from `turn`, the number of the query at the Leader.
//! - `holder` returns one of the candidates; `order` only changes the order; both get them by id.
//! - `in_flight` is at least 1. `usize::MAX` is "all at once".
//! - any two strategies differ on some case that a user could see.

mod capacity;
mod parallel;
mod round_robin;

use super::{Load, NodeId};

/// A node that could be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub node: NodeId,
    /// As it was last heard: with its last reply, else its last announcement.
    pub load: Load,
    /// Links to be crossed from the reader.
    pub hops: usize,
}

/// The decisions of one strategy.
pub trait Forwarding: Send + Sync {
    /// The name used in the configuration.
    fn name(&self) -> &'static str;

    /// Which of the live holders scans the partition. `candidates` is never empty and comes by id.
    fn holder<'a>(&self, turn: u64, candidates: &'a [Candidate]) -> &'a Candidate;

    /// Puts next hops, which come by id, into the order in which they are asked.
    fn order(&self, turn: u64, next_hops: &mut Vec<Candidate>);

    /// How many next hops a node keeps in flight per query. `asynchronous` is the flag of the configuration; without
    /// it a strategy may ask one after the other, which bounds what a query has in flight and costs the sum of the
    /// times instead of the longest.
    fn in_flight(&self, asynchronous: bool) -> usize;
}

/// One strategy as the configuration, `--help`, tests and benches see it.
pub struct Strategy {
    pub name: &'static str,
    pub make: fn() -> Box<dyn Forwarding>,
    pub help: &'static str,
}

/// Every strategy there is; the first is the default of the configuration.
pub const STRATEGIES: &[Strategy] = &[
    Strategy {
        name: "round_robin",
        make: || Box::new(round_robin::RoundRobin),
        help: "the first hop and the holder rotate from query to query",
    },
    Strategy {
        name: "parallel",
        make: || Box::new(parallel::Parallel),
        help: "all hops at once, each partition from its nearest holder",
    },
    Strategy {
        name: "capacity",
        make: || Box::new(capacity::Capacity),
        help: "the hop and the holder with the shortest wait first, by their live load",
    },
];

/// The strategy of that name.
pub fn by_name(name: &str) -> Option<Box<dyn Forwarding>> {
    STRATEGIES.iter().find(|entry| entry.name == name).map(|entry| (entry.make)())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, active: u32, hops: usize) -> Candidate {
        Candidate { node: id.into(), load: Load { active, queued: 0, capacity: 4, service_ms: 1.0 }, hops }
    }

    /// What can be seen of a strategy from outside.
    #[derive(Debug, PartialEq)]
    struct Seen {
        order_of_four_queries: Vec<String>,
        most_in_flight: [usize; 2],
        holders_when_b_is_busy: Vec<String>,
    }

    fn look_at(strategy: &dyn Forwarding) -> Seen {
        let hops = [candidate("B", 4, 1), candidate("C", 0, 1), candidate("E", 1, 1)];
        let holders = [candidate("B", 4, 1), candidate("C", 0, 2), candidate("E", 1, 3)];
        let order = |turn| {
            let mut asked = hops.to_vec();
            strategy.order(turn, &mut asked);
            let mut sorted = asked.clone();
            sorted.sort_by(|a, b| a.node.cmp(&b.node));
            assert_eq!(sorted, hops, "{}: nobody is added, dropped or asked twice", strategy.name());
            asked.iter().map(|hop| hop.node.as_str()).collect::<String>()
        };
        let holder = |turn| {
            let chosen = strategy.holder(turn, &holders);
            assert!(holders.contains(chosen), "{}", strategy.name());
            chosen.node.to_string()
        };
        Seen {
            order_of_four_queries: (0..4).map(order).collect(),
            most_in_flight: [strategy.in_flight(false), strategy.in_flight(true)],
            holders_when_b_is_busy: (0..4).map(holder).collect(),
        }
    }

    #[test]
    fn every_strategy_keeps_the_contract() {
        for entry in STRATEGIES {
            let strategy = (entry.make)();
            assert_eq!(strategy.name(), entry.name);
            assert!(!entry.help.is_empty());
            assert_eq!(by_name(entry.name).expect("it is in the table").name(), entry.name);
            let seen = look_at(&*strategy);
            assert_eq!(seen, look_at(&*(entry.make)()), "{}: no state", entry.name);
            assert!(seen.most_in_flight.iter().all(|most| *most >= 1));
            let only = [candidate("B", 9, 3)];
            for turn in [0, 1, u64::MAX] {
                assert_eq!(strategy.holder(turn, &only), &only[0]);
                let mut nobody = Vec::new();
                strategy.order(turn, &mut nobody);
                assert!(nobody.is_empty());
            }
        }
        assert!(by_name("round-robin").is_none());
    }

    #[test]
    fn any_two_strategies_differ() {
        for (i, a) in STRATEGIES.iter().enumerate() {
            for b in &STRATEGIES[i + 1..] {
                assert_ne!(look_at(&*(a.make)()), look_at(&*(b.make)()), "{} and {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn strategies_do_what_their_name_says() {
        let seen = |name| look_at(&*by_name(name).expect("it is in the table"));
        assert_eq!(
            seen("round_robin"),
            Seen {
                order_of_four_queries: ["BCE", "CEB", "EBC", "BCE"].map(String::from).into(),
                most_in_flight: [1, usize::MAX],
                holders_when_b_is_busy: ["B", "C", "E", "B"].map(String::from).into(),
            }
        );
        assert_eq!(
            seen("parallel"),
            Seen {
                order_of_four_queries: ["BCE", "BCE", "BCE", "BCE"].map(String::from).into(),
                most_in_flight: [usize::MAX, usize::MAX],
                holders_when_b_is_busy: ["B", "B", "B", "B"].map(String::from).into(),
            }
        );
        assert_eq!(
            seen("capacity"),
            Seen {
                order_of_four_queries: ["CEB", "CEB", "CEB", "CEB"].map(String::from).into(),
                most_in_flight: [1, usize::MAX],
                holders_when_b_is_busy: ["C", "C", "C", "C"].map(String::from).into(),
            }
        );
    }
}
