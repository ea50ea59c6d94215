//! What stands in the end: a table of figures for all, each team and each query, and the same as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::board::Shown;
use super::figures::{Figures, figures};
use super::record::Record;
use crate::cli::table::{TextTable, bytes, grouped};

/// The figures of a load.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Versions, cores, command, seed.
    pub about: Map<String, Value>,
    /// What was asked for.
    pub settings: Map<String, Value>,
    /// The figures that the nodes told after the run, by id.
    pub nodes: Map<String, Value>,
    /// The configuration file; null where the Leader was given by its address.
    pub config: Value,
    pub figures: Parts,
    /// Cores that the generator used on average; `None` where the system does not tell.
    pub generator_cores: Option<f64>,
    /// What went wrong how often, in words.
    pub failures: Vec<(String, u64)>,
}

/// All together, and in parts.
#[derive(Debug, Clone, Serialize)]
pub struct Parts {
    pub all: Figures,
    pub teams: BTreeMap<String, Figures>,
    pub queries: BTreeMap<String, Figures>,
}

impl Parts {
    /// From the records of a run.
    pub fn of(records: &[Record]) -> Parts {
        let by = |name: fn(&Record) -> &str| {
            let mut parts: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
            for record in records {
                parts.entry(name(record)).or_default().push(record);
            }
            parts.into_iter().map(|(name, part)| (name.to_owned(), figures(part.into_iter()))).collect()
        };
        Parts { all: figures(records.iter()), teams: by(|record| &record.team), queries: by(|record| &record.kind) }
    }
}

/// What went wrong, most frequent first.
pub fn failures(shown: &Shown) -> Vec<(String, u64)> {
    let mut failures: Vec<(String, u64)> =
        shown.failures.iter().map(|((status, words), count)| (format!("{status}: {words}"), *count)).collect();
    failures.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    failures
}

impl Report {
    /// The report as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.about.iter().chain(&self.settings) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text += &format!("{name}: {value}\n");
        }
        text.push('\n');
        text += &self.figures.render();
        for (what, count) in &self.failures {
            text += &format!("{count} {what}\n");
        }
        if let Some(cores) = self.generator_cores {
            text += &format!("the generator used {cores:.2} cores\n");
        }
        let late = self.figures.all.late_p99_ms;
        if late > 2.0 {
            text += &format!("note: the generator itself was late, p99 {late:.1} ms; these latencies hold that\n");
        }
        text
    }
}

impl Parts {
    fn render(&self) -> String {
        let mut table = TextTable::new(&[
            "",
            ">total",
            ">ok",
            ">refused",
            ">failed",
            ">success",
            ">average",
            ">p50",
            ">p95",
            ">p99",
            ">max ms",
            ">req/s",
            ">records",
            ">records/s",
            ">bytes",
        ]);
        let mut row = |name: &str, of: &Figures| {
            let ms = |number: f64| format!("{number:.1}");
            let failed = of.total - of.ok - of.refused;
            table.row(vec![
                name.to_owned(),
                grouped(of.total),
                grouped(of.ok),
                grouped(of.refused),
                grouped(failed),
                format!("{:.1} %", of.success_percent),
                ms(of.average_ms),
                ms(of.p50_ms),
                ms(of.p95_ms),
                ms(of.p99_ms),
                ms(of.max_ms),
                format!("{:.1}", of.throughput),
                grouped(of.records),
                grouped(of.records_per_second as u64),
                bytes(of.bytes),
            ]);
        };
        row("all", &self.all);
        // One part alone is all there is.
        for (what, parts) in [("team", &self.teams), ("query", &self.queries)] {
            for (name, part) in parts.iter().filter(|_| parts.len() > 1) {
                row(&format!("{what} {name}"), part);
            }
        }
        let mut text = table.render();
        let of = &self.all;
        let apart = [
            ("with gaps that were allowed", of.partial),
            ("with wrong row counts", of.wrong),
            ("past their deadline", of.expired),
            ("failed otherwise", of.failed),
            ("due but never sent, as too many were under way", of.unissued),
            ("without an answer when the run ended", of.open),
            ("retries after refusals", of.retries),
        ];
        for (what, count) in apart.into_iter().filter(|(_, count)| *count > 0) {
            text += &format!("{} {what}\n", grouped(count));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Status;
    use super::super::record::tests::ended;
    use super::*;

    #[test]
    fn teams_and_queries_are_told_apart() {
        let wrong = Record { status: Status::Wrong, ..ended("pink", "scan", 0, 9) };
        let records = [ended("green", "small", 0, 10), ended("pink", "small", 0, 30), wrong];
        let parts = Parts::of(&records);
        assert_eq!((parts.all.total, parts.teams["pink"].total, parts.queries["small"].ok), (3, 2, 2));
        let report = Report {
            about: Map::from_iter([("version".to_owned(), Value::from("1.2.3"))]),
            settings: Map::new(),
            nodes: Map::new(),
            config: Value::Null,
            figures: parts,
            generator_cores: Some(0.25),
            failures: vec![("wrong: # rows came".to_owned(), 1)],
        };
        let text = report.render();
        for words in
            ["version: 1.2.3", "team green", "query scan", "1 with wrong row counts", "0.25 cores", "1 wrong: #"]
        {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["figures"]["teams"]["pink"]["wrong"], 1);
    }

    #[test]
    fn one_part_is_not_repeated() {
        let text = Parts::of(&[ended("none", "q", 0, 1)]).render();
        assert!(!text.contains("team") && !text.contains("query") && text.starts_with(' '), "{text}");
    }
}
