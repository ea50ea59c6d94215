use super::super::known::known_digest;
use super::super::topology::tests::random_connected;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn list(csv_bytes: u64) -> Arc<Vec<KnownPartition>> {
    let id = PartitionId { date: "20200810".parse().unwrap(), digest: 7 };
    Arc::new(vec![KnownPartition { id, csv_bytes, stats: None }])
}

fn full(origin: &str, incarnation: u64, sequence: u64, known: Arc<Vec<KnownPartition>>) -> Announcement {
    Announcement {
        origin: origin.into(),
        incarnation,
        sequence,
        state: NodeState::Ready,
        links: Vec::new(),
        known_digest: known_digest(&known),
        known: Some(known),
        holds: Arc::default(),
        on_disk: Arc::default(),
        load: Load::default(),
        placement: None,
    }
}

fn without_known(mut announcement: Announcement) -> Announcement {
    announcement.known = None;
    announcement
}

fn of(me: &str) -> Announcements {
    Announcements::new(me.into(), ["A", "B", "C"].map(NodeId::from).into(), 5 * SECOND)
}

#[test]
fn only_the_newer_number_counts() {
    let mut heard = of("A");
    let mut check = |incarnation, sequence, expected| {
        let received = heard.receive(full("B", incarnation, sequence, list(1)), SECOND);
        assert_eq!(received, expected, "({incarnation}, {sequence})");
    };
    check(1, 5, Received::Fresh);
    check(1, 5, Received::Stale);
    check(1, 4, Received::Stale);
    check(1, 6, Received::Fresh);
    check(2, 0, Received::Fresh);
    check(1, 99, Received::Stale);
    assert_eq!(heard.newest(&"B".into()), Some((2, 0)));
    assert_eq!(heard.receive(full("X", 1, 1, list(1)), SECOND), Received::Unconfigured);
    assert!(heard.get(&"X".into()).is_none());
}

#[test]
fn a_node_knows_its_own_voice() {
    let mut heard = of("A");
    assert_eq!(heard.receive(full("A", 9, 3, list(1)), SECOND), Received::Impostor { incarnation: 9 });
    assert_eq!(heard.announce(full("A", 10, 0, list(1)), SECOND).known, Some(list(1)));
    assert_eq!(heard.announce(full("A", 10, 1, list(1)), SECOND).known, None, "unchanged: the digest is enough");
    assert_eq!(heard.announce(full("A", 10, 2, list(2)), SECOND).known, Some(list(2)));
    assert_eq!(heard.receive(full("A", 10, 1, list(1)), SECOND), Received::Stale);
    assert_eq!(heard.receive(full("A", 10, 3, list(1)), SECOND), Received::Impostor { incarnation: 10 });
    assert!(heard.expire(100 * SECOND).is_empty(), "a node never forgets itself");
    assert_eq!(heard.get(&"A".into()).unwrap().known, Some(list(2)));
}

#[test]
fn the_list_is_carried_over_only_under_its_digest() {
    let mut heard = of("A");
    let c = NodeId::from("C");
    assert_eq!(heard.receive(without_known(full("C", 1, 0, list(1))), SECOND), Received::NeedsKnown);
    assert_eq!(heard.to_send_full(&c), None, "what is not here cannot be given");
    assert_eq!(heard.receive(full("C", 1, 0, list(2)), SECOND), Received::Stale, "not the list of that digest");
    assert_eq!(heard.receive(full("C", 1, 0, list(1)), SECOND), Received::Fresh, "the list that was asked for");
    assert_eq!(heard.receive(full("C", 1, 0, list(1)), SECOND), Received::Stale);
    assert_eq!(heard.receive(without_known(full("C", 1, 1, list(1))), SECOND), Received::Fresh);
    assert_eq!(heard.to_send_full(&c), Some(full("C", 1, 1, list(1))));
    assert_eq!(heard.receive(without_known(full("C", 1, 2, list(2))), SECOND), Received::NeedsKnown);
    assert_eq!(heard.get(&c).unwrap().known, None, "it replaces all that was said before");
    let unlisted = Announcement { known_digest: UNLISTED, ..without_known(full("C", 2, 0, list(1))) };
    assert_eq!(heard.receive(unlisted.clone(), SECOND), Received::Fresh, "there is no list to ask for");
    assert_eq!(heard.to_send_full(&c), Some(unlisted));
}

#[test]
fn the_silent_are_forgotten_and_old_copies_do_not_revive_them() {
    let mut heard = of("A");
    let b = NodeId::from("B");
    heard.receive(full("B", 1, 7, list(1)), SECOND);
    assert!(heard.expire(6 * SECOND).is_empty(), "5 s of silence are not more than 5 s");
    assert_eq!(heard.heard_at(&b), Some(SECOND));
    assert_eq!(heard.expire(7 * SECOND), vec![b.clone()]);
    assert!(heard.get(&b).is_none());
    assert_eq!(heard.receive(full("B", 1, 6, list(1)), 8 * SECOND), Received::Stale);
    assert_eq!(heard.receive(full("B", 1, 7, list(1)), 8 * SECOND), Received::Stale);
    assert!(heard.get(&b).is_none());
    assert_eq!(heard.receive(without_known(full("B", 1, 8, list(1))), 8 * SECOND), Received::NeedsKnown);
    assert!(heard.get(&b).is_some());
}

#[test]
fn a_link_needs_both_ends_alive() {
    let mut heard = of("A");
    let say = |heard: &mut Announcements, origin: &str, sequence, links: &[&str]| {
        let links = links.iter().map(|id| NodeId::from(*id)).collect();
        heard.receive(Announcement { links, ..full(origin, 1, sequence, list(1)) }, sequence as u32 * SECOND);
    };
    let links = |heard: &Announcements| heard.topology().links().map(|l| l.to_string()).collect::<Vec<_>>().join(" ");
    say(&mut heard, "B", 1, &["A", "C", "B", "X"]);
    assert_eq!(links(&heard), "", "one end's word is not enough");
    say(&mut heard, "C", 1, &["B"]);
    assert_eq!(links(&heard), "B-C");
    heard.announce(Announcement { links: vec!["B".into()], ..full("A", 1, 0, list(1)) }, SECOND);
    assert_eq!(links(&heard), "A-B B-C");
    say(&mut heard, "B", 6, &["A", "C"]);
    heard.expire(7 * SECOND);
    assert_eq!(links(&heard), "A-B", "C was forgotten");
}

/// Nodes over a random graph whose messages are lost, doubled and reordered.
struct Storm {
    nodes: BTreeMap<NodeId, Announcements>,
    graph: Topology,
    in_flight: Vec<Message>,
    passed_on: BTreeMap<(NodeId, NodeId, u64), usize>,
    random: fastrand::Rng,
    now: Duration,
}

struct Message {
    from: NodeId,
    to: NodeId,
    body: Body,
}

enum Body {
    Said(Announcement),
    AskFull(NodeId),
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let mut random = fastrand::Rng::with_seed(seed);
        let (count, extra) = (random.usize(2..9), random.usize(0..8));
        let graph = random_connected(&mut random, count, extra);
        let ids = graph.reachable(&"a".into());
        let nodes =
            ids.iter().map(|id| (id.clone(), Announcements::new(id.clone(), ids.clone(), 5 * SECOND))).collect();
        Storm { nodes, graph, in_flight: Vec::new(), passed_on: BTreeMap::new(), random, now: Duration::ZERO }
    }

    fn flood(&mut self, from: &NodeId, but: Option<&NodeId>, announcement: &Announcement) {
        let key = (from.clone(), announcement.origin.clone(), announcement.sequence);
        *self.passed_on.entry(key).or_default() += 1;
        for to in self.graph.neighbors(from).filter(|to| Some(*to) != but) {
            let body = Body::Said(announcement.clone());
            self.in_flight.push(Message { from: from.clone(), to: to.clone(), body });
        }
    }

    fn everybody_announces(&mut self, sequence: u64) {
        self.now += SECOND;
        for id in self.nodes.keys().cloned().collect::<Vec<_>>() {
            let own = full(id.as_str(), 1, sequence, list(self.random.u64(..2)));
            let to_flood = self.nodes.get_mut(&id).unwrap().announce(own, self.now);
            self.flood(&id, None, &to_flood);
        }
    }

    fn deliver(&mut self, lost_percent: u8, doubled_percent: u8, at_most: usize) {
        for _ in 0..at_most {
            if self.in_flight.is_empty() {
                return;
            }
            let Message { from, to, body } = self.in_flight.swap_remove(self.random.usize(..self.in_flight.len()));
            if self.random.u8(..100) < lost_percent {
                continue;
            }
            match body {
                Body::AskFull(origin) => {
                    if let Some(announcement) = self.nodes[&to].to_send_full(&origin) {
                        self.in_flight.push(Message { from: to, to: from, body: Body::Said(announcement) });
                    }
                }
                Body::Said(announcement) => {
                    if self.random.u8(..100) < doubled_percent {
                        let body = Body::Said(announcement.clone());
                        self.in_flight.push(Message { from: from.clone(), to: to.clone(), body });
                    }
                    let received = self.nodes.get_mut(&to).unwrap().receive(announcement.clone(), self.now);
                    if received == Received::NeedsKnown {
                        let body = Body::AskFull(announcement.origin.clone());
                        self.in_flight.push(Message { from: to.clone(), to: from.clone(), body });
                    }
                    if matches!(received, Received::Fresh | Received::NeedsKnown) {
                        self.flood(&to, Some(&from), &announcement);
                    }
                }
            }
        }
    }
}

#[test]
fn after_a_storm_everybody_knows_the_newest_of_everybody() {
    for seed in 0..200 {
        let mut storm = Storm::new(seed);
        for sequence in 1..8 {
            storm.everybody_announces(sequence);
            storm.deliver(30, 20, 60);
        }
        // Quiet: nothing is lost any more. Lists asked for in one round may have moved on; two rounds settle them.
        for sequence in 8..11 {
            storm.everybody_announces(sequence);
            storm.deliver(0, 0, 1_000_000);
            assert!(storm.in_flight.is_empty(), "seed {seed}: flooding ends");
        }
        let most = storm.passed_on.values().max();
        assert!(most <= Some(&2), "seed {seed}: a node passed one announcement on {most:?} times");
        for (id, node) in &storm.nodes {
            for (other, announcements) in &storm.nodes {
                let newest = announcements.get(other).unwrap();
                assert_eq!(node.get(other), Some(newest), "seed {seed}: {id} of {other}");
            }
        }
    }
}
