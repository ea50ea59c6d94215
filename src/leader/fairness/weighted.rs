//! `weighted`: a flow at its limit may go on while the others leave their part of the node idle. What they may use
//! before that ends is a constant, so a flow that takes what is free does not change how long it may.

use super::strict::Strict;
use super::{Account, Fairness, FairnessLimits, Flow};

/// Of what one flow can never take (`concurrent_max` − `team_concurrent_max`), the tenths that the others together may
/// use at most while it goes on. The rest is kept free, so that they find room at once when they come.
const OTHERS_TENTHS: usize = 8;

pub(super) struct Weighted;

impl Fairness for Weighted {
    fn name(&self) -> &'static str {
        "weighted"
    }

    fn may_start(&self, flow: &Flow, client: u64, account: &Account, limits: &FairnessLimits) -> bool {
        if account.total() >= limits.concurrent_max {
            return false;
        }
        let others = account.total() - account.of(flow);
        let left_to_others = limits.concurrent_max.saturating_sub(limits.team_concurrent_max);
        Strict.may_start(flow, client, account, limits) || others * 10 < OTHERS_TENTHS * left_to_others
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_starts, limits};
    use super::*;

    #[test]
    fn a_flow_goes_on_while_the_others_use_less_than_32() {
        check_starts(
            &Weighted,
            limits(100, 60),
            &[
                (59, 0, true),
                (60, 0, true),
                (60, 31, true),
                (60, 32, false),
                (68, 31, true),
                (69, 31, false),
                (99, 0, true),
                (100, 0, false),
                (59, 40, true),
                (59, 41, false),
            ],
        );
    }

    #[test]
    fn other_limits_scale() {
        check_starts(&Weighted, limits(10, 5), &[(5, 3, true), (5, 4, false), (9, 0, true), (10, 0, false)]);
        // Nothing is left to others: then the limit is the common one.
        check_starts(&Weighted, limits(5, 5), &[(4, 0, true), (4, 1, false)]);
    }
}
