//! What each team received in each second, and what would have been fair. Pure.
//!
//! *Received.* A request that ended well is worth the cost of its kind, spread evenly over the time in which the Leader
//! worked on it: from its end back by the footer's time without the queue. What was refused or broken off is worth
//! nothing, whatever it cost.
//!
//! *Fair.* A server that is fluid hands out, in each second, exactly what the real one handed out, but by max-min: in
//! each millisecond among the teams that have work waiting, by weight, and what one does not need goes to the others.
//! Work waits there from when it was due. So a team that asks for little is measured against what it asked for, a team
//! that asks for a hundred times its share against the rest, and neither the clock's edges nor a request's length are
//! taken for unfairness. How much was handed out in all is not judged here: see work conservation.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cli::bench::load::figures::{jain, min_max};
use crate::cli::bench::load::record::{Record, Status};

const STEPS_PER_WINDOW: usize = 1000;
const WINDOW_US: f64 = 1e6;

/// One number a team and window of a second.
pub type PerWindow = BTreeMap<Arc<str>, Vec<f64>>;

/// What the requests of these teams received. `cost` is that of a kind of query, in seconds of the whole machine.
pub fn received(records: &[&Record], cost: impl Fn(&Record) -> f64, windows: usize) -> PerWindow {
    let mut received = PerWindow::new();
    for record in records {
        let shares = received.entry(Arc::clone(&record.team)).or_insert_with(|| vec![0.0; windows]);
        if record.status != Status::Ok {
            continue;
        }
        // A request that took no time that could be measured counts where it ended.
        let length = (record.run_us as f64).max(1.0);
        let end = record.end_us as f64;
        for (window, share) in shares.iter_mut().enumerate() {
            let from = window as f64 * WINDOW_US;
            let overlap = (end.min(from + WINDOW_US) - (end - length).max(from)).max(0.0);
            *share += cost(record) * overlap / length;
        }
    }
    received
}

/// What the fluid server would have given. Teams without a weight have 1.
pub fn ideal(
    records: &[&Record],
    cost: impl Fn(&Record) -> f64,
    weights: &BTreeMap<&str, f64>,
    received: &PerWindow,
) -> PerWindow {
    let teams: Vec<&Arc<str>> = received.keys().collect();
    let weight: Vec<f64> = teams.iter().map(|team| weights.get(&***team).copied().unwrap_or(1.0)).collect();
    let windows = received.values().map(Vec::len).max().unwrap_or(0);
    let mut due: Vec<(i64, usize, f64)> = records
        .iter()
        .filter_map(|record| {
            let team = teams.iter().position(|team| **team == record.team)?;
            Some((record.due_us, team, cost(record)))
        })
        .collect();
    due.sort_by_key(|(due_us, ..)| *due_us);
    let mut due = due.into_iter().peekable();

    let mut waiting = vec![0.0; teams.len()];
    let mut given = vec![vec![0.0; windows]; teams.len()];
    // What came in the warm-up was served in the warm-up, or is too old to be waited for.
    while due.next_if(|(due_us, ..)| *due_us < 0).is_some() {}
    for window in 0..windows {
        let handed_out: f64 = received.values().map(|shares| shares[window]).sum();
        for step in 0..STEPS_PER_WINDOW {
            let now = ((window * STEPS_PER_WINDOW + step) as f64 * WINDOW_US / STEPS_PER_WINDOW as f64) as i64;
            while let Some((_, team, work)) = due.next_if(|(due_us, ..)| *due_us <= now) {
                waiting[team] += work;
            }
            let shares = max_min(handed_out / STEPS_PER_WINDOW as f64, &waiting, &weight);
            for (team, share) in shares.into_iter().enumerate() {
                waiting[team] -= share;
                given[team][window] += share;
            }
        }
    }
    teams.into_iter().cloned().zip(given).collect()
}

/// Divides an amount by weight among those who want some, none getting more than it wants.
fn max_min(amount: f64, wants: &[f64], weights: &[f64]) -> Vec<f64> {
    let mut shares = vec![0.0; wants.len()];
    let mut left = amount;
    let mut open: Vec<usize> = (0..wants.len()).filter(|index| wants[*index] > 0.0).collect();
    // Each round satisfies somebody or gives everything away.
    while !open.is_empty() && left > 0.0 {
        let per_weight = left / open.iter().map(|index| weights[*index]).sum::<f64>();
        let (full, hungry): (Vec<usize>, Vec<usize>) =
            open.iter().partition(|index| wants[**index] <= per_weight * weights[**index]);
        if full.is_empty() {
            hungry.iter().for_each(|index| shares[*index] = per_weight * weights[*index]);
            break;
        }
        for index in full {
            shares[index] = wants[index];
            left -= wants[index];
        }
        open = hungry;
    }
    shares
}

/// How even the windows were: the means and the worst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evenness {
    pub jain: f64,
    pub jain_worst: f64,
    pub min_max: f64,
    pub min_max_worst: f64,
}

/// Compares, window by window, what each team received by what was fair. Windows in which nobody was due anything
/// say nothing; 0 if all are such.
pub fn evenness(received: &PerWindow, ideal: &PerWindow) -> Evenness {
    let windows = ideal.values().map(Vec::len).max().unwrap_or(0);
    let ratios = (0..windows).filter_map(|window| {
        let of = |team: &Arc<str>| {
            let fair = ideal[team][window];
            (fair > 1e-9).then(|| received.get(team).map_or(0.0, |shares| shares[window]) / fair)
        };
        let ratios: Vec<f64> = ideal.keys().filter_map(of).collect();
        (!ratios.is_empty()).then_some(ratios)
    });
    let (jains, min_maxes): (Vec<f64>, Vec<f64>) = ratios.map(|ratios| (jain(&ratios), min_max(&ratios))).unzip();
    if jains.is_empty() {
        return Evenness { jain: 0.0, jain_worst: 0.0, min_max: 0.0, min_max_worst: 0.0 };
    }
    let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len() as f64;
    let worst = |numbers: &[f64]| numbers.iter().copied().fold(f64::INFINITY, f64::min);
    Evenness {
        jain: mean(&jains),
        jain_worst: worst(&jains),
        min_max: mean(&min_maxes),
        min_max_worst: worst(&min_maxes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::load::record::tests::ended;

    fn close(found: &[f64], expected: &[f64]) {
        let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(same, "{found:?} is not {expected:?}");
    }

    #[test]
    fn an_amount_is_divided_by_need_and_weight() {
        let check = |amount, wants: &[f64], weights: &[f64], expected: &[f64]| {
            close(&max_min(amount, wants, weights), expected);
        };
        check(10.0, &[2.0, 8.0], &[1.0, 1.0], &[2.0, 8.0]);
        check(10.0, &[2.0, 80.0], &[1.0, 1.0], &[2.0, 8.0]);
        check(10.0, &[50.0, 80.0], &[1.0, 1.0], &[5.0, 5.0]);
        check(7.0, &[50.0, 80.0, 50.0], &[1.0, 2.0, 4.0], &[1.0, 2.0, 4.0]);
        check(7.0, &[50.0, 80.0, 1.0], &[1.0, 2.0, 4.0], &[2.0, 4.0, 1.0]);
        check(7.0, &[50.0, 80.0, 3.0], &[1.0, 2.0, 4.0], &[4.0 / 3.0, 8.0 / 3.0, 3.0]);
        check(10.0, &[1.0, 2.0], &[1.0, 1.0], &[1.0, 2.0]);
        check(10.0, &[0.0, 0.0], &[1.0, 1.0], &[0.0, 0.0]);
        check(0.0, &[1.0, 1.0], &[1.0, 1.0], &[0.0, 0.0]);
        check(1.0, &[], &[], &[]);
    }

    #[test]
    fn a_request_counts_in_the_windows_it_ran_in() {
        let records = [
            ended("a", "q", 500, 1500),
            ended("a", "q", 2000, 2100),
            ended("b", "q", -100, 100),
            ended("b", "q", 0, 9),
        ];
        let refused = Record { status: Status::Refused, ..records[3].clone() };
        let all: Vec<&Record> = records[..3].iter().chain([&refused]).collect();
        let found = received(&all, |_| 2.0, 3);
        close(&found["a"], &[1.0, 1.0, 2.0]);
        close(&found["b"], &[1.0, 0.0, 0.0]);
    }

    /// Two teams: `a` offers 40 small requests a second, `b` as much as there is. `given` says how many of a
    /// second's 100 requests `a` gets.
    fn run(given: i64) -> Evenness {
        let mut records = Vec::new();
        for second in 0..3 {
            for index in 0..40 {
                let due = second * 1000 + index * 25;
                let mut record = ended("a", "q", due, due + 10);
                if index >= given {
                    record.status = Status::Refused;
                }
                records.push(record);
            }
            for index in 0..1000 {
                let due = second * 1000 + index;
                let mut record = ended("b", "q", due, due + 10);
                if index % 10 != 0 || index / 10 >= 100 - given {
                    record.status = Status::Refused;
                }
                records.push(record);
            }
        }
        let all: Vec<&Record> = records.iter().collect();
        let received = received(&all, |_| 0.01, 3);
        let ideal = ideal(&all, |_| 0.01, &BTreeMap::new(), &received);
        evenness(&received, &ideal)
    }

    #[test]
    fn a_modest_team_that_gets_what_it_asks_for_is_treated_fairly() {
        let fair = run(40);
        assert!(fair.jain > 0.999 && fair.min_max > 0.95, "{fair:?}");
        let unfair = run(4);
        assert!(unfair.jain < 0.75 && unfair.min_max < 0.1, "{unfair:?}");
        assert!(unfair.jain_worst <= unfair.jain && unfair.min_max_worst <= unfair.min_max);
    }

    #[test]
    fn weights_shape_what_is_fair() {
        let mut records = Vec::new();
        for index in 0..500 {
            records.push(ended("light", "q", index * 2, index * 2 + 1));
            records.push(ended("heavy", "q", index * 2, index * 2 + 1));
        }
        let all: Vec<&Record> = records.iter().collect();
        let mut received = PerWindow::new();
        received.insert("light".into(), vec![2.0]);
        received.insert("heavy".into(), vec![6.0]);
        let weights = BTreeMap::from([("light", 1.0), ("heavy", 3.0)]);
        let found = ideal(&all, |_| 1.0, &weights, &received);
        close(&found["light"], &[2.0]);
        close(&found["heavy"], &[6.0]);
        assert!(evenness(&received, &found).jain > 0.999_999);
    }

    #[test]
    fn nothing_to_compare_is_not_fair() {
        assert_eq!(evenness(&PerWindow::new(), &PerWindow::new()).jain, 0.0);
    }
}
