//! Everybody at once, by id, and each partition from the holder with the fewest hops. Waiting for one hop before
//! asking the next makes no sense here, so the flag for it is ignored.

use super::{Candidate, Forwarding};

pub(super) struct Parallel;

impl Forwarding for Parallel {
    fn name(&self) -> &'static str {
        "parallel"
    }

    fn holder<'a>(&self, _turn: u64, candidates: &'a [Candidate]) -> &'a Candidate {
        candidates
            .iter()
            .min_by_key(|candidate| (candidate.hops, &candidate.node))
            .expect("the contract: there is a candidate")
    }

    fn order(&self, _turn: u64, _next_hops: &mut Vec<Candidate>) {}

    fn in_flight(&self, _asynchronous: bool) -> usize {
        usize::MAX
    }
}
