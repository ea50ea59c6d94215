//! The figures of many nodes as tables for a terminal of 80 columns: a line for each node, what belongs together in a
//! table of its own. Every figure there is comes with `--format json` or `csv`.

use std::time::Duration;

use super::table::{TextTable, bytes, grouped};
use crate::node::status::Metrics;

/// What this system does not tell.
const UNKNOWN: &str = "unknown";
/// The narrowest terminal that is thought of.
const WIDTH: usize = 80;

/// The tables.
pub(super) fn render(figures: &[Metrics]) -> String {
    let mut parts = vec![nodes(figures), work(figures), caches(figures)];
    parts.extend(figures.iter().filter(|metrics| metrics.role == "leader").map(of_leader));
    let trips = round_trips(figures);
    if !trips.is_empty() {
        parts.push(trips);
    }
    parts.join("\n")
}

/// Who they are and what they take of their machine.
fn nodes(figures: &[Metrics]) -> String {
    let mut table = TextTable::new(&["id", "role", "state", ">up", ">cpu", ">memory", ">days", ">rows", ">held"]);
    for metrics in figures {
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
        table.row(vec![
            metrics.process_id.clone(),
            metrics.role.clone(),
            metrics.state.clone(),
            duration(Duration::from_millis(metrics.uptime_ms)),
            or_unknown(metrics.cpu_ms.map(|ms| duration(Duration::from_millis(ms)))),
            or_unknown(metrics.memory_bytes.map(bytes)),
            metrics.partitions_held.to_string(),
            grouped(metrics.rows_held),
            bytes(metrics.data_bytes_held),
        ]);
    }
    table.render()
}

/// What they do at this moment, and what left them lately.
fn work(figures: &[Metrics]) -> String {
    let header = ["id", ">running", ">queued", ">scans", ">cores busy", ">work waits", ">rows/s", ">bytes/s"];
    let mut table = TextTable::new(&header);
    for metrics in figures {
        table.row(vec![
            metrics.process_id.clone(),
            u64::from(metrics.active_requests).saturating_sub(metrics.scans_running).to_string(),
            metrics.queue_size.to_string(),
            metrics.scans_running.to_string(),
            metrics.turns_given.to_string(),
            metrics.turns_waiting.to_string(),
            grouped(metrics.rows_per_s.round() as u64),
            bytes(metrics.bytes_per_s.round() as u64),
        ]);
    }
    table.render()
}

/// What they keep for when it is asked for again: plans of SQL, and what is known of the files of days without room in
/// memory. Found and not found since the start.
fn caches(figures: &[Metrics]) -> String {
    let header = ["id", ">plans", ">found", ">not", ">files", ">memory", ">found", ">not"];
    let mut table = TextTable::new(&header);
    for metrics in figures {
        table.row(vec![
            metrics.process_id.clone(),
            grouped(metrics.plan_cache_entries),
            grouped(metrics.plan_cache_hits),
            grouped(metrics.plan_cache_misses),
            grouped(metrics.footer_cache_entries),
            bytes(metrics.footer_cache_bytes),
            grouped(metrics.footer_cache_hits),
            grouped(metrics.footer_cache_misses),
        ]);
    }
    table.render()
}

/// What only the Leader has: results, and the strategies in force.
fn of_leader(metrics: &Metrics) -> String {
    let how = if metrics.async_forwarding { "async" } else { "blocking" };
    format!(
        "{} results: {} of {} in memory, {} of {} on disk\n{} queries: {} admitted, {} refused, {:.1} ms on average\n\
         {} decides by {} ({how}), {}, {}\n",
        metrics.results,
        bytes(metrics.result_bytes),
        bytes(metrics.result_bytes_max),
        bytes(metrics.result_disk_bytes),
        bytes(metrics.result_disk_bytes_max),
        metrics.queries_admitted + metrics.queries_refused,
        metrics.queries_admitted,
        metrics.queries_refused,
        metrics.avg_processing_time_ms,
        metrics.process_id,
        metrics.forwarding_strategy,
        metrics.chunking_strategy,
        metrics.fairness_strategy,
    )
}

/// Each link once from each end, as many on a line as fit.
fn round_trips(figures: &[Metrics]) -> String {
    let trips = figures.iter().flat_map(|metrics| {
        let trip = |us: u64| format!("{:.1} ms", us as f64 / 1e3);
        metrics
            .peers
            .iter()
            .map(move |peer| format!("{} → {} {}", metrics.process_id, peer.peer, trip(peer.round_trip_us)))
    });
    let trips: Vec<String> = trips.collect();
    let widest = trips.iter().map(|trip| trip.chars().count()).max().unwrap_or(0);
    let per_line = (WIDTH / (widest + 3)).max(1);
    let lines = trips.chunks(per_line).map(|line| {
        let cells = line.iter().map(|trip| format!("{trip}{}", " ".repeat(widest - trip.chars().count())));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("round trips\n{lines}") }
}

/// Two units at most: `850 ms`, `12.3 s`, `4m 05s`, `2h 07m`, `3d 04h`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::PeerMetrics;

    fn node(id: &str, role: &str) -> Metrics {
        let trips = ["A", "B", "C", "D"].into_iter().filter(|peer| *peer != id);
        Metrics {
            process_id: id.into(),
            role: role.into(),
            state: "loading".into(),
            uptime_ms: 7_384_000,
            cpu_ms: Some(123_450),
            memory_bytes: Some(3 << 30),
            partitions_held: 366,
            rows_held: 123_456_789,
            data_bytes_held: 999 << 20,
            active_requests: 103,
            queue_size: 7,
            scans_running: 3,
            turns_given: 16,
            turns_waiting: 12_345,
            rows_per_s: 12_345_678.9,
            bytes_per_s: 1_234_567_890.0,
            result_bytes: 500 << 20,
            result_bytes_max: 512 << 20,
            result_disk_bytes: 3 << 30,
            result_disk_bytes_max: 4 << 30,
            queries_admitted: 123_456,
            plan_cache_entries: 128,
            plan_cache_hits: 12_345_678,
            plan_cache_misses: 1_234_567,
            footer_cache_entries: 1_024,
            footer_cache_bytes: 63 << 20,
            footer_cache_hits: 987_654_321,
            footer_cache_misses: 98_765_432,
            forwarding_strategy: "round_robin".into(),
            chunking_strategy: "query_based".into(),
            fairness_strategy: "fair_queue".into(),
            peers: trips.map(|peer| PeerMetrics { peer: peer.into(), round_trip_us: 1_234 }).collect(),
            ..Metrics::default()
        }
    }

    #[test]
    fn large_figures_fit_into_eighty_columns() {
        let mut figures = vec![node("A", "leader"), node("B", "team_leader"), node("C", "worker")];
        figures[2].cpu_ms = None;
        figures[2].memory_bytes = None;
        let text = render(&figures);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}\n{text}", line.chars().count());
        }
        for part in ["2h 03m", "2m 03s", "3.0 GiB", UNKNOWN, "123,456,789", "100", "12,345,679", "A → B 1.2 ms"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        // In the order of their heads: a figure under another's head would be a lie that looks like a figure.
        let row = |of: &str| -> Vec<String> {
            let line = text.lines().skip_while(|line| !line.contains(of)).nth(1).unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        };
        let nodes = "A leader loading 2h 03m 2m 03s 3.0 GiB 366 123,456,789 999.0 MiB";
        assert_eq!(row("role").join(" "), nodes, "{text}");
        assert_eq!(row("running").join(" "), "A 100 7 3 16 12345 12,345,679 1.1 GiB", "{text}");
        assert_eq!(
            row("plans").join(" "),
            "A 128 12,345,678 1,234,567 1,024 63.0 MiB 987,654,321 98,765,432",
            "{text}"
        );
        assert_eq!(text.matches("results:").count(), 1, "only the Leader has results\n{text}");
    }

    #[test]
    fn times_are_told_in_two_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (59_940, "59.9 s"),
            (60_000, "1m 00s"),
            (3_599_000, "59m 59s"),
            (3_600_000, "1h 00m"),
            (86_400_000, "1d 00h"),
            (273_600_000, "3d 04h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
