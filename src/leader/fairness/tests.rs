use super::*;
use crate::delivery::QueryId;

pub(crate) fn limits(concurrent_max: usize, team_concurrent_max: usize) -> FairnessLimits {
    FairnessLimits { concurrent_max, team_concurrent_max, cores: 2, is_core_idle: true }
}

/// The same while every core is busy.
pub(crate) fn busy(limits: FairnessLimits) -> FairnessLimits {
    FairnessLimits { is_core_idle: false, ..limits }
}

pub(crate) fn team(name: &str) -> Flow {
    Flow(Some(name.into()))
}

/// A query of a client of a team of weight 1.
pub(crate) fn share(name: &str, client: u64) -> Share {
    Share { flow: team(name), client, query: QueryId(0), weight: 1 }
}

/// An account in which so many of each team run.
pub(crate) fn running(counts: &[(&str, usize)]) -> Account {
    let mut account = Account::default();
    for (name, count) in counts {
        for _ in 0..*count {
            account.arrives(&share(name, 1));
            account.starts(&share(name, 1));
        }
    }
    account
}

/// Whether green may start when so many of green and of pink run.
pub(crate) fn check_starts(strategy: &dyn Fairness, limits: FairnessLimits, cases: &[(usize, usize, bool)]) {
    for (green, pink, expected) in cases {
        let account = running(&[("green", *green), ("pink", *pink)]);
        let may = strategy.may_start(&team("green"), 1, &account, &limits);
        assert_eq!(may, *expected, "{} with {green} of green and {pink} of pink", strategy.name());
    }
}

#[test]
fn every_strategy_keeps_its_contract() {
    let idle = limits(100, 60);
    for (line, limits) in STRATEGIES.iter().flat_map(|line| [(line, idle), (line, busy(idle))]) {
        let strategy = (line.make)();
        assert_eq!((strategy.name(), line.help.is_empty()), (line.name, false));
        for flow in [Flow(None), team("green"), team("pink")] {
            assert!(strategy.may_start(&flow, 1, &Account::default(), &limits), "{} on an idle node", line.name);
            for green in (0..=100).step_by(4) {
                let mut before = false;
                for pink in (0..=100 - green).rev() {
                    let account = running(&[("green", green), ("pink", pink)]);
                    let may = strategy.may_start(&flow, 1, &account, &limits);
                    assert_eq!(may, (line.make)().may_start(&flow, 1, &account, &limits), "{}", line.name);
                    assert!(!may || account.total() < 100, "{}: {green} + {pink}", line.name);
                    if flow == team("pink") {
                        assert!(may || !before, "{}: fewer of its own make {flow} wait", line.name);
                        before = may;
                    }
                }
            }
        }
    }
}

/// What a strategy decides in random situations: who may start, who is picked, who is displaced.
fn decisions(strategy: &dyn Fairness) -> Vec<(bool, Option<usize>, Option<Flow>)> {
    let decide = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let names = ["green", "pink", "blue"];
        let counts = [random.usize(0..70), random.usize(0..40), random.usize(0..12)];
        let mut account = running(&[(names[0], counts[0]), (names[1], counts[1]), (names[2], counts[2])]);
        let (mut limits, mut queue) = (limits(100, 60), Vec::new());
        limits.is_core_idle = random.bool();
        for at in 0..random.u64(0..30) {
            let share = share(names[random.usize(..3)], random.u64(0..3));
            account.arrives(&share);
            queue.push((share, Duration::from_secs(at), Duration::from_secs(at + random.u64(1..60))));
        }
        let waiting = |(position, (share, offered, deadline)): (usize, &(Share, Duration, Duration))| Waiting {
            position,
            share: &queue[position].0,
            offered: *offered,
            deadline: *deadline + Duration::from_secs(u64::from(share.weight)),
        };
        let picked = strategy.pick(&mut queue.iter().enumerate().map(waiting), &account, &limits);
        let may = |share: &Share| strategy.may_start(&share.flow, share.client, &account, &limits);
        match picked {
            Some(position) => assert!(may(&queue[position].0), "{} picked who may not, seed {seed}", strategy.name()),
            None => assert!(!queue.iter().any(|(share, _, _)| may(share)), "{}, seed {seed}", strategy.name()),
        }
        let flows: Vec<Flow> = names.map(team).to_vec();
        let places: Vec<(&Flow, u32, usize)> = flows.iter().map(|flow| (flow, 1, random.usize(0..70))).collect();
        let arriving = share(names[1], 1);
        let displaced = strategy.displaces(&arriving, &Places { capacity: 100, flows: &places });
        if let Some(flow) = &displaced {
            let (_, _, count) = places.iter().find(|(named, _, _)| *named == flow).expect("a flow of the queue");
            assert!(*count > 0 && *flow != arriving.flow, "{} displaces {flow}, seed {seed}", strategy.name());
        }
        (may(&arriving), picked, displaced)
    };
    (0..2_000).map(decide).collect()
}

#[test]
fn every_pair_of_strategies_differs() {
    let decisions: Vec<_> = STRATEGIES.iter().map(|line| (line.name, decisions(&*(line.make)()))).collect();
    for (index, (a, of_a)) in decisions.iter().enumerate() {
        for (b, of_b) in &decisions[..index] {
            assert!(of_a != of_b, "{a} and {b} decide alike");
        }
    }
}

#[test]
fn strategies_are_found_by_name() {
    for line in STRATEGIES {
        assert_eq!(by_name(line.name).map(|strategy| strategy.name()), Some(line.name));
    }
    assert!(by_name("Strict").is_none());
    assert_eq!(Flow(None).to_string(), "none");
}
