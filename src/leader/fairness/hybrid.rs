//! `hybrid`: generous like `weighted` on a node that has room, `strict` from 80 % of `concurrent_max` on.

use super::strict::Strict;
use super::weighted::Weighted;
use super::{Account, Fairness, FairnessLimits, Flow};

/// Tenths of `concurrent_max` from which on each flow is held to its own limit.
const STRICT_TENTHS: usize = 8;

pub(super) struct Hybrid;

impl Fairness for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn may_start(&self, flow: &Flow, client: u64, account: &Account, limits: &FairnessLimits) -> bool {
        if account.total() * 10 >= STRICT_TENTHS * limits.concurrent_max {
            Strict.may_start(flow, client, account, limits)
        } else {
            Weighted.may_start(flow, client, account, limits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_starts, limits};
    use super::*;

    #[test]
    fn strict_from_80_on() {
        check_starts(
            &Hybrid,
            limits(100, 60),
            &[
                (60, 0, true),
                (79, 0, true),
                (80, 0, false),
                (60, 19, true),
                (60, 20, false),
                (50, 32, true),
                (59, 40, true),
                (59, 41, false),
            ],
        );
    }

    #[test]
    fn other_limits_scale() {
        check_starts(&Hybrid, limits(10, 5), &[(7, 0, true), (8, 0, false), (5, 3, false), (4, 4, true)]);
    }
}
