//! The last lines about an answer, on stderr.

use std::time::Duration;

use crate::engine::message::NodeWork;
use crate::leader::answer::{Footer, QueryState};
use crate::routing::{Link, NodeId};

use super::table::{TextTable, bytes, grouped};

/// A few lines: rows, time, what was scanned and by whom, coverage, the query's id.
pub fn render(footer: &Footer, local: bool) -> String {
    let coverage = &footer.coverage;
    let mut text = format!(
        "{} row{} in {:.3} s; scanned {} rows, {}",
        grouped(footer.rows),
        if footer.rows == 1 { "" } else { "s" },
        footer.elapsed.as_secs_f64(),
        grouped(footer.rows_scanned()),
        bytes(footer.bytes_scanned()),
    );
    if footer.queued.as_millis() >= 1 {
        text.push_str(&format!("; queued {:.3} s", footer.queued.as_secs_f64()));
    }
    text.push('\n');
    if !local {
        let mut routes: Vec<String> = footer.work.iter().map(|work| route(footer, &work.route)).collect();
        routes.sort();
        routes.dedup();
        if !routes.is_empty() {
            let key = if footer.adopted.is_empty() { "" } else { "   (⇢ an adopted link)" };
            text.push_str(&format!("routes: {}{key}\n", routes.join(", ")));
        }
    }
    let mut parts = vec![format!("{} answered", coverage.answered)];
    for (count, name) in [(coverage.pruned, "pruned"), (coverage.not_needed, "not needed")] {
        if count > 0 {
            parts.push(format!("{count} {name}"));
        }
    }
    if !coverage.gaps.is_empty() {
        parts.push(format!("{} MISSING", coverage.gaps.len()));
    }
    text.push_str(&format!("coverage: {} partitions: {}", coverage.partitions, parts.join(", ")));
    if !local {
        text.push_str(&format!("; query {}", footer.id));
    }
    text.push('\n');
    for line in gaps(footer) {
        text.push_str(&line);
        text.push('\n');
    }
    if footer.state == QueryState::Partial {
        text.push_str("PARTIAL: rows of the missing partitions are not in this answer\n");
    }
    text
}

/// How an answer came to this client, from asking on: connecting, receiving and printing included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// Until the first rows were here.
    pub first: Option<Duration>,
    /// Until the last were printed.
    pub all: Duration,
}

/// Where the time went: by stage, each drawn where it lies in the whole, then by node.
pub fn render_work(footer: &Footer, reading: Option<&Reading>) -> String {
    let planned = footer.queued + footer.planned;
    let mut stages = vec![
        ("queued", Duration::ZERO, footer.queued),
        ("planned", footer.queued, planned),
        ("scanned and collected", planned, footer.elapsed),
    ];
    if let Some(reading) = reading {
        let first = reading.first.unwrap_or(reading.all);
        stages
            .extend([("here: to the first rows", Duration::ZERO, first), ("here: the other rows", first, reading.all)]);
    }
    let whole = stages.iter().map(|(_, _, end)| *end).max().unwrap_or_default();
    let mut table = TextTable::new(&["stage", ">time", ""]);
    for (name, start, end) in stages {
        table.row(vec![name.to_owned(), millis(end.saturating_sub(start)), bar(start, end, whole)]);
    }
    let mut text = table.render();
    let mut work: Vec<&NodeWork> = footer.work.iter().collect();
    work.sort_by(|a, b| a.route.cmp(&b.route));
    let cpu_max = work.iter().map(|work| work.cpu).max().unwrap_or_default();
    let mut table = TextTable::new(&["node", "route", ">rows scanned", ">bytes scanned", ">bytes sent", ">cpu", ""]);
    for work in &work {
        table.row(vec![
            work.node.to_string(),
            route(footer, &work.route),
            grouped(work.rows_scanned),
            bytes(work.bytes_scanned),
            bytes(work.bytes_sent),
            millis(work.cpu),
            bar(Duration::ZERO, work.cpu, cpu_max),
        ]);
    }
    if work.len() > 1 {
        let cpu: Duration = work.iter().map(|work| work.cpu).sum();
        table.row(vec![
            "all".to_owned(),
            String::new(),
            grouped(footer.rows_scanned()),
            bytes(footer.bytes_scanned()),
            bytes(work.iter().map(|work| work.bytes_sent).sum()),
            millis(cpu),
            String::new(),
        ]);
    }
    if !work.is_empty() {
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Cells of a bar that goes from end to end.
const BAR_CELLS: f64 = 24.0;

/// From where to where in the whole; what is too short for a cell has a thin one.
fn bar(start: Duration, end: Duration, whole: Duration) -> String {
    if whole.is_zero() {
        return String::new();
    }
    let cell = |time: Duration| (time.as_secs_f64() / whole.as_secs_f64() * BAR_CELLS).round() as usize;
    let (first, last) = (cell(start), cell(end));
    let marks = if last > first { "█".repeat(last - first) } else { "▏".to_owned() };
    format!("{}{marks}", " ".repeat(first))
}

/// One line for each cause, with its dates.
fn gaps(footer: &Footer) -> Vec<String> {
    let mut causes: Vec<(String, Vec<&str>)> = Vec::new();
    for gap in &footer.coverage.gaps {
        let node = gap.node.as_ref().map_or("nobody", NodeId::as_str);
        let cause = format!("missing: {node} ({}): {} {}", route(footer, &gap.route), gap.code, gap.message);
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, dates)) => dates.push(&gap.date),
            None => causes.push((cause, vec![&gap.date])),
        }
    }
    let mut lines: Vec<String> =
        causes.into_iter().map(|(cause, dates)| format!("{cause}: {}", dates.join(" "))).collect();
    for node in &footer.coverage.unheard {
        lines.push(format!("missing: {node} has never announced: its dates are not known"));
    }
    lines
}

/// `A → E → F`; a link that is not in the configuration is drawn `⇢`.
pub fn route(footer: &Footer, route: &[NodeId]) -> String {
    let mut text = String::new();
    for (i, node) in route.iter().enumerate() {
        if i > 0 {
            let is_adopted = footer.adopted.contains(&Link::between(&route[i - 1], node));
            text.push_str(if is_adopted { " ⇢ " } else { " → " });
        }
        text.push_str(node.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_lies_where_its_time_does() {
        let check = |start: u64, end: u64, whole: u64, before: usize, marks: &str| {
            let drawn = bar(Duration::from_millis(start), Duration::from_millis(end), Duration::from_millis(whole));
            assert_eq!(drawn, format!("{}{marks}", " ".repeat(before)), "{start} {end} {whole}");
        };
        check(0, 24, 24, 0, &"█".repeat(24));
        check(6, 12, 24, 6, &"█".repeat(6));
        check(12, 12, 24, 12, "▏");
        check(0, 1, 1000, 0, "▏");
        check(1000, 1000, 1000, 24, "▏");
        check(0, 0, 0, 0, "");
    }
}
