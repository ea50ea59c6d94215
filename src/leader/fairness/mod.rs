//! Which query may start, when several teams want the same node.
//!
//! A strategy sees the account of what runs and says of one query whether it may start now; who is asked first, and what
//! happens to those that must wait, is [`super::admission`]'s business. To add a strategy, write its file and its line in
//! [`STRATEGIES`]: config check, `--help`, contract test and benches walk that table.

mod strict;

use std::collections::BTreeMap;
use std::fmt;

use crate::routing::Team;

/// Whom a query is billed to: a team, or `none` for queries that name none. `none` is capped like a team.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(pub Option<Team>);

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_ref().map_or("none", Team::as_str))
    }
}

/// What runs now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    active: BTreeMap<Flow, usize>,
    total: usize,
}

impl Account {
    /// Running queries of all flows.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Running queries of one flow.
    pub fn of(&self, flow: &Flow) -> usize {
        self.active.get(flow).copied().unwrap_or(0)
    }

    /// A query of this flow starts.
    pub(super) fn add(&mut self, flow: &Flow) {
        *self.active.entry(flow.clone()).or_insert(0) += 1;
        self.total += 1;
    }

    /// A query of this flow ends; it was added before.
    pub(super) fn remove(&mut self, flow: &Flow) {
        let active = self.active.get_mut(flow).expect("what ends was added when it started");
        *active -= 1;
        if *active == 0 {
            self.active.remove(flow);
        }
        self.total -= 1;
    }
}

/// What the strategies divide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairnessLimits {
    /// `concurrent_max`: queries running at once.
    pub concurrent_max: usize,
    /// `team_concurrent_max`: those of one flow; a flow that has them waits while others run less. At most
    /// `concurrent_max` makes sense.
    pub team_concurrent_max: usize,
}

/// A fairness strategy.
///
/// Contract: nothing starts at `concurrent_max`; on an idle node every flow may start (limits are at least 1); the same
/// account gives the same answer, and what runs less of its own flow, all else equal, never makes a start less likely.
pub trait Fairness: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &'static str;

    /// Whether a query of this flow may start now.
    fn may_start(&self, flow: &Flow, account: &Account, limits: &FairnessLimits) -> bool;
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
pub const STRATEGIES: &[Strategy] = &[Strategy {
    name: "strict",
    make: || Box::new(strict::Strict),
    help: "each team up to its own limit, all together up to the common one",
}];

/// The strategy of that name; none if there is no such strategy.
pub fn by_name(name: &str) -> Option<Box<dyn Fairness>> {
    STRATEGIES.iter().find(|strategy| strategy.name == name).map(|strategy| (strategy.make)())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const LIMITS: FairnessLimits = FairnessLimits { concurrent_max: 100, team_concurrent_max: 60 };

    pub(crate) fn team(name: &str) -> Flow {
        Flow(Some(name.into()))
    }

    pub(crate) fn running(counts: &[(&str, usize)]) -> Account {
        let mut account = Account::default();
        for (name, count) in counts {
            (0..*count).for_each(|_| account.add(&team(name)));
        }
        account
    }

    #[test]
    fn every_strategy_keeps_its_contract() {
        for line in STRATEGIES {
            let strategy = (line.make)();
            assert_eq!((strategy.name(), line.help.is_empty()), (line.name, false));
            for flow in [Flow(None), team("green"), team("pink")] {
                assert!(strategy.may_start(&flow, &Account::default(), &LIMITS), "{} on an idle node", line.name);
                for green in 0..=100 {
                    let mut before = false;
                    for pink in (0..=100 - green).rev() {
                        let account = running(&[("green", green), ("pink", pink)]);
                        let may = strategy.may_start(&flow, &account, &LIMITS);
                        assert_eq!(may, (line.make)().may_start(&flow, &account, &LIMITS), "{}", line.name);
                        assert!(!may || account.total() < 100, "{}: {green} + {pink}", line.name);
                        if flow == team("pink") {
                            assert!(may || !before, "{}: fewer of its own make {flow} wait", line.name);
                            before = may;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn strategies_are_found_by_name() {
        assert_eq!(by_name("strict").map(|strategy| strategy.name()), Some("strict"));
        assert!(by_name("Strict").is_none());
    }

    #[test]
    fn an_account_returns_to_nothing() {
        let mut account = running(&[("green", 2), ("pink", 1)]);
        assert_eq!((account.total(), account.of(&team("green")), account.of(&Flow(None))), (3, 2, 0));
        for name in ["green", "pink", "green"] {
            account.remove(&team(name));
        }
        assert_eq!(account, Account::default());
        assert_eq!(Flow(None).to_string(), "none");
    }
}
