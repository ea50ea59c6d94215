//! The scenarios on a machine that is simulated, once shared out fairly and once first come first served: the figures,
//! computed from a file of requests alone, must praise the one and catch the other. No time passes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::bench::load::generator::Run;
use crate::cli::bench::load::record::{self, Record, Status};
use crate::cli::bench::load::request::Question;
use crate::cli::bench::load::schedule::{Pace, Schedule, Timing};
use crate::routing::Team;

use super::goals::Goal;
use super::measures::{CONSERVATION, Conserving, Costs, PEAK_SCAN, SMALL, WEIGHTED};
use super::scenarios::{Lengths, Scenarios};
use super::{FIFO, columns, data, outcomes_of};

const STEP_US: i64 = 250;
const QUEUE_MAX: usize = 200;
const SCAN_US: f64 = 40_000.0;
const SMALL_US: f64 = 250.0;
/// What the way there and back adds.
const WIRE_US: i64 = 400;

/// Every team of the scenarios.
const TEAMS: [&str; 5] = ["modest", "greedy", "light", "middle", "heavy"];

struct Job {
    record: Record,
    /// In [`TEAMS`].
    team: usize,
    /// Of the run.
    source: usize,
    left_us: f64,
    begun: Option<i64>,
}

/// Serves a run with one machine. `fair`: each step goes to the teams by weight, inside a team to small queries first;
/// else to whoever came first, and a full queue refuses.
fn serve(run: &Run, fair: bool) -> Vec<Record> {
    let timings: Vec<Timing> = run.sources.iter().map(|source| source.timing).collect();
    let mut random = fastrand::Rng::with_seed(run.seed);
    let warm_up = run.warm_up.as_micros() as i64;
    let of_source = |(source, timing): (usize, &Timing)| {
        Schedule::new(*timing, run.seed, source).map(move |due| (due.as_micros() as i64, source))
    };
    let mut due: Vec<(i64, usize)> = timings.iter().enumerate().flat_map(of_source).collect();
    due.sort_unstable();
    let mut due = VecDeque::from(due);
    // Those of closed loops, in order as well.
    let mut next_of_loops = VecDeque::new();
    for (source, timing) in timings.iter().enumerate() {
        if let Pace::Closed { at_once, .. } = timing.pace {
            (0..at_once).for_each(|_| next_of_loops.push_back((0, source)));
        }
    }
    let end = timings.iter().map(|timing| timing.until).max().unwrap_or_default() + run.grace;
    let mut waiting: Vec<Job> = Vec::new();
    let mut ended = Vec::new();
    let mut served = [0.0; TEAMS.len()];
    for now in (0..end.as_micros() as i64).step_by(STEP_US as usize) {
        let is_due = |(at, _): &mut (i64, usize)| *at <= now;
        while let Some((at, index)) = due.pop_front_if(is_due).or_else(|| next_of_loops.pop_front_if(is_due)) {
            let source = &run.sources[index];
            let team = source.teams.choose(&mut random).as_ref().map_or("none", Team::as_str).to_owned();
            let kind = Arc::clone(&source.questions.choose(&mut random).name);
            let record = Record {
                run: Arc::clone(&run.name),
                team: team.as_str().into(),
                due_us: at - warm_up,
                start_us: at - warm_up,
                end_us: at - warm_up + WIRE_US,
                run_us: 0,
                rows: 1,
                bytes: 1,
                tries: 1,
                status: Status::Refused,
                kind,
            };
            let team = TEAMS.iter().position(|name| *name == team).expect("the scenarios have these teams");
            let of_team = waiting.iter().filter(|job| job.team == team).count();
            let is_full = if fair { of_team >= QUEUE_MAX } else { waiting.len() >= QUEUE_MAX };
            if is_full {
                ended.push(record);
                continue;
            }
            let left_us = if &*record.kind == SMALL { SMALL_US } else { SCAN_US };
            waiting.push(Job { record, team, source: index, left_us, begun: None });
        }
        let next = if fair { fairest(&waiting, &mut served) } else { (!waiting.is_empty()).then_some(0) };
        let Some(next) = next else { continue };
        let job = &mut waiting[next];
        job.left_us -= STEP_US as f64;
        let begun = *job.begun.get_or_insert(now);
        if job.left_us <= 0.0 {
            let Job { mut record, source, .. } = waiting.remove(next);
            record.end_us = now + STEP_US - warm_up + WIRE_US;
            record.run_us = (now + STEP_US - begun) as u64;
            record.status = Status::Ok;
            ended.push(record);
            let timing = &timings[source];
            if matches!(timing.pace, Pace::Closed { .. }) && now < timing.until.as_micros() as i64 {
                next_of_loops.push_back((now + STEP_US, source));
            }
        }
    }
    ended.extend(waiting.into_iter().map(|job| Record {
        end_us: end.as_micros() as i64 - warm_up,
        status: Status::Open,
        ..job.record
    }));
    ended.sort_by_key(|record| record.due_us);
    ended
}

/// The job of the team that was served least for its weight; inside it a small query, else the oldest.
fn fairest(waiting: &[Job], served: &mut [f64; TEAMS.len()]) -> Option<usize> {
    let weight =
        |team: usize| WEIGHTED.iter().find(|(name, _)| *name == TEAMS[team]).map_or(1.0, |(_, weight)| *weight);
    let active: Vec<usize> = (0..TEAMS.len()).filter(|team| waiting.iter().any(|job| job.team == *team)).collect();
    let team = *active.iter().min_by(|a, b| served[**a].total_cmp(&served[**b]))?;
    served[team] += STEP_US as f64 / weight(team);
    // Who had nothing to do has saved nothing up.
    let least = active.iter().map(|team| served[*team]).fold(f64::INFINITY, f64::min);
    for idle in (0..TEAMS.len()).filter(|team| !active.contains(team)) {
        served[idle] = served[idle].max(least);
    }
    let of_team = || waiting.iter().enumerate().filter(|(_, job)| job.team == team).map(|(at, _)| at);
    of_team().find(|at| &*waiting[*at].record.kind == SMALL).or_else(|| of_team().next())
}

fn all_runs(label: &str, fair: bool) -> Vec<Record> {
    let point = Question { expected: Some(1), ..data::point("840", "PM2.5", "2020-08-10T01:00:00") };
    let scenarios = Scenarios {
        label: label.to_owned(),
        scan: Arc::new(data::scan("OZONE")),
        smalls: vec![Arc::new(point)],
        lengths: Lengths { run: Duration::from_secs(4), ..Lengths::QUICK },
        seed: 11,
    };
    let costs = Costs { scan: SCAN_US / 1e6, small: SMALL_US / 1e6 };
    let runs = [
        scenarios.peak_scan(PEAK_SCAN),
        scenarios.peak_small(),
        scenarios.alone(costs),
        scenarios.equal("equal_10x", 10.0, costs),
        scenarios.equal("equal_100x", 100.0, costs),
        scenarios.weights(costs),
        scenarios.others("slow_reader_without", costs),
        scenarios.others("slow_reader", costs),
    ];
    let conservation = CONSERVATION
        .iter()
        .filter(|_| fair)
        .flat_map(|(name, which)| serve(&scenarios.saturated(name, costs), *which == Conserving::Ours));
    runs.iter().flat_map(|run| serve(run, fair)).chain(conservation).collect()
}

/// What is printed is what the file says: neither the strategies' own figures nor those of one beside the other need
/// anything else.
#[test]
fn figures_from_a_file_are_those_that_were_printed() {
    let records: Vec<Record> = [all_runs("fair", true), all_runs(FIFO, false)].concat();
    let printed = |outcomes: &[super::Outcome]| {
        let (costs, columns) = columns(outcomes).unwrap();
        super::as_json(&columns, costs, outcomes, serde_json::Map::new())
    };
    let mut file = Vec::new();
    record::write(&records, &mut file).unwrap();
    let again = outcomes_of(record::read(&String::from_utf8(file).unwrap()).unwrap());
    let measured = printed(&outcomes_of(records));
    assert_eq!(printed(&again), measured);
    for key in ["equal_10x", "equal_100x", "weights", "slow_reader", "conservation", FIFO] {
        assert!(measured.contains(&format!("{key:?}: {{")), "{key} is not in {measured}");
    }
    // And not of anything: a request that ended later is seen.
    let mut other = again;
    let at = other[0].records.iter().position(|record| &*record.kind == SMALL && record.is_measured()).unwrap();
    other[0].records.iter_mut().skip(at).for_each(|record| record.end_us += 50_000);
    assert_ne!(printed(&other), measured);
}

#[test]
fn figures_from_a_file_praise_the_fair_and_catch_first_come_first_served() {
    let mut file = Vec::new();
    let records: Vec<Record> = [all_runs("fair", true), all_runs(FIFO, false)].concat();
    record::write(&records, &mut file).unwrap();
    let outcomes = outcomes_of(record::read(&String::from_utf8(file).unwrap()).unwrap());
    let (costs, columns) = columns(&outcomes).unwrap();
    assert!((costs.scan / (SCAN_US / 1e6) - 1.0).abs() < 0.03, "{costs:?}");
    let goals: Vec<(&str, Vec<Goal>)> =
        columns.iter().map(|(label, measured)| (label.as_str(), measured.goals())).collect();
    let table = super::goals::table(&goals);
    let met = |column: usize| goals[column].1.iter().filter(|goal| goal.is_met()).map(|goal| (goal.scenario, goal.key));
    assert_eq!(met(0).count(), goals[0].1.len(), "the fair one reaches everything\n{table}");
    let missed_by_fifo = [
        ("equal_10x", "jain_1s"),
        ("equal_10x", "min_max_share"),
        ("equal_10x", "victim_small_p99_ms"),
        ("equal_10x", "victim_scan_p99_ratio"),
        ("equal_100x", "jain_1s"),
        ("equal_100x", "min_max_share"),
        ("equal_100x", "victim_small_p99_ms"),
        ("equal_100x", "victim_scan_p99_ratio"),
        ("weights", "max_share_error"),
    ];
    for missed in missed_by_fifo {
        assert!(!met(1).any(|met| met == missed), "{missed:?} is met first come first served\n{table}");
    }
}
