use std::collections::BTreeMap;

use super::*;

const JOB_MAX: u64 = 1000;

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn share(flow: &str, weight: u32, client: u64, query: u128) -> Share {
    Share { flow: Flow(Some(flow.into())), client, query: QueryId(query), weight }
}

/// Serves on one thread, each job `cost` long, and gives the order; `+` stands for a new job of the share named so.
fn check(story: &str, expected: &str) {
    let mut turns = Turns::default();
    let mut served = String::new();
    for step in story.split(' ') {
        match step.strip_prefix('+') {
            // `+a17`: flow a, client 1, query 7.
            Some(name) => {
                let mut letters = name.chars();
                let mut next = || letters.next().expect("flow, client, query");
                let flow = next();
                let digit = |c: char| u64::from(c.to_digit(10).expect("a digit"));
                let (client, query) = (digit(next()), u128::from(digit(next())));
                let weight = if flow == '-' { 0 } else { 1 + u32::from(flow.is_uppercase()) };
                turns.push(&share(&flow.to_string(), weight, client, query), name.to_owned());
            }
            None => {
                for _ in 0..step.parse().expect("a number of turns") {
                    let Some((ticket, name)) = turns.give() else { break };
                    turns.done(ticket, us(100));
                    served += &format!("{name} ");
                }
            }
        }
    }
    assert_eq!(served.trim_end(), expected, "{story}");
}

#[test]
fn turns_go_round_flows_then_clients_then_queries() {
    check("+a11 +a11 +b11 +b11 9", "a11 b11 a11 b11");
    // One client of `a` has three queries, the other one.
    check("+a11 +a12 +a13 +a21 +a21 +a21 9", "a11 a21 a12 a21 a13 a21");
    // A weight of 2 gets two turns where 1 gets one.
    check("+B11 +B11 +B11 +B11 +a11 +a11 6", "B11 a11 B11 B11 a11 B11");
    // A client that comes later starts level, without credit for having been away; so does a query.
    check("+a11 +a11 +a11 +a11 +a11 2 +a21 +a21 +a21 9", "a11 a11 a21 a11 a21 a11 a21 a11");
    check("+a11 +a11 +a11 +a11 +a11 2 +a12 +a12 +a12 9", "a11 a11 a12 a11 a12 a11 a12 a11");
    // A flow may take up a little of what it left to others.
    check("+a11 +a11 +a11 +a11 +a11 2 +b11 +b11 +b11 9", "a11 a11 b11 b11 a11 b11 a11 a11");
    check("+a11 9 +b11 +b11 9 +a11 +b11 9", "a11 b11 b11 a11 b11");
    // Without a share: in the order of arrival, and together like one flow.
    check("+-17 +-28 +-19 9", "-17 -28 -19");
    check("+-17 +-28 +-19 +a11 +a11 9", "-17 a11 -28 a11 -19");
}

/// A server of `width` threads in simulated time. `more` says what the flows push before each turn.
struct Server {
    turns: Turns<(usize, Duration)>,
    busy: Vec<(Duration, Ticket, usize, Duration)>,
    width: usize,
    now: Duration,
    received: BTreeMap<usize, Duration>,
    turns_given: u64,
}

impl Server {
    fn new(width: usize) -> Server {
        let (turns, busy, received) = (Turns::default(), Vec::new(), BTreeMap::new());
        Server { turns, busy, width, now: Duration::ZERO, received, turns_given: 0 }
    }

    /// Fills the free threads; gives whose jobs began.
    fn begin(&mut self) -> Vec<usize> {
        let mut begun = Vec::new();
        while self.busy.len() < self.width
            && let Some((ticket, (who, cost))) = self.turns.give()
        {
            self.busy.push((self.now + cost, ticket, who, cost));
            self.turns_given += 1;
            begun.push(who);
        }
        begun
    }

    /// Goes on to the next end of a job; gives whose it was.
    fn end(&mut self) -> Option<usize> {
        let (at, _) = self.busy.iter().enumerate().min_by_key(|(_, job)| job.0)?;
        let (end, ticket, who, cost) = self.busy.remove(at);
        self.now = end;
        self.turns.done(ticket, cost);
        *self.received.entry(who).or_default() += cost;
        Some(who)
    }
}

/// Flows that always want more get service in proportion to their weights, at every moment, whatever their jobs cost:
/// of two flows neither is ahead by more than one job of each for every thread.
#[test]
fn what_two_backlogged_flows_get_differs_by_one_job_each() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (flows, width) = (random.usize(2..=5), random.usize(1..=4));
        let weights: Vec<u32> = (0..flows).map(|_| random.u32(1..=8)).collect();
        let longest: Vec<u64> = (0..flows).map(|_| random.u64(1..=JOB_MAX)).collect();
        let mut server = Server::new(width);
        let push = |server: &mut Server, random: &mut fastrand::Rng, flow: usize| {
            let (client, query) = (random.u64(0..3), random.u128(0..6));
            let share = share(&flow.to_string(), weights[flow], client, query);
            server.turns.push(&share, (flow, us(random.u64(1..=longest[flow]))));
        };
        for flow in 0..flows {
            (0..=width).for_each(|_| push(&mut server, &mut random, flow));
        }
        for _ in 0..150 {
            for flow in server.begin() {
                push(&mut server, &mut random, flow);
            }
            server.end();
            for (a, b) in (0..flows).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let per_weight = |flow: usize| {
                    server.received.get(&flow).copied().unwrap_or_default().as_secs_f64() / f64::from(weights[flow])
                };
                let one = |flow: usize| us(longest[flow].max(500)).as_secs_f64() / f64::from(weights[flow]);
                let (lag, bound) = ((per_weight(a) - per_weight(b)).abs(), width as f64 * (one(a) + one(b)));
                assert!(lag <= bound + 1e-9, "{lag} s > {bound} s: {a} and {b} of weights {weights:?}, seed {seed}");
            }
        }
    }
}

/// Whatever the others do, a flow that was not there before is served after at most one job of every other flow.
#[test]
fn a_newcomer_waits_for_one_job_of_each_other_flow() {
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let others = random.usize(1..=5);
        let mut server = Server::new(1);
        for round in 0..20 {
            for _ in 0..random.usize(0..30) {
                let flow = random.usize(0..others);
                let share = share(&flow.to_string(), 1 + flow as u32, random.u64(0..3), random.u128(0..5));
                server.turns.push(&share, (flow, us(random.u64(1..=JOB_MAX))));
            }
            let newcomer = 100 + round;
            server.turns.push(&share(&newcomer.to_string(), 1, 0, 0), (newcomer, us(random.u64(1..=JOB_MAX))));
            let mut served = BTreeMap::<usize, usize>::new();
            loop {
                let begun = server.begin();
                server.end();
                if begun.contains(&newcomer) {
                    break;
                }
                begun.iter().for_each(|flow| *served.entry(*flow).or_default() += 1);
            }
            assert!(served.values().all(|jobs| *jobs == 1), "{served:?} before {newcomer}, seed {seed}");
        }
    }
}

#[test]
fn turns_that_seem_to_take_no_time_are_shared_too() {
    let mut turns = Turns::default();
    for name in ["a", "b"] {
        (0..3).for_each(|_| turns.push(&share(name, 1, 1, 1), name));
    }
    let mut order = Vec::new();
    while let Some((ticket, name)) = turns.give() {
        turns.done(ticket, Duration::ZERO);
        order.push(name);
    }
    assert_eq!(order, ["a", "b", "a", "b", "a", "b"]);
}

/// However long a flow left everything to another, it goes ahead by the credit and no more.
#[test]
fn a_flow_that_was_away_has_a_small_credit() {
    let mut server = Server::new(1);
    let push = |server: &mut Server, flow: usize| {
        server.turns.push(&share(&flow.to_string(), 1, 1, 1), (flow, us(1000)));
    };
    (0..2_000).for_each(|_| push(&mut server, 0));
    for _ in 0..1_000 {
        server.begin();
        server.end();
    }
    (0..500).for_each(|_| push(&mut server, 1));
    for _ in 0..400 {
        server.begin();
        server.end();
    }
    let (first, second) = (server.received[&0] - us(1_000_000), server.received[&1]);
    let ahead = second - first;
    assert!(ahead <= CREDIT + us(1000) && ahead + us(1000) >= CREDIT, "{ahead:?} ahead");
}

/// A query of ten zones beside one of ten thousand, of the same client, of another client and of another flow.
#[test]
fn a_small_query_beside_a_giant_takes_twice_its_own_turns() {
    for (small, width) in [("a12", 1), ("a22", 1), ("b12", 1), ("a12", 4), ("b12", 4)] {
        let name: Vec<char> = small.chars().collect();
        let digit = |at: usize| name[at].to_digit(10).expect("a digit");
        let mut server = Server::new(width);
        let giant = share("a", 1, 1, 1);
        let small_share = share(&name[0].to_string(), 1, u64::from(digit(1)), u128::from(digit(2)));
        (0..10_000).for_each(|_| server.turns.push(&giant, (0, us(700))));
        for _ in 0..500 {
            server.begin();
            server.end();
        }
        (0..10).for_each(|_| server.turns.push(&small_share, (1, us(700))));
        let before = server.turns_given;
        while server.received.get(&1) != Some(&us(7_000)) {
            server.begin();
            server.end();
        }
        let turns = server.turns_given - before;
        assert!(turns <= 20 + 2 * width as u64, "{turns} turns for ten of {small} on {width} threads");
    }
}

/// The same with turns in the order of arrival: the small query waits for all that came before.
#[test]
fn in_order_of_arrival_a_small_query_waits_for_the_giant() {
    let mut turns = Turns::default();
    (0..1_000).for_each(|_| turns.push(&share("a", 0, 1, 1), "giant"));
    turns.push(&share("b", 0, 2, 2), "small");
    let mut before = 0;
    while let Some((ticket, "giant")) = turns.give() {
        turns.done(ticket, us(100));
        before += 1;
    }
    assert_eq!(before, 1_000);
}

#[test]
fn everything_comes_out_once_and_nothing_is_remembered() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut turns = Turns::default();
        let (mut out, mut tickets) = (Vec::new(), Vec::new());
        let pushed = random.usize(1..400);
        for job in 0..pushed {
            let flow = random.u8(0..4).to_string();
            turns.push(&share(&flow, random.u32(0..4), random.u64(..), random.u128(0..9)), job);
            while random.bool()
                && let Some((ticket, job)) = turns.give()
            {
                out.push(job);
                tickets.push(ticket);
            }
            if random.bool() && !tickets.is_empty() {
                let ticket = tickets.swap_remove(random.usize(..tickets.len()));
                turns.done(ticket, us(random.u64(0..JOB_MAX)));
            }
        }
        while let Some((ticket, job)) = turns.give() {
            out.push(job);
            tickets.push(ticket);
        }
        tickets.into_iter().for_each(|ticket| turns.done(ticket, us(1)));
        out.sort_unstable();
        assert_eq!(out, (0..pushed).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!((turns.waiting(), turns.remembered()), (0, 0), "seed {seed}");
    }
}

#[test]
fn members_that_come_and_go_are_not_kept() {
    let mut level: Level<u64> = Level::default();
    level.join(&0, 1);
    for client in 1..100_000 {
        level.join(&client, 1);
        level.begin(&client);
        // Each leaves with a debt, which is remembered only so long.
        level.charge(&client, Duration::from_secs(client), 1);
        level.leave(&client);
        assert!(level.remembered() <= level::DEBTORS_MAX + 1, "{} members", level.remembered());
    }
    level.leave(&0);
    assert_eq!(level.remembered(), 0);
}
