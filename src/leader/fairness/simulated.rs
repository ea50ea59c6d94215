//! A whole node in simulated time: the real admission, the real turns, cores that scan zones, teams that ask. What holds
//! here for thousands of seeds is what a benchmark measures once.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::tests::team;
use super::*;
use crate::delivery::QueryId;
use crate::engine::turns::{Ticket, Turns};
use crate::leader::admission::{Admission, AdmissionLimits};

const ZONE: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::MAX;

/// How one team asks.
#[derive(Debug, Clone)]
struct Asks {
    name: &'static str,
    weight: u32,
    clients: u64,
    /// Core time asked for, as a part of what the node has.
    load: f64,
    /// Zones of one query.
    zones: std::ops::RangeInclusive<u32>,
    /// Queries that arrive together.
    burst: u32,
}

#[derive(Debug, Clone)]
struct Asked {
    at: Duration,
    share: Share,
    zones: u32,
}

/// Queries of all teams, in order of arrival: bursts with Poisson gaps.
fn arrivals(asks: &[Asks], cores: usize, until: Duration, random: &mut Rng) -> Vec<Asked> {
    let mut arrivals = Vec::new();
    for asks in asks {
        let mean_zones = f64::from(asks.zones.start() + asks.zones.end()) / 2.0;
        let per_second = asks.load * cores as f64 / (mean_zones * ZONE.as_secs_f64());
        let mean_gap = f64::from(asks.burst) / per_second.max(1e-9);
        let mut at = 0.0;
        loop {
            at -= (1.0 - random.f64()).ln() * mean_gap;
            if at >= until.as_secs_f64() {
                break;
            }
            for _ in 0..asks.burst {
                let share = Share {
                    flow: team(asks.name),
                    client: random.u64(0..asks.clients),
                    query: QueryId(0),
                    weight: asks.weight,
                };
                arrivals.push(Asked { at: Duration::from_secs_f64(at), share, zones: random.u32(asks.zones.clone()) });
            }
        }
    }
    arrivals.sort_by_key(|asked| asked.at);
    for (id, asked) in arrivals.iter_mut().enumerate() {
        asked.share.query = QueryId(id as u128);
    }
    arrivals
}

/// What came of it.
struct Outcome {
    /// Core time of each window and flow.
    received: Vec<BTreeMap<Flow, Duration>>,
    /// From arrival to end, of each query that ended; none of the refused.
    took: Vec<Option<Duration>>,
    refused: usize,
    /// When the last query ended.
    end: Duration,
}

struct Zone {
    query: usize,
    end: Duration,
    ticket: Ticket,
}

/// Runs the node until all is done.
fn simulate(strategy: &str, cores: usize, arrivals: &[Asked], window: Duration) -> Outcome {
    let limits = AdmissionLimits { queue_capacity: 200, concurrent_max: 100, team_concurrent_max: 60, cores };
    let mut admission = Admission::new(limits, by_name(strategy).expect("in the table"));
    let order = admission.strategy().1;
    let mut turns: Turns<usize> = Turns::default();
    let mut busy: Vec<Zone> = Vec::new();
    // Of each query: zones not pushed yet, zones not done yet.
    let mut left: Vec<(u32, u32)> = arrivals.iter().map(|asked| (asked.zones, asked.zones)).collect();
    let mut outcome =
        Outcome { received: Vec::new(), took: vec![None; arrivals.len()], refused: 0, end: Duration::ZERO };
    let (mut now, mut next) = (Duration::ZERO, 0);
    let turn_share = |query: usize| match order {
        TurnOrder::ByShare => arrivals[query].share.clone(),
        TurnOrder::Arrival => Share { weight: 0, ..arrivals[query].share.clone() },
    };
    loop {
        while let Some(asked) = arrivals.get(next).filter(|asked| asked.at <= now) {
            admission.tell_cores(cores, busy.len() < cores);
            match admission.offer(QueryId(next as u128), asked.share.clone(), NEVER, now) {
                Ok(displaced) => outcome.refused += usize::from(displaced.is_some()),
                Err(_) => outcome.refused += 1,
            }
            next += 1;
        }
        loop {
            while busy.len() < cores
                && let Some((ticket, query)) = turns.give()
            {
                busy.push(Zone { query, end: now + ZONE, ticket });
            }
            admission.tell_cores(cores, busy.len() < cores);
            let Some(id) = admission.start_next(now) else { break };
            let query = id.0 as usize;
            let pushed = left[query].0.min(2 * cores as u32);
            left[query].0 -= pushed;
            (0..pushed).for_each(|_| turns.push(&turn_share(query), query));
        }
        let (_, waiting) = admission.load();
        assert!(busy.len() == cores || waiting == 0, "{strategy}: a core idles and {waiting} queries wait");
        let ends = busy.iter().map(|zone| zone.end).min();
        let arrives = arrivals.get(next).map(|asked| asked.at);
        let Some(then) = ends.into_iter().chain(arrives).min() else { break };
        now = then;
        while let Some(at) = busy.iter().position(|zone| zone.end <= now) {
            let Zone { query, ticket, .. } = busy.swap_remove(at);
            turns.done(ticket, ZONE);
            let share = &arrivals[query].share;
            let id = QueryId(query as u128);
            admission.charge(id, share, Cost::cpu(ZONE), 8192);
            let at = (now.as_nanos() / window.as_nanos()) as usize;
            outcome.received.resize_with(outcome.received.len().max(at + 1), BTreeMap::new);
            *outcome.received[at].entry(share.flow.clone()).or_default() += ZONE;
            let (unpushed, undone) = &mut left[query];
            *undone -= 1;
            if *unpushed > 0 {
                *unpushed -= 1;
                turns.push(&turn_share(query), query);
            } else if *undone == 0 {
                assert!(admission.finish(id, now));
                outcome.took[query] = Some(now - arrivals[query].at);
            }
        }
    }
    let counters = admission.counters();
    assert_eq!((counters.active, counters.queued, turns.remembered()), (0, 0, 0), "{strategy}: all is done");
    assert_eq!(outcome.took.iter().flatten().count() + outcome.refused, arrivals.len(), "{strategy}: each has its end");
    outcome.end = now;
    outcome
}

/// What each team should have got in each window: the node divided by weight, what one does not want going to the
/// others, and what it could not get yet being wanted in the next window too.
fn ideal(asks: &[Asks], cores: usize, arrivals: &[Asked], window: Duration, windows: usize) -> Vec<Vec<f64>> {
    let mut wanted = vec![0.0; asks.len()];
    (0..windows)
        .map(|at| {
            let (from, to) = (window * at as u32, window * (at as u32 + 1));
            for asked in arrivals.iter().filter(|asked| asked.at >= from && asked.at < to) {
                let team = asks.iter().position(|asks| team(asks.name) == asked.share.flow).expect("one of them");
                wanted[team] += f64::from(asked.zones) * ZONE.as_secs_f64();
            }
            let mut given = vec![0.0; asks.len()];
            let mut free = cores as f64 * window.as_secs_f64();
            loop {
                let hungry: Vec<usize> = (0..asks.len()).filter(|team| wanted[*team] - given[*team] > 1e-9).collect();
                let weights: f64 = hungry.iter().map(|team| f64::from(asks[*team].weight)).sum();
                if hungry.is_empty() || free < 1e-9 {
                    break;
                }
                let least = hungry.iter().map(|team| (wanted[*team] - given[*team]) / f64::from(asks[*team].weight));
                let step = least.fold(free / weights, f64::min);
                hungry.iter().for_each(|team| given[*team] += step * f64::from(asks[*team].weight));
                free -= step * weights;
            }
            wanted.iter_mut().zip(&given).for_each(|(wanted, given)| *wanted -= given);
            given
        })
        .collect()
}

/// Jain's index of received ÷ ideal over the teams that wanted something.
fn jain(received: &BTreeMap<Flow, Duration>, ideal: &[f64], asks: &[Asks]) -> f64 {
    let ratios: Vec<f64> = asks
        .iter()
        .zip(ideal)
        .filter(|(_, ideal)| **ideal > 0.0)
        .map(|(asks, ideal)| received.get(&team(asks.name)).map_or(0.0, Duration::as_secs_f64) / ideal)
        .collect();
    let (sum, squares) = ratios.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    if squares == 0.0 { 1.0 } else { sum * sum / (ratios.len() as f64 * squares) }
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

fn of_team(outcome: &Outcome, arrivals: &[Asked], name: &str) -> Vec<Duration> {
    let pairs = outcome.took.iter().zip(arrivals).filter(|(_, asked)| asked.share.flow == team(name));
    pairs.filter_map(|(took, _)| *took).collect()
}

fn asks(name: &'static str, weight: u32, load: f64, zones: std::ops::RangeInclusive<u32>) -> Asks {
    Asks { name, weight, clients: 4, load, zones, burst: 1 }
}

/// Whatever is asked, under every strategy: each query comes to its end, and no core idles while one waits.
#[test]
fn nobody_starves_and_no_core_idles() {
    for seed in 0..2_000 {
        let mut random = Rng::with_seed(seed);
        let cores = random.usize(1..=4);
        let teams: Vec<Asks> = ["a", "b", "c", "d", "e"][..random.usize(2..=5)]
            .iter()
            .map(|name| {
                let longest = random.u32(1..30);
                let asks = asks(name, random.u32(1..=4), random.f64() * 2.0, 1..=longest);
                Asks { clients: random.u64(1..6), burst: random.u32(1..20), ..asks }
            })
            .collect();
        let arrivals = arrivals(&teams, cores, Duration::from_millis(20), &mut random);
        let line = &STRATEGIES[seed as usize % STRATEGIES.len()];
        simulate(line.name, cores, &arrivals, Duration::from_secs(1));
    }
}

/// Teams that all want more than there is get cores by their weights, whatever their queries cost.
#[test]
fn saturating_teams_share_by_weight() {
    let until = Duration::from_millis(1500);
    for seed in 0..5 {
        let mut random = Rng::with_seed(seed);
        let teams = [asks("a", 1, 2.0, 1..=4), asks("b", 2, 2.0, 1..=60), asks("c", 4, 2.0, 10..=20)];
        let arrivals = arrivals(&teams, 2, until, &mut random);
        let worst = |strategy: &str| {
            // After the ramp, while all still have a backlog.
            let outcome = simulate(strategy, 2, &arrivals, Duration::from_millis(100));
            let of = |asks: &Asks| {
                let windows = &outcome.received[3..15];
                windows.iter().filter_map(|window| window.get(&team(asks.name))).sum::<Duration>().as_secs_f64()
            };
            let sum: f64 = teams.iter().map(of).sum();
            teams.iter().map(|asks| (of(asks) / sum * 7.0 / f64::from(asks.weight) - 1.0).abs()).fold(0.0, f64::max)
        };
        let (fair, fifo) = (worst("fair_queue"), worst("fifo"));
        assert!(fair <= 0.05, "{fair} off the weights, seed {seed}");
        assert!(fifo > 0.2, "fifo is only {fifo} off, seed {seed}");
    }
}

/// The same at every moment: while all have something waiting, no team is further behind what its weight gives it than some
/// zones, whatever weights there are and however long queries are. Nor further ahead, or another would be behind.
#[test]
fn no_team_lags_behind_its_weight_by_more_than_some_zones() {
    // Four teams have fewer together than the queue has places.
    const QUERIES: u32 = 45;
    for seed in 0..2_000 {
        let mut random = Rng::with_seed(seed);
        let cores = random.usize(1..=4);
        let teams: Vec<Asks> = ["a", "b", "c", "d"][..random.usize(2..=4)]
            .iter()
            .map(|name| {
                let shortest = random.u32(1..8);
                Asks { clients: random.u64(1..6), ..asks(name, random.u32(1..=4), 0.0, shortest..=shortest * 2) }
            })
            .collect();
        // All of it waits from the start.
        let mut arrivals = Vec::new();
        for asks in &teams {
            arrivals.extend((0..QUERIES).map(|_| {
                let (flow, client) = (team(asks.name), random.u64(0..asks.clients));
                let share = Share { flow, client, query: QueryId(0), weight: asks.weight };
                Asked { at: Duration::ZERO, share, zones: random.u32(asks.zones.clone()) }
            }));
        }
        random.shuffle(&mut arrivals);
        (0..).zip(&mut arrivals).for_each(|(id, asked)| asked.share.query = QueryId(id));
        let outcome = simulate("fair_queue", cores, &arrivals, ZONE);

        let weights: f64 = teams.iter().map(|asks| f64::from(asks.weight)).sum();
        let part = |asks: &Asks| f64::from(asks.weight) / weights;
        let work = |asks: &Asks| -> u32 {
            arrivals.iter().filter(|asked| asked.share.flow == team(asks.name)).map(|asked| asked.zones).sum()
        };
        // Until the first has less than a few queries left.
        let lasts = |asks: &Asks| f64::from(work(asks)) / (part(asks) * cores as f64) * 0.7;
        let until = teams.iter().map(lasts).fold(f64::INFINITY, f64::min) as usize;
        let mut got = vec![0.0; teams.len()];
        for (at, received) in outcome.received.iter().enumerate().take(until) {
            for (asks, got) in teams.iter().zip(&mut got) {
                *got += received.get(&team(asks.name)).map_or(0.0, |time| time.as_secs_f64() / ZONE.as_secs_f64());
                let lag = part(asks) * (at * cores) as f64 - *got;
                let zones_max = (teams.len() + 2 * cores) as f64;
                assert!(
                    lag <= zones_max,
                    "{} of {teams:?} lags {lag} zones at {at}, {cores} cores, seed {seed}",
                    asks.name
                );
            }
        }
        assert!(until > 10, "{until} ms are not worth a look, seed {seed}");
    }
}

/// A modest team beside one that asks for ten times the node: it gets what it asks for as if it were nearly alone, and
/// in every window both get what they should. First come, first served gives neither.
#[test]
fn a_modest_team_is_not_hurt_by_a_greedy_one() {
    let (until, window) = (Duration::from_secs(3), Duration::from_secs(1));
    for seed in 0..8 {
        let mut random = Rng::with_seed(seed);
        let teams = [asks("modest", 1, 0.3, 1..=4), asks("greedy", 1, 10.0, 1..=40)];
        let both = arrivals(&teams, 2, until, &mut random);
        let alone: Vec<Asked> = both.iter().filter(|asked| asked.share.flow == team("modest")).cloned().collect();
        let ideal = ideal(&teams, 2, &both, window, 3);
        let figures = |strategy: &str| {
            let outcome = simulate(strategy, 2, &both, window);
            let jain = (0..3).map(|at| jain(&outcome.received[at], &ideal[at], &teams)).fold(1.0, f64::min);
            (jain, percentile(of_team(&outcome, &both, "modest"), 99), outcome)
        };
        let p99_alone = percentile(simulate("fair_queue", 2, &alone, window).took.into_iter().flatten().collect(), 99);
        let bound = p99_alone.mul_f64(1.5).max(p99_alone + Duration::from_millis(5));
        let (fair, p99, outcome) = figures("fair_queue");
        assert!(fair >= 0.98, "Jain's index {fair}, seed {seed}");
        assert!(p99 <= bound, "p99 {p99:?}, alone {p99_alone:?}, seed {seed}");
        assert_eq!(of_team(&outcome, &both, "modest").len(), alone.len(), "none refused, seed {seed}");
        let (unfair, p99, outcome) = figures("fifo");
        assert!(unfair < 0.9 && p99 > bound, "fifo: {unfair}, {p99:?}, seed {seed}");
        assert!(of_team(&outcome, &both, "modest").len() < alone.len(), "fifo refuses the modest, seed {seed}");
    }
}

/// Fairness costs nothing: all is done at the same time as first come, first served would have it done.
#[test]
fn total_goodput_is_that_of_fifo() {
    for seed in 0..100 {
        let mut random = Rng::with_seed(seed);
        let teams = [asks("a", 1, 0.9, 1..=10), asks("b", 3, 0.9, 1..=30)];
        let arrivals = arrivals(&teams, 2, Duration::from_millis(60), &mut random);
        let [fair, fifo] = ["fair_queue", "fifo"].map(|name| simulate(name, 2, &arrivals, Duration::from_secs(1)));
        assert_eq!((fair.refused, fifo.refused), (0, 0), "seed {seed}");
        // A giant that ends last may end alone on one core.
        assert!(fair.end <= fifo.end + ZONE * 4, "{:?} and {:?}, seed {seed}", fair.end, fifo.end);
    }
}
