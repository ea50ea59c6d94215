//! The last lines about an answer, on stderr.

use std::time::Duration;

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

/// Where the time went: by stage, then by node.
pub fn render_work(footer: &Footer, reading: Option<&Reading>) -> String {
    let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    let rest = footer.elapsed.saturating_sub(footer.queued).saturating_sub(footer.planned);
    let mut text = format!(
        "stages: queued {}, planned {}, scanned and collected {}",
        millis(footer.queued),
        millis(footer.planned),
        millis(rest)
    );
    if let Some(reading) = reading {
        let first = reading.first.map_or_else(|| "none".to_owned(), millis);
        text.push_str(&format!("; here: first rows after {first}, all after {}", millis(reading.all)));
    }
    text.push('\n');
    let mut table = TextTable::new(&["node", "route", ">rows scanned", ">bytes scanned", ">cpu"]);
    for work in &footer.work {
        table.row(vec![
            work.node.to_string(),
            route(footer, &work.route),
            grouped(work.rows_scanned),
            bytes(work.bytes_scanned),
            millis(work.cpu),
        ]);
    }
    if !footer.work.is_empty() {
        text.push_str(&table.render());
    }
    text
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
