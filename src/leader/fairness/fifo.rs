//! `fifo`: first come, first served, up to the common limit. Unfair on purpose: whoever asks most gets most. It is here
//! to be compared with, and its name in a benchmark says what the others are better than.

use super::{Account, Fairness, FairnessLimits, Flow};

pub(super) struct Fifo;

impl Fairness for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn may_start(&self, _: &Flow, _: u64, account: &Account, limits: &FairnessLimits) -> bool {
        account.total() < limits.concurrent_max
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_starts, limits};
    use super::*;

    #[test]
    fn one_flow_takes_everything() {
        check_starts(&Fifo, limits(100, 60), &[(60, 0, true), (99, 0, true), (60, 39, true), (60, 40, false)]);
    }
}
