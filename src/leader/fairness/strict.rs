//! `strict`: every flow has its own limit, whether or not the others use theirs. Some capacity may lie idle; in return
//! no flow ever finds more than `team_concurrent_max` queries of another in front of it.

use super::{Account, Fairness, FairnessLimits, Flow};

pub(super) struct Strict;

impl Fairness for Strict {
    fn name(&self) -> &'static str {
        "strict"
    }

    fn may_start(&self, flow: &Flow, _: u64, account: &Account, limits: &FairnessLimits) -> bool {
        account.total() < limits.concurrent_max && account.of(flow) < limits.team_concurrent_max
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_starts, limits, share};
    use super::*;

    #[test]
    fn both_limits_hold() {
        check_starts(
            &Strict,
            limits(100, 60),
            &[(59, 0, true), (60, 0, false), (59, 40, true), (59, 41, false), (0, 60, true), (40, 60, false)],
        );
    }

    #[test]
    fn no_team_is_capped_like_a_team() {
        let mut account = Account::default();
        let none = crate::leader::fairness::Share { flow: Flow(None), ..share("x", 1) };
        for _ in 0..60 {
            account.arrives(&none);
            account.starts(&none);
        }
        assert!(!Strict.may_start(&Flow(None), 1, &account, &limits(100, 60)));
    }
}
