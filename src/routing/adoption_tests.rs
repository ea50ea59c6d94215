//! Whole overlays in steps of a quarter second: who is cut off finds a way, and all of it is undone again.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::routing::topology::tests::random_connected;
use crate::routing::{Link, Topology};

const TICK: Duration = Duration::from_millis(250);

fn heard(leader_at: u64, configured_path: bool) -> Heard {
    Heard { leader_at: Some(Duration::from_millis(leader_at)), configured_path }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn three_seconds_of_silence_and_the_leader_is_adopted() {
    let mut adoption = Adoption::new(vec!["A".into(), "C".into()], at(0));
    assert_eq!(adoption.step(at(2_900), heard(0, false)), Step::Rest);
    assert_eq!(adoption.step(at(3_500), heard(1_000, false)), Step::Rest, "there was news since");
    assert_eq!(adoption.step(at(4_000), heard(1_000, false)), Step::Adopt("A".into()));
    assert_eq!(adoption.step(at(4_250), heard(1_000, false)), Step::Rest, "one at a time");
    assert_eq!(adoption.step(at(5_000), heard(4_900, false)), Step::Rest);
    // A configured path counts from when it is there, and from anew when it was away.
    assert_eq!(adoption.step(at(6_000), heard(5_900, true)), Step::Rest);
    assert_eq!(adoption.step(at(10_000), heard(9_900, false)), Step::Rest);
    assert_eq!(adoption.step(at(10_250), heard(9_900, true)), Step::Rest);
    assert_eq!(adoption.step(at(15_000), heard(14_900, true)), Step::Rest);
    let why = "configured links lead to the leader again";
    assert_eq!(adoption.step(at(15_250), heard(14_900, true)), Step::GiveUp { node: "A".into(), why });
    assert_eq!(adoption.step(at(16_000), heard(15_900, true)), Step::Rest);
}

#[test]
fn who_does_not_help_is_left_for_the_next_and_pauses_grow() {
    let mut adoption = Adoption::new(vec!["A".into(), "C".into()], at(0));
    assert_eq!(adoption.step(at(3_000), heard(0, false)), Step::Adopt("A".into()));
    adoption.ended(&"C".into(), at(3_100));
    assert_eq!(adoption.step(at(3_100), heard(0, false)), Step::Rest, "that was not the adopted one");
    adoption.ended(&"A".into(), at(3_200));
    assert_eq!(adoption.step(at(3_250), heard(0, false)), Step::Adopt("C".into()));
    // C takes the link, but nothing comes over it.
    assert_eq!(adoption.step(at(6_000), heard(0, false)), Step::Rest);
    let why = "it brings no news of the leader";
    assert_eq!(adoption.step(at(6_250), heard(0, false)), Step::GiveUp { node: "C".into(), why });
    let mut now = 6_250;
    for pause in [1_000, 2_000, 4_000, 8_000, 8_000] {
        assert_eq!(adoption.step(at(now + pause - 250), heard(0, false)), Step::Rest, "{pause} ms of pause");
        now += pause;
        for candidate in ["A", "C"] {
            assert_eq!(adoption.step(at(now), heard(0, false)), Step::Adopt(candidate.into()));
            adoption.ended(&candidate.into(), at(now));
        }
    }
}

#[test]
fn without_candidates_nothing_is_adopted() {
    let mut adoption = Adoption::new(Vec::new(), at(0));
    assert_eq!(adoption.step(at(60_000), Heard { leader_at: None, configured_path: false }), Step::Rest);
}

/// Nodes on a random graph, each with its own adoption; news of the Leader crosses any number of links in one step.
struct World {
    leader: NodeId,
    configured: Topology,
    dead: BTreeSet<NodeId>,
    nodes: BTreeMap<NodeId, (Adoption, Duration)>,
    adopted: BTreeMap<NodeId, NodeId>,
    now: Duration,
}

impl World {
    fn new(configured: Topology, leader: NodeId) -> World {
        let all: BTreeSet<NodeId> = configured.reachable(&leader);
        let adoption = |node: &NodeId| {
            let is_candidate = |other: &&NodeId| *other != node && !configured.contains(&Link::between(node, other));
            let mut candidates: Vec<NodeId> = all.iter().filter(is_candidate).cloned().collect();
            candidates.sort_by_key(|candidate| *candidate != leader);
            (node.clone(), (Adoption::new(candidates, Duration::ZERO), Duration::ZERO))
        };
        let nodes = all.iter().filter(|node| **node != leader).map(adoption).collect();
        World { leader, configured, dead: BTreeSet::new(), nodes, adopted: BTreeMap::new(), now: Duration::ZERO }
    }

    fn live(&self, topology: &Topology) -> Topology {
        topology.among(&|node| !self.dead.contains(node))
    }

    fn all_links(&self) -> Topology {
        let adopted = self.adopted.iter().map(|(from, to)| Link::between(from, to));
        let all: Topology = self.configured.links().chain(adopted).collect();
        self.live(&all)
    }

    fn tick(&mut self) {
        self.now += TICK;
        let (links, configured) = (self.all_links(), self.live(&self.configured));
        let hear = if self.dead.contains(&self.leader) { BTreeSet::new() } else { links.reachable(&self.leader) };
        let mut nodes = std::mem::take(&mut self.nodes);
        for (node, (adoption, leader_at)) in &mut nodes {
            if self.dead.contains(node) {
                self.adopted.remove(node);
                *adoption = Adoption::new(adoption.candidates.clone(), self.now);
                continue;
            }
            if hear.contains(node) {
                *leader_at = self.now;
            }
            let heard = Heard {
                leader_at: Some(*leader_at),
                configured_path: configured.reachable(node).contains(&self.leader),
            };
            match adoption.step(self.now, heard) {
                Step::Rest => {}
                Step::GiveUp { node: other, .. } => drop(self.adopted.remove(node).filter(|held| *held == other)),
                Step::Adopt(other) => {
                    let without_asker = links.among(&|hop| hop != node);
                    let takes = !self.dead.contains(&other)
                        && (other == self.leader || without_asker.reachable(&other).contains(&self.leader));
                    if takes {
                        self.adopted.insert(node.clone(), other);
                    } else {
                        adoption.ended(&other, self.now);
                    }
                }
            }
        }
        self.nodes = nodes;
    }

    fn cut_off(&self) -> Vec<NodeId> {
        let reached = self.all_links().reachable(&self.leader);
        self.nodes.keys().filter(|node| !self.dead.contains(*node) && !reached.contains(*node)).cloned().collect()
    }
}

#[test]
fn whoever_is_cut_off_hears_the_leader_again_and_it_is_all_given_up() {
    let first = std::env::var("OVERLAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..300, |seed: u64| seed..seed + 1);
    let mut adopted_ever = 0;
    for seed in seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let size = random.usize(3..=9);
        let extra = random.usize(0..=2);
        let configured = random_connected(&mut random, size, extra);
        let all: Vec<NodeId> =
            configured.links().flat_map(|link| [link.ends().0.clone(), link.ends().1.clone()]).collect();
        let leader = random.choice(&all).expect("there are links").clone();
        let mut world = World::new(configured, leader.clone());
        for round in 0..3 {
            world.dead = all.iter().filter(|node| **node != leader && random.u8(..) < 70).cloned().collect();
            // Silence, and one probe of each candidate.
            for _ in 0..80 {
                world.tick();
            }
            assert_eq!(world.cut_off(), [], "seed {seed}, round {round}: {:?} dead", world.dead);
            adopted_ever += world.adopted.len();
            world.dead.clear();
            for _ in 0..80 {
                world.tick();
            }
            assert!(world.adopted.is_empty(), "seed {seed}, round {round}: {:?} kept", world.adopted);
        }
    }
    assert!(first.is_some() || adopted_ever > 200, "{adopted_ever} links were adopted: the test tests nothing");
}
