//! `strict`: every flow has its own limit, whether or not the others use theirs. Some capacity may lie idle; in return
//! no flow ever finds more than `team_concurrent_max` queries of another in front of it.

use super::{Account, Fairness, FairnessLimits, Flow};

pub(super) struct Strict;

impl Fairness for Strict {
    fn name(&self) -> &'static str {
        "strict"
    }

    fn may_start(&self, flow: &Flow, account: &Account, limits: &FairnessLimits) -> bool {
        account.total() < limits.concurrent_max && account.of(flow) < limits.team_concurrent_max
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIMITS, running, team};
    use super::*;

    #[test]
    fn both_limits_hold() {
        for (flow, green, pink, expected) in [
            (team("green"), 59, 0, true),
            (team("green"), 60, 0, false),
            (team("green"), 59, 40, true),
            (team("green"), 59, 41, false),
            (team("pink"), 60, 0, true),
            (team("pink"), 60, 40, false),
            (Flow(None), 59, 40, true),
            (Flow(None), 60, 40, false),
        ] {
            let account = running(&[("green", green), ("pink", pink)]);
            assert_eq!(Strict.may_start(&flow, &account, &LIMITS), expected, "{flow} beside {green} + {pink}");
        }
    }

    #[test]
    fn no_team_is_capped_like_a_team() {
        let mut account = Account::default();
        (0..60).for_each(|_| account.add(&Flow(None)));
        assert!(!Strict.may_start(&Flow(None), &account, &LIMITS));
    }
}
