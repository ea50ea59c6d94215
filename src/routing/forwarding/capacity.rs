//! The least loaded first. A holder's load is the time that one more piece of work would wait there: what runs or queues
//! before it, each a service time, shared by its cores. What a query has given to a holder counts as queued there when
//! its next partition is given, so partitions spread over holders in proportion to how fast they are free. Equal loads, as on an idle overlay, take turns
//! from query to query, so that nobody is everybody's first choice until the next report of its load.

use std::borrow::Borrow;

use super::{Candidate, Forwarding, Load};

pub(super) struct Capacity;

/// What a scan counts on a node that has not yet told how long one takes: all such nodes alike, by their queues.
const SERVICE_MS_UNKNOWN: f32 = 1.0;

/// Milliseconds until one more scan would be done.
fn wait_ms(load: &Load) -> f32 {
    let service = if load.service_ms > 0.0 { load.service_ms } else { SERVICE_MS_UNKNOWN };
    let at_once = load.capacity.max(1) as f32;
    service * (1.0 + (load.active as f32 + load.queued as f32) / at_once)
}

impl Forwarding for Capacity {
    fn name(&self) -> &'static str {
        "capacity"
    }

    fn holder<'a>(&self, turn: u64, candidates: &'a [Candidate]) -> &'a Candidate {
        let mut by_wait: Vec<&Candidate> = candidates.iter().collect();
        by_load(turn, &mut by_wait);
        by_wait[0]
    }

    fn order(&self, turn: u64, next_hops: &mut Vec<Candidate>) {
        by_load(turn, next_hops);
    }

    fn in_flight(&self, asynchronous: bool) -> usize {
        if asynchronous { usize::MAX } else { 1 }
    }
}

/// Sorts by load, the turn breaking ties: stable, over a list rotated by the turn.
fn by_load<C: Borrow<Candidate>>(turn: u64, list: &mut [C]) {
    if !list.is_empty() {
        list.rotate_left((turn % list.len() as u64) as usize);
    }
    list.sort_by(|a, b| wait_ms(&a.borrow().load).total_cmp(&wait_ms(&b.borrow().load)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(active: u32, queued: u32, capacity: u32, service_ms: f32) -> Load {
        Load { active, queued, capacity, service_ms }
    }

    #[test]
    fn the_shortest_wait_wins() {
        for (faster, slower) in [
            (load(0, 0, 4, 1.0), load(1, 0, 4, 1.0)),
            (load(3, 0, 4, 1.0), load(0, 9, 4, 1.0)),
            (load(8, 0, 8, 1.0), load(8, 0, 4, 1.0)),
            (load(4, 0, 4, 1.0), load(0, 0, 4, 9.0)),
            (load(0, 0, 0, 0.0), load(1, 0, 0, 0.0)),
        ] {
            assert!(wait_ms(&faster) < wait_ms(&slower), "{faster:?} and {slower:?}");
            let both = [("a", faster), ("b", slower)].map(|(id, load)| Candidate { node: id.into(), load, hops: 1 });
            for turn in 0..4 {
                assert_eq!(Capacity.holder(turn, &both), &both[0]);
                let mut hops = vec![both[1].clone(), both[0].clone()];
                Capacity.order(turn, &mut hops);
                assert_eq!(hops, both);
            }
        }
    }

    #[test]
    fn equals_take_turns() {
        let idle = ["a", "b", "c"].map(|id| Candidate { node: id.into(), load: load(0, 0, 4, 1.0), hops: 1 });
        let chosen: Vec<&str> = (0..4).map(|turn| Capacity.holder(turn, &idle).node.as_str()).collect();
        assert_eq!(chosen, ["a", "b", "c", "a"]);
    }
}
