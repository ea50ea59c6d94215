//! The scenarios of the table as runs of the generator: who sends what, how often, for how long.
//!
//! Loads are multiples of what the machine can do, which is measured first: a team's *share* is half of the scans that
//! a closed loop gets done. The modest team sends scans at equal distances, half of its share, and a few small queries
//! at random. At random its scans would queue behind each other, more so on half a machine than on a whole one, and a
//! slowdown of more than two would be nobody's fault; at equal distances of four times a scan's length they only do if
//! they get less than their share. Nearer to its share it would not be modest: a part of the machine goes into sending,
//! taking in and refusing what the greedy team asks for beyond its own, and half of the rest is less than the share.

use std::sync::Arc;
use std::time::Duration;

use super::measures::{AFTER, BEFORE, Costs, DEADLINE, FIVEFOLD, GREEDY, MODEST, WEIGHTED};
use crate::cli::bench::load::generator::{Run, Source};
use crate::cli::bench::load::request::{Manner, Question};
use crate::cli::bench::load::schedule::{Pace, Timing, Weighted};
use crate::delivery::encoding;
use crate::routing::Team;

/// Small queries of the modest team, a second.
const SMALL_RATE: f64 = 60.0;
/// Requests of one source under way at the most: more than all places of the queue and of running queries.
const OUTSTANDING_MAX: usize = 600;
/// What a closed loop has under way: enough to keep the machine busy, few enough to keep it quick.
const SCANS_AT_ONCE: usize = 8;
const SMALLS_AT_ONCE: usize = 4;
/// The time of a request in the overload: what has to wait longer is worth nothing.
const OVERLOAD_DEADLINE: Duration = Duration::from_secs(2);
/// How long answers are waited for after the last request was due. What runs at the end of the measured time has received
/// a part of its cost by then, which counts only if it ends: so it must be able to, under the smallest weight as well.
const GRACE: Duration = Duration::from_secs(1);
/// The same where goodput is compared with that of first come, first served, which runs all that it has at the same time:
/// if some of it were cut off, others not, by their luck, what they received in the measured time would come out too high
/// or too low.
const GRACE_FOR_ALL: Duration = DEADLINE;
/// What a team has under way that always wants more: many times what it takes to keep the machine busy, and so many that
/// nothing is refused, so that strategies are compared by nothing but how they work.
const SATURATING: usize = 40;
/// The measured time of a run of that comparison; there are several in turn.
const COMPARED: Duration = Duration::from_secs(2);
/// The modest team's scans, in parts of its share.
const MODEST_PART: f64 = 0.5;

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    pub warm_up: Duration,
    pub peak: Duration,
    pub run: Duration,
    /// One stage of the overload below the last.
    pub stage: Duration,
    pub fivefold: Duration,
    pub after: Duration,
    pub cancels: usize,
}

impl Lengths {
    /// For figures to go by.
    pub const FULL: Lengths = Lengths {
        warm_up: Duration::from_millis(700),
        peak: Duration::from_millis(2000),
        run: Duration::from_secs(4),
        stage: Duration::from_millis(500),
        fivefold: Duration::from_millis(3000),
        after: Duration::from_millis(4000),
        cancels: 40,
    };
    /// Half of it; for a first look.
    pub const QUICK: Lengths = Lengths {
        warm_up: Duration::from_millis(500),
        peak: Duration::from_millis(1000),
        run: Duration::from_secs(2),
        stage: Duration::from_millis(400),
        fivefold: Duration::from_millis(1500),
        after: Duration::from_millis(3000),
        cancels: 30,
    };
}

/// What the runs of one strategy are made from.
pub struct Scenarios {
    /// Stands before the scenario in the names of runs.
    pub label: String,
    pub scan: Arc<Question>,
    pub smalls: Vec<Arc<Question>>,
    pub lengths: Lengths,
    pub seed: u64,
}

impl Scenarios {
    /// As many scans as can be done.
    pub fn peak_scan(&self, name: &str) -> Run {
        self.peak(name, SCANS_AT_ONCE, Weighted::one(Arc::clone(&self.scan)))
    }

    /// As many small queries as can be done.
    pub fn peak_small(&self) -> Run {
        self.peak("peak_small", SMALLS_AT_ONCE, self.small())
    }

    /// The modest team with the machine for itself.
    pub fn alone(&self, costs: Costs) -> Run {
        self.run("alone", self.modest(costs, MODEST_PART))
    }

    /// The modest team beside one that offers so many times its share.
    pub fn equal(&self, name: &str, factor: f64, costs: Costs) -> Run {
        let mut sources = self.modest(costs, MODEST_PART);
        let rate = factor * 0.5 / costs.scan;
        sources.push(self.source(GREEDY, Pace::Poisson { rate }, Weighted::one(Arc::clone(&self.scan))));
        self.run(name, sources)
    }

    /// Three teams of different weights, each of which alone would fill the machine.
    pub fn weights(&self, costs: Costs) -> Run {
        let pace = Pace::Poisson { rate: 1.5 / costs.scan };
        let scans = || Weighted::one(Arc::clone(&self.scan));
        self.run("weights", WEIGHTED.iter().map(|(team, _)| self.source(team, pace, scans())).collect())
    }

    /// The modest team beside one that always wants more, to see what is done in all.
    pub fn saturated(&self, name: &str, costs: Costs) -> Run {
        let mut sources = self.modest(costs, MODEST_PART);
        let greedy = Pace::Closed { at_once: SATURATING, requests: None };
        sources.push(self.source(GREEDY, greedy, Weighted::one(Arc::clone(&self.scan))));
        for source in &mut sources {
            source.timing.until = self.lengths.warm_up + COMPARED.min(self.lengths.run);
        }
        Run { grace: GRACE_FOR_ALL, ..self.run(name, sources) }
    }

    /// Half of the peak, then 1, 2, 3, 5 times the peak without a pause, then half of it again.
    pub fn overload(&self, costs: Costs) -> Run {
        let Lengths { warm_up, stage, fivefold, after, .. } = self.lengths;
        let stages = [
            (BEFORE, 0.5, stage * 2),
            ("scan_1x", 1.0, stage),
            ("scan_2x", 2.0, stage),
            ("scan_3x", 3.0, stage),
            (FIVEFOLD, 5.0, fivefold),
            (AFTER, 0.5, after),
        ];
        let mut from = Duration::ZERO;
        let mut sources = Vec::new();
        for (index, (kind, factor, length)) in stages.into_iter().enumerate() {
            let until = if index == 0 { warm_up + length } else { from + length };
            let named = Question { name: kind.into(), ..(*self.scan).clone() };
            let pace = Pace::Poisson { rate: factor / costs.scan };
            let mut source = self.source(MODEST, pace, Weighted::one(Arc::new(named)));
            source.timing = Timing { pace, from, until };
            source.manner.deadline = OVERLOAD_DEADLINE;
            sources.push(source);
            from = until;
        }
        let mut run = self.run("overload", sources);
        // To fairness a client that comes newly is one more: it would get half, and those that wait would wait twice as long.
        run.sources.iter_mut().for_each(|source| source.client = 0);
        run
    }

    /// Others, beside or without a slow reader: few scans, many small queries.
    pub fn others(&self, name: &str, costs: Costs) -> Run {
        let mut sources = self.modest(costs, MODEST_PART / 2.0);
        for source in &mut sources {
            if let Pace::Poisson { rate } = &mut source.timing.pace {
                *rate = 2.0 * SMALL_RATE;
            }
        }
        self.run(name, sources)
    }

    fn modest(&self, costs: Costs, part: f64) -> Vec<Source> {
        let scans = Pace::Steady { rate: part * 0.5 / costs.scan };
        vec![
            self.source(MODEST, scans, Weighted::one(Arc::clone(&self.scan))),
            self.source(MODEST, Pace::Poisson { rate: SMALL_RATE }, self.small()),
        ]
    }

    fn small(&self) -> Weighted<Arc<Question>> {
        Weighted::new(self.smalls.iter().map(|small| (Arc::clone(small), 1.0)).collect())
    }

    fn peak(&self, name: &str, at_once: usize, questions: Weighted<Arc<Question>>) -> Run {
        let pace = Pace::Closed { at_once, requests: None };
        let mut source = self.source(MODEST, pace, questions);
        source.timing.until = self.lengths.warm_up / 2 + self.lengths.peak;
        let mut run = self.run(name, vec![source]);
        run.warm_up = self.lengths.warm_up / 2;
        run
    }

    fn source(&self, team: &str, pace: Pace, questions: Weighted<Arc<Question>>) -> Source {
        let until = self.lengths.warm_up + self.lengths.run;
        Source {
            client: 0,
            timing: Timing { pace, from: Duration::ZERO, until },
            teams: Weighted::one(Some(Team::from(team))),
            questions,
            manner: Manner { deadline: DEADLINE, retry: false, encoding: encoding::DEFAULT },
            outstanding_max: OUTSTANDING_MAX,
        }
    }

    fn run(&self, name: &str, mut sources: Vec<Source>) -> Run {
        sources.iter_mut().enumerate().for_each(|(index, source)| source.client = index);
        Run {
            name: format!("{}/{name}", self.label).into(),
            sources,
            warm_up: self.lengths.warm_up,
            grace: GRACE,
            seed: self.seed,
        }
    }
}
