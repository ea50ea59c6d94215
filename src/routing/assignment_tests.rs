use super::super::forwarding::{STRATEGIES, by_name};
use super::super::topology::tests::{link, random_connected, topology};
use super::*;

fn partition(number: u128) -> PartitionId {
    PartitionId { date: "20200810".parse().unwrap(), digest: number }
}

fn partitions(numbers: impl IntoIterator<Item = u128>) -> Vec<PartitionId> {
    numbers.into_iter().map(partition).collect()
}

/// The shipped graph; A, B, C green and D, E, F pink. `holds` is `"C:1,2 D:3"`; nodes in `dead` are not alive.
fn snapshot(holds: &str, dead: &str) -> Snapshot {
    let mut nodes: BTreeMap<NodeId, NodeView> = BTreeMap::new();
    for id in ["A", "B", "C", "D", "E", "F"] {
        let held = holds.split_whitespace().filter_map(|part| part.strip_prefix(id)?.strip_prefix(':'));
        let view = NodeView {
            team: Some(if id < "D" { "green" } else { "pink" }.into()),
            role: Role::Worker,
            holds: Arc::new(held.flat_map(|n| n.split(',')).map(|n| partition(n.parse().unwrap())).collect()),
            load: Load::default(),
            alive: !dead.contains(id),
        };
        nodes.insert(id.into(), view);
    }
    Snapshot { reader: "A".into(), topology: topology("A-B A-E B-C B-D D-E E-F"), nodes }
}

/// `"A → B: 1,2 | A → E: 3, unassigned 4"`
fn show(assignment: &Assignment) -> String {
    let numbers = |ids: &[PartitionId]| ids.iter().map(|id| id.digest.to_string()).collect::<Vec<_>>().join(",");
    let orders: Vec<String> =
        assignment.orders.iter().map(|order| format!("{}: {}", order.path, numbers(&order.partitions))).collect();
    match assignment.unassigned.as_slice() {
        [] => orders.join(" | "),
        left => format!("{}, unassigned {}", orders.join(" | "), numbers(left)),
    }
}

fn check(strategy: &str, turn: u64, snapshot: &Snapshot, wanted: u128, expected: &str) {
    let forwarding = by_name(strategy).unwrap();
    let assignment = assign(snapshot, &partitions(1..=wanted), &*forwarding, true, turn, &Tried::default());
    assert_eq!(show(&assignment), expected, "{strategy}, turn {turn}");
}

#[test]
fn each_partition_goes_to_one_live_holder_over_its_team_leader() {
    let all = snapshot("B:1 C:2 D:3 E:4 F:5", "");
    check("parallel", 0, &all, 5, "A → B: 1 | A → B → C: 2 | A → E: 4 | A → E → D: 3 | A → E → F: 5");
    check("round_robin", 0, &all, 5, "A → B: 1 | A → B → C: 2 | A → E: 4 | A → E → D: 3 | A → E → F: 5");
    check("round_robin", 1, &all, 5, "A → E: 4 | A → E → F: 5 | A → E → D: 3 | A → B: 1 | A → B → C: 2");
    let dead = snapshot("B:1 C:2 D:3 E:4 F:5", "E");
    check("parallel", 0, &dead, 5, "A → B: 1 | A → B → C: 2 | A → B → D: 3, unassigned 4,5");
    check("parallel", 0, &snapshot("A:1,2 B:1,2", ""), 2, "A: 1,2");
    check("parallel", 0, &snapshot("", ""), 2, ", unassigned 1,2");
    check("parallel", 0, &snapshot("D:1 F:1", ""), 1, "A → E → D: 1");
    check("round_robin", 0, &snapshot("D:1 F:1", ""), 1, "A → E → D: 1");
    check("round_robin", 1, &snapshot("D:1 F:1", ""), 1, "A → E → F: 1");
    check("round_robin", 1, &snapshot("D:1 F:1", "F"), 1, "A → E → D: 1");
}

#[test]
fn a_partition_asked_for_twice_is_assigned_once() {
    let forwarding = by_name("parallel").unwrap();
    let assignment = assign(&snapshot("C:1", ""), &partitions([1, 1, 1]), &*forwarding, false, 0, &Tried::default());
    assert_eq!(show(&assignment), "A → B → C: 1");
    assert_eq!(assignment.in_flight, usize::MAX);
    let blocking = by_name("round_robin").unwrap();
    let assignment = assign(&snapshot("C:1", ""), &partitions([1]), &*blocking, false, 0, &Tried::default());
    assert_eq!(assignment.in_flight, 1);
}

/// Assigns one partition again and again, every attempt failing.
fn attempts(snapshot: &Snapshot, mut tried: Tried, broken: &[&str]) -> Vec<String> {
    let forwarding = by_name("parallel").unwrap();
    let mut seen = Vec::new();
    loop {
        let assignment = assign(snapshot, &partitions([1]), &*forwarding, true, 0, &tried);
        let Some(order) = assignment.orders.first() else { return seen };
        seen.push(order.path.to_string());
        tried.record(&assignment.orders);
        if let Some(name) = broken.get(seen.len() - 1).filter(|name| !name.is_empty()) {
            tried.broke(link(name));
        }
        assert!(seen.len() < 20, "retries end: {seen:?}");
    }
}

#[test]
fn a_retry_goes_to_another_holder_first_and_then_over_another_path() {
    let check = |holds: &str, broken: &[&str], expected: &[&str]| {
        assert_eq!(attempts(&snapshot(holds, ""), Tried::default(), broken), expected, "{holds} {broken:?}");
    };
    check("D:1", &[], &["A → E → D", "A → B → D"]);
    check("D:1", &["A-E"], &["A → E → D", "A → B → D"]);
    check("D:1", &["B-D"], &["A → E → D"]);
    check("F:1", &[], &["A → E → F", "A → B → D → E → F"]);
    check("F:1", &["E-F"], &["A → E → F"]);
    check("D:1 F:1", &["D-E"], &["A → E → D", "A → E → F", "A → B → D"]);
    check("C:1", &[], &["A → B → C", "A → E → D → B → C"]);
    check("A:1", &[], &["A"]);
    let mut tried = Tried::default();
    tried.refused(partition(1), "D".into());
    assert_eq!(attempts(&snapshot("D:1 E:1", ""), tried, &[]), ["A → E", "A → B → D → E"]);
}

#[test]
fn orders_that_do_not_name_the_node_are_stray() {
    let order = |path: &str, numbers: &[u128]| {
        let nodes: Vec<NodeId> = path.split(' ').map(NodeId::from).collect();
        Order { path: Path::try_from(nodes).unwrap(), partitions: partitions(numbers.iter().copied()) }
    };
    let orders =
        vec![order("A E F", &[5]), order("A E", &[4, 3]), order("A B", &[1]), order("A E D", &[6]), order("A E", &[2])];
    let split = split(&"E".into(), orders);
    assert_eq!(split.own, partitions([2, 3, 4]));
    assert_eq!(split.branches.iter().map(|branch| branch.next.as_str()).collect::<Vec<_>>(), ["F", "D"]);
    assert_eq!(split.stray, [order("A B", &[1])]);
}

/// A random overlay: some links down, some nodes dead, each partition on one to three nodes.
fn random_snapshot(random: &mut fastrand::Rng) -> Snapshot {
    let (count, extra) = (random.usize(1..9), random.usize(0..9));
    let mut graph = random_connected(random, count, extra);
    let ids: Vec<NodeId> =
        if count == 1 { vec!["a".into()] } else { graph.reachable(&"a".into()).into_iter().collect() };
    let mut holds: BTreeMap<NodeId, HashSet<PartitionId>> = BTreeMap::new();
    for number in 0..30 {
        for _ in 0..random.usize(1..4) {
            holds.entry(ids[random.usize(..ids.len())].clone()).or_default().insert(partition(number));
        }
    }
    let teams = ["green", "pink"];
    let nodes = ids.iter().map(|id| {
        let view = NodeView {
            team: teams.get(random.usize(..3)).map(|team| Team::from(*team)),
            role: Role::Worker,
            holds: Arc::new(holds.remove(id).unwrap_or_default()),
            load: Load { active: random.u32(..4), queued: 0, capacity: 4, service_ms: 1.0 },
            alive: random.u8(..) > 40,
        };
        (id.clone(), view)
    });
    let nodes = nodes.collect();
    for link in graph.links().collect::<Vec<_>>() {
        if random.u8(..) < 40 {
            graph.remove(&link);
        }
    }
    Snapshot { reader: ids[random.usize(..ids.len())].clone(), topology: graph, nodes }
}

/// Follows the orders hop by hop, as nodes would, and gives what each holder was asked to scan.
fn follow(me: &NodeId, orders: Vec<Order>, scans: &mut Vec<(NodeId, PartitionId)>) {
    let split = split(me, orders);
    assert!(split.stray.is_empty(), "{:?}", split.stray);
    scans.extend(split.own.into_iter().map(|partition| (me.clone(), partition)));
    for branch in split.branches {
        follow(&branch.next, branch.orders, scans);
    }
}

#[test]
fn on_any_graph_every_partition_that_can_be_reached_is_scanned_once() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let snapshot = random_snapshot(&mut random);
        let up = |node: &NodeId| *node == snapshot.reader || snapshot.nodes[node].alive;
        let live = snapshot.topology.among(&up);
        let reachable = live.reachable(&snapshot.reader);
        let wanted = partitions(0..30);
        for entry in STRATEGIES {
            let assignment = assign(&snapshot, &wanted, &*(entry.make)(), true, random.u64(..), &Tried::default());
            let mut scans = Vec::new();
            follow(&snapshot.reader, assignment.orders.clone(), &mut scans);
            let in_orders: Vec<PartitionId> = assignment.orders.iter().flat_map(|o| o.partitions.clone()).collect();
            assert_eq!(scans.iter().map(|(_, p)| *p).collect::<Vec<_>>(), in_orders, "seed {seed}: asking order");
            for order in &assignment.orders {
                assert_eq!(*order.path.reader(), snapshot.reader);
                assert!(order.path.links().all(|link| live.contains(&link)), "seed {seed}: {}", order.path);
                assert!(Path::try_from(order.path.nodes().to_vec()).is_ok(), "seed {seed}: {}", order.path);
            }
            for id in &wanted {
                let holders: Vec<&NodeId> =
                    reachable.iter().filter(|node| snapshot.nodes[*node].holds.contains(id)).collect();
                let scanned: Vec<&NodeId> = scans.iter().filter(|(_, p)| p == id).map(|(node, _)| node).collect();
                let unassigned = assignment.unassigned.iter().filter(|p| *p == id).count();
                assert_eq!(scanned.len(), usize::from(!holders.is_empty()), "seed {seed}: {id}");
                assert_eq!(unassigned, usize::from(holders.is_empty()), "seed {seed}: {id}");
                assert!(scanned.iter().all(|node| holders.contains(node)), "seed {seed}: {id}");
            }
        }
    }
}

/// Whether there is a simple path from the last node of `path` to `to` other than `but`.
fn another_path_exists(topology: &Topology, path: &mut Vec<NodeId>, to: &NodeId, but: &Path) -> bool {
    let last = path.last().expect("it starts with the reader").clone();
    if last == *to {
        return path != but.nodes();
    }
    topology.neighbors(&last).any(|next| {
        if path.contains(next) {
            return false;
        }
        path.push(next.clone());
        let found = another_path_exists(topology, path, to, but);
        path.pop();
        found
    })
}

#[test]
fn retries_end_after_each_holder_was_asked_over_two_paths_if_there_are_two() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let snapshot = random_snapshot(&mut random);
        let live = snapshot.topology.among(&|node| snapshot.is_up(node));
        let strategy = &STRATEGIES[random.usize(..STRATEGIES.len())];
        let wanted = partitions([random.u128(0..30)]);
        let mut tried = Tried::default();
        let mut paths: BTreeMap<NodeId, Vec<Path>> = BTreeMap::new();
        for attempt in 0.. {
            let assignment = assign(&snapshot, &wanted, &*(strategy.make)(), true, attempt, &tried);
            let Some(order) = assignment.orders.first() else { break };
            paths.entry(order.path.holder().clone()).or_default().push(order.path.clone());
            tried.record(&assignment.orders);
            assert!(attempt < 20, "seed {seed}: retries end");
        }
        for node in live.reachable(&snapshot.reader) {
            let holds = snapshot.nodes[&node].holds.contains(&wanted[0]);
            let asked = paths.remove(&node).unwrap_or_default();
            assert_eq!(!asked.is_empty(), holds, "seed {seed}: {node}");
            if let Some(first) = asked.first() {
                let other = another_path_exists(&live, &mut vec![snapshot.reader.clone()], &node, first);
                assert_eq!(asked.len(), 1 + usize::from(other), "seed {seed}: {node} over {asked:?}");
                assert!(asked.get(1) != Some(first), "seed {seed}: the second path is another one");
            }
        }
        assert!(paths.is_empty(), "seed {seed}: {paths:?}");
    }
}

/// How many of 12 partitions, held by B and by C, `capacity` gives to each when they are so loaded.
fn check_shares(b: Load, c: Load, expected: [usize; 2]) {
    let mut both = snapshot("B:1,2,3,4,5,6,7,8,9,10,11,12 C:1,2,3,4,5,6,7,8,9,10,11,12", "");
    both.nodes.get_mut(&"B".into()).unwrap().load = b;
    both.nodes.get_mut(&"C".into()).unwrap().load = c;
    for turn in 0..4 {
        let capacity = by_name("capacity").unwrap();
        let assignment = assign(&both, &partitions(1..=12), &*capacity, true, turn, &Tried::default());
        let of = |node: &str| {
            let orders = assignment.orders.iter().filter(|order| order.path.holder().as_str() == node);
            orders.map(|order| order.partitions.len()).sum::<usize>()
        };
        // The last one may go to either, as the turn says.
        let is_close = of("B").abs_diff(expected[0]) <= 1 && of("B") + of("C") == 12;
        assert!(is_close, "{} and {} with {b:?} and {c:?}, turn {turn}", of("B"), of("C"));
    }
}

#[test]
fn capacity_gives_a_loaded_holder_less_and_idle_ones_the_same() {
    let load = |active, queued, capacity, service_ms| Load { active, queued, capacity, service_ms };
    check_shares(load(0, 0, 2, 1.0), load(0, 0, 2, 1.0), [6, 6]);
    check_shares(load(4, 0, 2, 1.0), load(0, 0, 2, 1.0), [4, 8]);
    check_shares(load(0, 0, 2, 1.0), load(0, 6, 2, 1.0), [9, 3]);
    check_shares(load(50, 50, 2, 1.0), load(0, 0, 2, 1.0), [0, 12]);
    check_shares(load(0, 0, 0, 0.0), load(0, 0, 0, 0.0), [6, 6]);
    // Twice the cores, or half the time.
    check_shares(load(0, 0, 4, 1.0), load(0, 0, 2, 1.0), [8, 4]);
    check_shares(load(0, 0, 2, 1.0), load(0, 0, 2, 2.0), [9, 3]);
}

/// Two holders that replay what they are given at their own speed, asked by many queries: each ends up with about the
/// share of the work that its speed is of both.
#[test]
fn capacity_shares_work_by_the_speed_of_the_holders() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut both = snapshot("B:1,2,3,4,5,6,7,8,9,10,11,12 C:1,2,3,4,5,6,7,8,9,10,11,12", "");
        let service_ms = [random.f64() * 9.0 + 1.0, random.f64() * 9.0 + 1.0];
        // Milliseconds of work that each has left, and partitions that each was given.
        let (mut left, mut given) = ([0.0, 0.0], [0.0, 0.0]);
        let ideal = service_ms[1] / (service_ms[0] + service_ms[1]);
        for turn in 0..400 {
            for (n, id) in ["B", "C"].into_iter().enumerate() {
                let queued = (left[n] / service_ms[n]).ceil() as u32;
                both.nodes.get_mut(&id.into()).unwrap().load =
                    Load { active: 0, queued, capacity: 1, service_ms: service_ms[n] as f32 };
            }
            let wanted = random.u128(1..=12);
            let capacity = by_name("capacity").unwrap();
            let assignment = assign(&both, &partitions(1..=wanted), &*capacity, true, turn, &Tried::default());
            for order in &assignment.orders {
                let n = usize::from(order.path.holder().as_str() == "C");
                given[n] += order.partitions.len() as f64;
                left[n] += order.partitions.len() as f64 * service_ms[n];
            }
            // As much time passes as the work takes on average, so that both are kept busy.
            let passed = 6.5 * service_ms[0] * ideal;
            left.iter_mut().for_each(|left| *left = (*left - passed).max(0.0));
        }
        let share = given[0] / (given[0] + given[1]);
        assert!((share - ideal).abs() < 0.05, "B got {share:.3}, its part is {ideal:.3}, seed {seed}");
    }
}
