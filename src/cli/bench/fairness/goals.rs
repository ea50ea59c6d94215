//! The table: which figure is to reach what. A goal that is missed is printed like one that is met.

use serde_json::{Map, Value, json};

use super::measures::{Costs, Equal, Overload, Runs, SlowReader, Weights};
use crate::cli::table::TextTable;

/// What was measured beside the requests of a slow reader.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// The most that all nodes together had resident.
    pub rss_bytes_max: u64,
    /// What they had before, and what results may take.
    pub budget_bytes: u64,
}

/// All figures of one strategy. A scenario that was not run has none.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub equal_10x: Option<Equal>,
    pub equal_100x: Option<Equal>,
    pub weights: Option<Weights>,
    pub overload: Option<Overload>,
    pub slow_reader: Option<SlowReader>,
    pub memory: Option<Memory>,
    pub goodput_ratio_fifo: Option<f64>,
    pub freed_p99_ms: Option<f64>,
}

impl Measured {
    /// Computes them. Costs are passed in, so that two strategies are measured by one measure.
    pub fn of(runs: &Runs, costs: Costs, memory: Option<Memory>) -> Measured {
        Measured {
            equal_10x: runs.equal_10x(costs),
            equal_100x: runs.equal_100x(costs),
            weights: runs.weights(costs),
            overload: runs.overload(),
            slow_reader: runs.slow_reader(),
            memory,
            goodput_ratio_fifo: runs.goodput_ratio_fifo(costs),
            freed_p99_ms: runs.freed_p99_ms(),
        }
    }

    /// The figures under their keys.
    pub fn json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut add = |key: &str, value: Value| {
            if !value.is_null() {
                object.insert(key.to_owned(), value);
            }
        };
        add("equal_10x", json!(self.equal_10x));
        add("equal_100x", json!(self.equal_100x));
        add("weights", json!(self.weights));
        add("overload", json!(self.overload));
        let mut slow_reader = json!(self.slow_reader);
        if let (Some(memory), Some(fields)) = (self.memory, slow_reader.as_object_mut()) {
            fields.insert("rss_bytes_max".to_owned(), json!(memory.rss_bytes_max));
            fields.insert("rss_bytes_budget".to_owned(), json!(memory.budget_bytes));
        }
        add("slow_reader", slow_reader);
        add(
            "conservation",
            self.goodput_ratio_fifo.map_or(Value::Null, |ratio| json!({ "goodput_ratio_fifo": ratio })),
        );
        add("cancel", self.freed_p99_ms.map_or(Value::Null, |ms| json!({ "freed_p99_ms": ms })));
        object
    }

    /// Every goal whose scenario was run.
    pub fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (scenario, equal) in [("equal_10x", &self.equal_10x), ("equal_100x", &self.equal_100x)] {
            let Some(equal) = equal else { continue };
            let alone = equal.victim_small_alone_p99_ms;
            goals.extend([
                Goal::at_least(scenario, "jain_1s", equal.jain_1s, 0.98),
                Goal::at_least(scenario, "min_max_share", equal.min_max_share, 0.95),
                Goal::at_most(
                    scenario,
                    "victim_small_p99_ms",
                    equal.victim_small_p99_ms,
                    (1.5 * alone).max(alone + 5.0),
                ),
                Goal::at_most(scenario, "victim_scan_p99_ratio", equal.victim_scan_p99_ratio, 2.2),
            ]);
        }
        if let Some(weights) = &self.weights {
            goals.push(Goal::at_most("weights", "max_share_error", weights.max_share_error, 0.05));
        }
        if let Some(overload) = &self.overload {
            let recovery = overload.recovery_s.unwrap_or(f64::INFINITY);
            goals.extend([
                Goal::at_least("overload", "goodput_ratio_5x", overload.goodput_ratio_5x, 0.95),
                Goal::at_most("overload", "refuse_p99_ms", overload.refuse_p99_ms, 10.0),
                Goal::at_most("overload", "recovery_s", recovery, 5.0),
            ]);
        }
        if let Some(slow_reader) = &self.slow_reader {
            goals.push(Goal::at_most("slow_reader", "others_p99_ratio", slow_reader.others_p99_ratio, 1.2));
        }
        if let Some(memory) = self.memory {
            let (most, budget) = (memory.rss_bytes_max as f64, memory.budget_bytes as f64);
            goals.push(Goal::at_most("slow_reader", "rss_bytes_max", most, budget));
        }
        if let Some(ratio) = self.goodput_ratio_fifo {
            goals.push(Goal::at_least("conservation", "goodput_ratio_fifo", ratio, 0.97));
        }
        if let Some(ms) = self.freed_p99_ms {
            goals.push(Goal::at_most("cancel", "freed_p99_ms", ms, 100.0));
        }
        goals
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    pub scenario: &'static str,
    pub key: &'static str,
    pub value: f64,
    pub bound: f64,
    at_least: bool,
}

impl Goal {
    fn at_least(scenario: &'static str, key: &'static str, value: f64, bound: f64) -> Goal {
        Goal { scenario, key, value, bound, at_least: true }
    }

    fn at_most(scenario: &'static str, key: &'static str, value: f64, bound: f64) -> Goal {
        Goal { scenario, key, value, bound, at_least: false }
    }

    /// Whether it is reached. A figure that is no number is not.
    pub fn is_met(&self) -> bool {
        if self.at_least { self.value >= self.bound } else { self.value <= self.bound }
    }
}

/// The goals of each strategy side by side; those of the first decide which lines there are.
pub fn table(columns: &[(&str, Vec<Goal>)]) -> String {
    let header: Vec<String> = columns.iter().flat_map(|(name, _)| [format!(">{name}"), String::new()]).collect();
    let mut names = vec!["scenario", "figure", ">to reach"];
    names.extend(header.iter().map(String::as_str));
    let mut table = TextTable::new(&names);
    let Some((_, first)) = columns.first() else { return String::new() };
    for goal in first {
        let sign = if goal.at_least { "≥" } else { "≤" };
        let mut row =
            vec![goal.scenario.to_owned(), goal.key.to_owned(), format!("{sign} {}", shown(goal.key, goal.bound))];
        for (_, goals) in columns {
            // A bound may depend on the strategy's own figures, so each is judged by its own.
            match goals.iter().find(|other| (other.scenario, other.key) == (goal.scenario, goal.key)) {
                Some(other) => {
                    row.push(shown(other.key, other.value));
                    row.push(if other.is_met() { "✓" } else { "✗" }.to_owned());
                }
                None => row.extend([String::new(), String::new()]),
            }
        }
        table.row(row);
    }
    table.render()
}

fn shown(key: &str, value: f64) -> String {
    match key {
        _ if value.is_infinite() => "never".to_owned(),
        _ if key.contains("bytes") => format!("{:.0} MiB", value / f64::from(1 << 20)),
        _ if key.ends_with("_ms") => format!("{value:.1} ms"),
        _ if key.ends_with("_s") => format!("{value:.2} s"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound_and_not_by_nonsense() {
        let check = |goal: Goal, met| assert_eq!(goal.is_met(), met, "{goal:?}");
        check(Goal::at_least("s", "k", 0.98, 0.98), true);
        check(Goal::at_least("s", "k", 0.97, 0.98), false);
        check(Goal::at_most("s", "k", 10.0, 10.0), true);
        check(Goal::at_most("s", "k", 10.1, 10.0), false);
        check(Goal::at_least("s", "k", f64::NAN, 0.98), false);
        check(Goal::at_most("s", "k", f64::NAN, 0.98), false);
        check(Goal::at_most("s", "k", f64::INFINITY, 5.0), false);
    }

    #[test]
    fn the_bound_of_small_queries_follows_how_quick_they_are_alone() {
        let equal = |alone: f64| Equal {
            jain_1s: 1.0,
            jain_1s_worst: 1.0,
            min_max_share: 1.0,
            min_max_share_worst: 1.0,
            victim_small_p99_ms: 15.0,
            victim_small_alone_p99_ms: alone,
            victim_scan_p99_ms: 2.0,
            victim_scan_alone_p99_ms: 1.0,
            victim_scan_p99_ratio: 2.0,
        };
        let bound = |alone| {
            let measured = Measured { equal_10x: Some(equal(alone)), ..Measured::default() };
            measured.goals().iter().find(|goal| goal.key == "victim_small_p99_ms").map(|goal| goal.bound)
        };
        assert_eq!((bound(2.0), bound(10.0), bound(20.0)), (Some(7.0), Some(15.0), Some(30.0)));
    }

    #[test]
    fn strategies_stand_side_by_side() {
        let ours = Measured { freed_p99_ms: Some(12.0), goodput_ratio_fifo: Some(0.98), ..Measured::default() };
        let fifo = Measured { freed_p99_ms: Some(112.0), ..Measured::default() };
        let text = table(&[("ours", ours.goals()), ("fifo", fifo.goals())]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["conservation", "goodput_ratio_fifo", "≥", "0.970", "0.980", "✓"]);
        assert_eq!(lines[2], ["cancel", "freed_p99_ms", "≤", "100.0", "ms", "12.0", "ms", "✓", "112.0", "ms", "✗"]);
        assert_eq!(ours.json()["cancel"]["freed_p99_ms"], 12.0);
        assert!(!ours.json().contains_key("weights"), "what was not run is not told");
    }
}
