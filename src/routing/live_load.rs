//! How busy nodes are right now: what they said with their last replies, and what they were ordered to do since.
//!
//! Announcements tell a node's load once a second. A reply tells it at the moment of the reply, and the reader knows
//! what it has ordered and not yet heard of; both are newer. It decides which word counts; what follows from it is the
//! strategies'.
//!
//! Whatever is newer counts: an announcement takes the place of every reply before it. Where announcements stay away, a
//! reply counts less with every moment, and after [`REPLY_COUNTS`] not at all: a load passes quickly, and a node that
//! was once busy must not be passed over for ever.
//!
//! Invariant: one entry for each node that is told of; the caller tells only of configured ones.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Load, NodeId};

/// How long a reply counts. Higher trusts old replies; lower falls back to announcements, which are up to a second old.
pub const REPLY_COUNTS: Duration = Duration::from_secs(2);

/// The newest replies.
#[derive(Debug, Default)]
pub struct LiveLoads(BTreeMap<NodeId, Entry>);

#[derive(Debug, Default)]
struct Entry {
    replied: Option<(Load, Duration)>,
    /// Partitions ordered since the last word, and when the last of them was.
    ordered: u32,
    ordered_at: Duration,
}

impl LiveLoads {
    /// A node said with a reply how busy it is.
    pub fn replied(&mut self, node: &NodeId, load: Load, now: Duration) {
        let entry = self.0.entry(node.clone()).or_default();
        entry.replied = Some((load, now));
        entry.ordered = 0;
    }

    /// A node was ordered to scan so many partitions. `announced_at` is when it last announced itself.
    pub fn ordered(&mut self, node: &NodeId, partitions: u32, announced_at: Option<Duration>, now: Duration) {
        let entry = self.0.entry(node.clone()).or_default();
        if announced_at.is_some_and(|at| at > entry.ordered_at) {
            entry.ordered = 0;
        }
        entry.ordered = entry.ordered.saturating_add(partitions);
        entry.ordered_at = now;
    }

    /// When a node last replied.
    pub fn replied_at(&self, node: &NodeId) -> Option<Duration> {
        self.0.get(node)?.replied.map(|(_, at)| at)
    }

    /// How busy a node is, as far as known, given what it last announced and when.
    pub fn load(&self, node: &NodeId, announced: Load, announced_at: Option<Duration>, now: Duration) -> Load {
        let Some(entry) = self.0.get(node) else { return announced };
        let is_newer = |at: Duration| announced_at.is_none_or(|announced_at| at >= announced_at);
        let said = match entry.replied.filter(|(_, at)| is_newer(*at)) {
            Some((replied, at)) => {
                let age = now.saturating_sub(at).as_secs_f32() / REPLY_COUNTS.as_secs_f32();
                between(replied, announced, age.min(1.0))
            }
            None => announced,
        };
        let ordered = if is_newer(entry.ordered_at) { entry.ordered } else { 0 };
        Load { queued: said.queued.saturating_add(ordered), ..said }
    }
}

/// The cores of the nodes that scan, and what they have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Those of the node that has most. A query is on all nodes at the same time as a rule, so what keeps those of one
    /// busy keeps all of them busy.
    pub of_largest: usize,
    count: u64,
    busy: u64,
}

impl Cores {
    /// Of nodes with these loads. None if no node told how many it has.
    pub fn of(loads: impl IntoIterator<Item = Load>) -> Option<Cores> {
        let cores = |load: Load| Cores {
            of_largest: load.capacity as usize,
            count: u64::from(load.capacity),
            busy: u64::from(load.active) + u64::from(load.queued),
        };
        loads.into_iter().filter(|load| load.capacity > 0).map(cores).reduce(Cores::and)
    }

    /// Together with other nodes.
    fn and(self, others: Cores) -> Cores {
        Cores {
            of_largest: self.of_largest.max(others.of_largest),
            count: self.count + others.count,
            busy: self.busy + others.busy,
        }
    }

    /// Whether less is to be done than there are cores. Where one node has much to do and another nothing, there is not:
    /// a query more would rather wait for the one than keep the other busy.
    pub fn have_room(&self) -> bool {
        self.busy < self.count
    }
}

/// The load on the way from one to the other: 0 is the one, 1 the other.
fn between(from: Load, to: Load, part: f32) -> Load {
    let mix = |from: f32, to: f32| from + (to - from) * part;
    let count = |from: u32, to: u32| mix(from as f32, to as f32).round() as u32;
    Load {
        active: count(from.active, to.active),
        queued: count(from.queued, to.queued),
        // What a node is does not pass.
        capacity: from.capacity,
        service_ms: mix(from.service_ms, to.service_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(active: u32) -> Load {
        Load { active, queued: 0, capacity: 4, service_ms: active as f32 }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A node announced `announced` at 1000 ms and replied `replied` at the given time; so busy it counts at another.
    fn check(announced: u32, replied: (u32, u64), looked_at: u64, expected: u32) {
        let (mut live, node) = (LiveLoads::default(), NodeId::from("B"));
        live.replied(&node, busy(replied.0), ms(replied.1));
        let load = live.load(&node, busy(announced), Some(ms(1_000)), ms(looked_at));
        assert_eq!((load.active, load.service_ms.round() as u32, load.capacity), (expected, expected, 4));
        assert_eq!(live.load(&"C".into(), busy(announced), None, ms(looked_at)), busy(announced), "another node");
    }

    #[test]
    fn the_newer_word_counts_and_a_reply_fades_into_the_announcement() {
        check(10, (90, 999), 1_000, 10);
        check(10, (90, 1_000), 1_000, 90);
        check(10, (90, 1_500), 1_500, 90);
        check(10, (90, 1_500), 2_000, 70);
        check(10, (90, 1_500), 2_500, 50);
        check(90, (10, 1_500), 3_000, 70);
        check(10, (90, 1_500), 3_500, 10);
        check(10, (90, 1_500), 1_000_000, 10);
    }

    #[test]
    fn nodes_have_room_while_there_is_less_to_do_than_cores() {
        let load = |active, queued, capacity| Load { active, queued, capacity, service_ms: 0.0 };
        let check = |loads: &[Load], expected: Option<(usize, bool)>| {
            let found = Cores::of(loads.iter().copied());
            assert_eq!(found.map(|cores| (cores.of_largest, cores.have_room())), expected, "{loads:?}");
        };
        check(&[load(2, 0, 2), load(1, 3, 4)], Some((4, false)));
        check(&[load(2, 0, 2), load(1, 2, 4)], Some((4, true)));
        check(&[load(0, 0, 1), load(9, 9, 2)], Some((2, false)));
        check(&[load(0, 0, 1), load(1, 1, 2)], Some((2, true)));
        // Who has not told its cores is not known to have any.
        check(&[load(0, 0, 0), load(1, 0, 1)], Some((1, false)));
        check(&[load(0, 0, 0)], None);
        check(&[], None);
    }

    #[test]
    fn what_was_ordered_counts_until_the_node_speaks() {
        let (mut live, node) = (LiveLoads::default(), NodeId::from("B"));
        let queued = |live: &LiveLoads, announced_at, now| {
            live.load(&"B".into(), busy(0), Some(ms(announced_at)), ms(now)).queued
        };
        live.ordered(&node, 3, Some(ms(0)), ms(100));
        live.ordered(&node, 4, Some(ms(0)), ms(110));
        assert_eq!(queued(&live, 0, 120), 7);
        live.replied(&node, busy(0), ms(130));
        assert_eq!(queued(&live, 0, 140), 0, "its reply tells of what it has");
        live.ordered(&node, 5, Some(ms(0)), ms(150));
        assert_eq!((queued(&live, 0, 160), queued(&live, 155, 160)), (5, 0), "an announcement does so too");
        live.ordered(&node, 1, Some(ms(155)), ms(170));
        assert_eq!(queued(&live, 155, 180), 1);
        live.ordered(&node, u32::MAX, Some(ms(155)), ms(170));
        assert_eq!(queued(&live, 155, 180), u32::MAX);
    }

    #[test]
    fn whatever_is_said_the_load_lies_between_the_two_words() {
        for seed in 0..1_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut live, node) = (LiveLoads::default(), NodeId::from("B"));
            let (mut replied, mut now, mut before) = (None, Duration::ZERO, None);
            let (announced, announced_at) = (busy(random.u32(..1_000)), ms(random.u64(..5_000)));
            for _ in 0..20 {
                now += ms(random.u64(..700));
                if random.u8(..5) == 0 {
                    let load = busy(random.u32(..1_000));
                    live.replied(&node, load, now);
                    (replied, before) = (Some(load), None);
                }
                let load = live.load(&node, announced, Some(announced_at), now);
                let other = replied.unwrap_or(announced);
                let bounds = announced.active.min(other.active)..=announced.active.max(other.active);
                assert!(bounds.contains(&load.active), "{load:?} is not in {bounds:?}, seed {seed}");
                // Time brings it closer to what was announced, never further away.
                let distance = load.active.abs_diff(announced.active);
                assert!(before.is_none_or(|before| distance <= before), "{load:?}, seed {seed}");
                before = Some(distance);
            }
            now += REPLY_COUNTS;
            assert_eq!(live.load(&node, announced, Some(announced_at), now).active, announced.active, "seed {seed}");
        }
    }
}
