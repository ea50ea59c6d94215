//! From records to the figures of the table: what each key means. Pure, so that a file of `--raw` gives them again.
//!
//! A run is named `STRATEGY/SCENARIO`. Wherever a p99 is of all requests of a kind, one that was refused, failed or
//! expired counts as slow as [`DEADLINE`], and one that was still open when the run ended as slow as it was by then:
//! who refuses the slow ones does not become quick.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::shares::{evenness, ideal, received};
use crate::cli::bench::load::figures::{percentile, sorted};
use crate::cli::bench::load::record::{Record, Status};

/// The time of every request of a scenario but those of the overload.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The kinds of queries.
pub const SCAN: &str = "scan";
pub const SMALL: &str = "small";
/// The teams of the first scenarios.
pub const MODEST: &str = "modest";
pub const GREEDY: &str = "greedy";
/// Those of the weights, each with its weight.
pub const WEIGHTED: [(&str, f64); 3] = [("light", 1.0), ("middle", 2.0), ("heavy", 4.0)];
/// Scans before, in and after the overload.
pub const BEFORE: &str = "scan_before";
pub const AFTER: &str = "scan_after";
pub const FIVEFOLD: &str = "scan_5x";
/// What the machine can do, by closed loops: at the beginning, before what depends much on it, and on both sides of the
/// overload. A shared machine is now
/// quicker, now slower, by a fifth and more, so what is compared has to be measured side by side.
pub const PEAK_SCAN: &str = "peak_scan";
pub const OVERLOAD_PEAKS: [&str; 2] = ["peak_before_overload", "peak_after_overload"];
/// The runs in which goodput is compared with that of first come, first served, on the same nodes, in this order.
pub const CONSERVATION: [(&str, Conserving); 4] = [
    ("conservation_1", Conserving::Ours),
    ("conservation_fifo_1", Conserving::Fifo),
    ("conservation_fifo_2", Conserving::Fifo),
    ("conservation_2", Conserving::Ours),
];

/// Whose turn it is in that comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conserving {
    Ours,
    Fifo,
}

/// After an overload it is over when so many requests in a row are well again.
const WELL_IN_A_ROW: usize = 5;

/// What one query of each kind costs, in seconds of the whole machine: by how many a second it does when it does
/// nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Costs {
    pub scan: f64,
    pub small: f64,
}

impl Costs {
    fn of(&self, record: &Record) -> f64 {
        if &*record.kind == SMALL { self.small } else { self.scan }
    }
}

/// One of two equal teams offers many times its share.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Equal {
    /// The mean over windows of a second of Jain's index of received by fair, and the worst window.
    pub jain_1s: f64,
    pub jain_1s_worst: f64,
    /// The same of the least by the greatest.
    pub min_max_share: f64,
    pub min_max_share_worst: f64,
    /// Of the modest team, beside the greedy one and alone.
    pub victim_small_p99_ms: f64,
    pub victim_small_alone_p99_ms: f64,
    pub victim_scan_p99_ms: f64,
    pub victim_scan_alone_p99_ms: f64,
    pub victim_scan_p99_ratio: f64,
}

/// Teams of different weights that all want more than there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Weights {
    /// The greatest deviation of a team's part from that of its weight.
    pub max_share_error: f64,
    /// Each team's part of what was received.
    pub parts: BTreeMap<String, f64>,
}

/// More than there is of everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overload {
    pub goodput_ratio_5x: f64,
    /// Refusals, from when the request was due, all stages; 0 if nothing was refused.
    pub refuse_p99_ms: f64,
    pub refused: u64,
    /// From the end of the overload until requests are as quick as before it; none if they never were.
    pub recovery_s: Option<f64>,
}

/// Somebody who does not read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlowReader {
    /// Small queries of others, beside it by without it.
    pub others_p99_ratio: f64,
    pub others_p99_ms: f64,
    pub others_without_p99_ms: f64,
    pub others_scan_p50_ratio: f64,
}

/// The records of one strategy, by scenario.
pub struct Runs<'a>(BTreeMap<&'a str, Vec<&'a Record>>);

impl<'a> Runs<'a> {
    /// Those of a strategy among all.
    pub fn of(strategy: &str, records: &'a [Record]) -> Runs<'a> {
        let mut runs: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for record in records {
            if let Some((of, scenario)) = record.run.split_once('/')
                && of == strategy
            {
                runs.entry(scenario).or_default().push(record);
            }
        }
        Runs(runs)
    }

    fn run(&self, scenario: &str) -> Option<&[&'a Record]> {
        self.0.get(scenario).map(Vec::as_slice)
    }

    /// What this strategy's closed loops came to.
    pub fn costs(&self) -> Option<Costs> {
        Some(Costs { scan: 1.0 / self.peak(PEAK_SCAN)?, small: 1.0 / self.peak("peak_small")? })
    }

    /// Requests a second that ended well in a closed loop.
    pub fn peak(&self, scenario: &str) -> Option<f64> {
        let run = self.run(scenario)?;
        let ends = sorted(run.iter().filter(|record| record.status == Status::Ok).map(|record| record.end_us as f64));
        let ends: Vec<f64> = ends.into_iter().filter(|end| *end >= 0.0).collect();
        let seconds = (ends.last()? - ends.first()?) / 1e6;
        (seconds > 0.0).then(|| (ends.len() - 1) as f64 / seconds)
    }

    /// Received and fair, in each whole second of a run.
    fn equal(&self, scenario: &str, costs: Costs) -> Option<Equal> {
        let (run, alone) = (self.run(scenario)?, self.run("alone")?);
        let cost = |record: &Record| costs.of(record);
        let received = received(run, cost, windows(run));
        let even = evenness(&received, &ideal(run, cost, &BTreeMap::new(), &received));
        let p99 = |run: &[&Record], kind| p99_ms(run.iter().copied().filter(|record| is_of(record, MODEST, kind)));
        let [scan, scan_alone] = [p99(run, SCAN), p99(alone, SCAN)];
        Some(Equal {
            jain_1s: even.jain,
            jain_1s_worst: even.jain_worst,
            min_max_share: even.min_max,
            min_max_share_worst: even.min_max_worst,
            victim_small_p99_ms: p99(run, SMALL),
            victim_small_alone_p99_ms: p99(alone, SMALL),
            victim_scan_p99_ms: scan,
            victim_scan_alone_p99_ms: scan_alone,
            victim_scan_p99_ratio: scan / scan_alone,
        })
    }

    /// The greedy team offers ten times its share.
    pub fn equal_10x(&self, costs: Costs) -> Option<Equal> {
        self.equal("equal_10x", costs)
    }

    /// The greedy team offers a hundred times its share.
    pub fn equal_100x(&self, costs: Costs) -> Option<Equal> {
        self.equal("equal_100x", costs)
    }

    /// Weights 1:2:4.
    pub fn weights(&self, costs: Costs) -> Option<Weights> {
        let run = self.run("weights")?;
        let received = received(run, |record| costs.of(record), windows(run));
        let of = |team: &str| received.get(team).map_or(0.0, |shares| shares.iter().sum());
        let sum: f64 = WEIGHTED.iter().map(|(team, _)| of(team)).sum();
        let weights: f64 = WEIGHTED.iter().map(|(_, weight)| weight).sum();
        let parts = WEIGHTED.map(|(team, weight)| (team, of(team) / sum, weight / weights));
        let error = parts.iter().map(|(_, part, fair)| (part / fair - 1.0).abs()).fold(0.0, f64::max);
        Some(Weights {
            max_share_error: if sum > 0.0 { error } else { 1.0 },
            parts: parts.iter().map(|(team, part, _)| ((*team).to_owned(), *part)).collect(),
        })
    }

    /// Goodput under five times the peak, and what comes after.
    pub fn overload(&self) -> Option<Overload> {
        let run = self.run("overload")?;
        let beside: Vec<f64> = OVERLOAD_PEAKS.iter().filter_map(|name| self.peak(name)).collect();
        let peak = match beside.len() {
            0 => self.peak(PEAK_SCAN)?,
            count => beside.iter().sum::<f64>() / count as f64,
        };
        let due = |kind: &str| {
            let of_kind = run.iter().filter(|record| &*record.kind == kind).map(|record| record.due_us);
            Some((of_kind.clone().min()?, of_kind.max()?))
        };
        let (from, to) = due(FIVEFOLD)?;
        let good = run.iter().filter(|record| record.status == Status::Ok && (from..to).contains(&record.end_us));
        let refused = run.iter().filter(|record| record.status == Status::Refused);
        let refusals = sorted(refused.map(|record| record.latency_ms()));
        Some(Overload {
            goodput_ratio_5x: good.count() as f64 / ((to - from) as f64 / 1e6) / peak,
            refuse_p99_ms: percentile(&refusals, 99.0),
            refused: refusals.len() as u64,
            recovery_s: recovery_s(run, to),
        })
    }

    /// Others beside a slow reader.
    pub fn slow_reader(&self) -> Option<SlowReader> {
        let (without, with) = (self.run("slow_reader_without")?, self.run("slow_reader")?);
        let small = |run: &[&Record]| p99_ms(run.iter().copied().filter(|record| is_of(record, MODEST, SMALL)));
        let scan = |run: &[&Record]| {
            let scans = run.iter().copied().filter(|record| is_of(record, MODEST, SCAN));
            percentile(&sorted(scans.map(slowness_ms)), 50.0)
        };
        Some(SlowReader {
            others_p99_ratio: small(with) / small(without),
            others_p99_ms: small(with),
            others_without_p99_ms: small(without),
            others_scan_p50_ratio: scan(with) / scan(without),
        })
    }

    /// What all teams received together beside one that always wants more, by what they received when it was first come,
    /// first served.
    pub fn goodput_ratio_fifo(&self, costs: Costs) -> Option<f64> {
        let mean = |which: Conserving| {
            let runs = CONSERVATION.iter().filter(|(_, of)| *of == which);
            let goodputs = runs.map(|(name, _)| self.goodput(name, costs)).collect::<Option<Vec<f64>>>()?;
            Some(goodputs.iter().sum::<f64>() / goodputs.len() as f64)
        };
        Some(mean(Conserving::Ours)? / mean(Conserving::Fifo)?)
    }

    /// In machine seconds a second.
    fn goodput(&self, scenario: &str, costs: Costs) -> Option<f64> {
        let run = self.run(scenario)?;
        let windows = windows(run);
        let received = received(run, |record| costs.of(record), windows);
        let sum: f64 = received.values().flatten().sum();
        (windows > 0).then(|| sum / windows as f64)
    }

    /// From a cancel until nothing of the query is left on any node.
    pub fn freed_p99_ms(&self) -> Option<f64> {
        Some(p99_ms(self.run("cancel")?.iter().copied()))
    }
}

fn is_of(record: &Record, team: &str, kind: &str) -> bool {
    &*record.team == team && &*record.kind == kind && record.is_measured()
}

/// The seconds of a run in which requests were due, the last one rounded up.
fn windows(run: &[&Record]) -> usize {
    let last = run.iter().map(|record| record.due_us).max().unwrap_or(0).max(0);
    (last as f64 / 1e6).ceil() as usize
}

fn slowness_ms(record: &Record) -> f64 {
    match record.status {
        Status::Ok | Status::Open => record.latency_ms(),
        _ => record.latency_ms().max(DEADLINE.as_secs_f64() * 1e3),
    }
}

fn p99_ms<'a>(records: impl Iterator<Item = &'a Record>) -> f64 {
    percentile(&sorted(records.map(slowness_ms)), 99.0)
}

/// When the first of several requests in a row was due that all took at most twice the p99 of before, and 5 ms.
fn recovery_s(run: &[&Record], overload_end_us: i64) -> Option<f64> {
    let before = run.iter().copied().filter(|record| &*record.kind == BEFORE && record.is_measured());
    let well_ms = 2.0 * p99_ms(before) + 5.0;
    let mut after: Vec<&Record> = run.iter().copied().filter(|record| &*record.kind == AFTER).collect();
    after.sort_by_key(|record| record.due_us);
    let is_well = |record: &&Record| record.status == Status::Ok && record.latency_ms() <= well_ms;
    let mut in_a_row = after.windows(WELL_IN_A_ROW).filter(|window| window.iter().all(is_well));
    in_a_row.next().map(|window| (window[0].due_us - overload_end_us).max(0) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::load::record::tests::ended;

    fn of(run: &str, kind: &str, due_ms: i64, end_ms: i64) -> Record {
        Record { run: run.into(), ..ended(MODEST, kind, due_ms, end_ms) }
    }

    #[test]
    fn costs_come_from_closed_loops() {
        let mut records: Vec<Record> = (0..=20).map(|n| of("s/peak_scan", SCAN, n * 50, n * 50 + 50)).collect();
        records.extend((0..=100).map(|n| of("s/peak_small", SMALL, n, n + 1)));
        records.push(of("other/peak_small", SMALL, 0, 90_000));
        let costs = Runs::of("s", &records).costs().unwrap();
        assert!((costs.scan - 0.05).abs() < 1e-9 && (costs.small - 0.001).abs() < 1e-9, "{costs:?}");
        assert_eq!(Runs::of("nobody", &records).costs(), None);
    }

    #[test]
    fn who_refuses_is_not_quick() {
        let refused = Record { status: Status::Refused, ..of("r", SMALL, 0, 1) };
        let mut records: Vec<Record> = (0..197).map(|_| of("r", SMALL, 0, 3)).collect();
        assert_eq!(p99_ms(records.iter()), 3.0);
        records.extend([refused.clone(), refused.clone(), refused]);
        assert_eq!(p99_ms(records.iter()), 5000.0);
        let open = Record { status: Status::Open, ..of("r", SMALL, 0, 70) };
        assert_eq!(p99_ms([open].iter()), 70.0);
    }

    #[test]
    fn recovery_is_when_requests_stay_well() {
        let mut records: Vec<Record> = (0..10).map(|n| of("r", BEFORE, n * 100, n * 100 + 20)).collect();
        // The overload ends at 2 s; until 3 s requests take 200 ms, but one.
        records.extend((0..30).map(|n| {
            let due = 2000 + n * 100;
            let took = if n < 10 && n != 4 { 200 } else { 40 };
            of("r", AFTER, due, due + took)
        }));
        let all: Vec<&Record> = records.iter().collect();
        assert_eq!(recovery_s(&all, 2_000_000), Some(1.0));
        let never: Vec<&Record> = all[..19].to_vec();
        assert_eq!(recovery_s(&never, 2_000_000), None);
    }

    #[test]
    fn parts_are_compared_with_weights() {
        let mut records = Vec::new();
        for (team, each) in [("light", 100), ("middle", 190), ("heavy", 410)] {
            records.extend((0..each).map(|n| Record {
                run: "s/weights".into(),
                run_us: 1000,
                ..ended(team, SCAN, n * 2, n * 2 + 1)
            }));
        }
        let costs = Costs { scan: 0.01, small: 0.001 };
        let found = Runs::of("s", &records).weights(costs).unwrap();
        // 190 of 700 where 200 would be fair.
        assert!((found.max_share_error - 0.05).abs() < 1e-6, "{found:?}");
        assert!((found.parts["heavy"] - 410.0 / 700.0).abs() < 1e-6);
    }

    #[test]
    fn goodput_counts_what_ended_under_five_times_the_peak() {
        let mut records: Vec<Record> = (0..=50).map(|n| of("s/peak_scan", SCAN, n * 20, n * 20 + 20)).collect();
        records.extend((0..10).map(|n| of("s/overload", BEFORE, n * 40, n * 40 + 20)));
        for n in 0..500 {
            let due = 1000 + n * 4;
            let request = of("s/overload", FIVEFOLD, due, due + 300);
            let refused = Record { status: Status::Refused, ..of("s/overload", FIVEFOLD, due, due + 2) };
            records.push(if n % 5 == 0 { request } else { refused });
        }
        records.extend((0..50).map(|n| of("s/overload", AFTER, 3000 + n * 40, 3020 + n * 40)));
        let found = Runs::of("s", &records).overload().unwrap();
        assert_eq!((found.refuse_p99_ms, found.refused), (2.0, 400));
        // 50 a second, but the first come 300 ms after they were due.
        assert!((found.goodput_ratio_5x - 0.85).abs() < 0.01, "{found:?}");
        // The overload ends with its last request.
        assert!(found.recovery_s.unwrap() < 0.01, "{found:?}");
    }
}
