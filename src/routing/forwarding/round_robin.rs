//! The start rotates from query to query: over four queries every one of up to four hops comes first once, and every
//! replica is used in turn. Load is not looked at.

use super::{Candidate, Forwarding};

pub(super) struct RoundRobin;

impl Forwarding for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    fn holder<'a>(&self, turn: u64, candidates: &'a [Candidate]) -> &'a Candidate {
        &candidates[start(turn, candidates.len())]
    }

    fn order(&self, turn: u64, next_hops: &mut Vec<Candidate>) {
        if !next_hops.is_empty() {
            let start = start(turn, next_hops.len());
            next_hops.rotate_left(start);
        }
    }

    fn in_flight(&self, asynchronous: bool) -> usize {
        if asynchronous { usize::MAX } else { 1 }
    }
}

fn start(turn: u64, count: usize) -> usize {
    (turn % count as u64) as usize
}
