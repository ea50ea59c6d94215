//! What is shown while a load runs: a view of the nodes and figures at a terminal, else a line now and then. It looks
//! from a thread of its own, so that the generator need not wait for it, and goes to stderr.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;

use super::board::{Board, Shown};
use super::figures::{percentile, sorted};
use crate::cli::table::{TextTable, grouped};
use crate::client::Client;
use crate::node::status::{MemberStatus, Metrics, NodeStatus};
use crate::transport::services::LogsAsked;

const LOOK_TIMEOUT: Duration = Duration::from_millis(500);
/// Of each node's log.
const LOG_LINES: u32 = 2;
/// Columns of a log line that are shown.
const LOG_COLUMNS: usize = 110;

/// One look at everything.
pub struct Look {
    pub elapsed: Duration,
    pub shown: Shown,
    /// The Leader's view; none if it did not answer.
    pub status: Option<NodeStatus>,
    pub metrics: BTreeMap<String, Metrics>,
    /// The last lines of each node's log.
    pub logs: BTreeMap<String, Vec<String>>,
}

/// A view that ends with this value.
pub struct Live {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    /// Begins to look.
    pub fn start(leader: &str, board: Arc<Board>, interval: Duration) -> Live {
        let (end, ended) = channel();
        let leader = leader.to_owned();
        let thread = std::thread::spawn(move || {
            // Without a runtime there is nothing to see; the load runs all the same.
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            let (begun, is_terminal) = (Instant::now(), std::io::stderr().is_terminal());
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(interval) {
                let text = if is_terminal {
                    let look = runtime.block_on(look(&leader, &board, begun.elapsed()));
                    // Back to the corner, and nothing left of the view before.
                    format!("\x1b[H\x1b[J{}", render(&look))
                } else {
                    line(begun.elapsed(), &board.look())
                };
                let _ = std::io::stderr().write_all(text.as_bytes());
            }
        });
        Live { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn look(leader: &str, board: &Board, elapsed: Duration) -> Look {
    let status = Client::new(leader).status(LOOK_TIMEOUT).await.ok();
    let members = status.iter().flat_map(|status| &status.members);
    let asked = members.map(|member| async {
        let metrics = Client::new(&member.address).metrics(LOOK_TIMEOUT).await.ok()?;
        Some((member.process_id.to_string(), metrics))
    });
    let metrics = join_all(asked).await.into_iter().flatten().collect();
    let asked = status.iter().flat_map(|status| &status.members).map(|member| async {
        let lines = last_lines(member).await;
        (!lines.is_empty()).then(|| (member.process_id.to_string(), lines))
    });
    let logs = join_all(asked).await.into_iter().flatten().collect();
    Look { elapsed, shown: board.look(), status, metrics, logs }
}

/// The end of a node's log, wherever it runs; nothing if it does not tell.
async fn last_lines(member: &MemberStatus) -> Vec<String> {
    let client = Client::new(&member.address);
    let asked = LogsAsked { node: member.process_id.clone(), lines: LOG_LINES, follow: false };
    let Ok(mut stream) = client.node().logs(asked, LOOK_TIMEOUT).await else { return Vec::new() };
    let mut lines = Vec::new();
    while let Ok(Some(Ok(more))) = tokio::time::timeout(LOOK_TIMEOUT, stream.next()).await {
        lines.extend(more.iter().map(|line| plain(line)));
    }
    lines
}

/// A line without what would move a terminal's cursor.
fn plain(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(LOG_COLUMNS).collect()
}

/// One line for who is no terminal.
fn line(elapsed: Duration, shown: &Shown) -> String {
    let latencies = sorted(shown.latencies_ms.iter().copied());
    format!(
        "{:.1} s: {} requests, {} ok, {} refused, {} failed; p50 {:.1} ms, p99 {:.1} ms\n",
        elapsed.as_secs_f64(),
        shown.total,
        shown.ok,
        shown.refused,
        shown.failed,
        percentile(&latencies, 50.0),
        percentile(&latencies, 99.0),
    )
}

/// The view.
pub fn render(look: &Look) -> String {
    let mut text = String::new();
    let members: &[MemberStatus] = look.status.as_ref().map_or(&[], |status| &status.members);
    let mut table = TextTable::new(&[
        "id",
        "role",
        "team",
        "host",
        "online",
        ">active",
        ">queue",
        ">average ms",
        ">partitions",
        "",
    ]);
    for member in members {
        let metrics = look.metrics.get(member.process_id.as_str());
        let number = |of: fn(&Metrics) -> String| metrics.map_or_else(|| "-".to_owned(), of);
        let is_busy = metrics.is_some_and(|metrics| metrics.active_requests > 0 || metrics.scans_running > 0);
        let state = match (metrics, is_busy) {
            (None, _) => "✗ does not answer".to_owned(),
            (Some(_), true) => "→ processing".to_owned(),
            (Some(_), false) if member.state == "ready" => "✓ ready".to_owned(),
            (Some(_), false) => member.state.clone(),
        };
        table.row(vec![
            member.process_id.to_string(),
            member.role.to_string(),
            member.team.to_string(),
            host(member).to_owned(),
            if metrics.is_some() { "yes" } else { "no" }.to_owned(),
            number(|metrics| metrics.active_requests.max(metrics.scans_running as u32).to_string()),
            number(|metrics| metrics.queue_size.to_string()),
            number(|metrics| format!("{:.1}", metrics.avg_processing_time_ms)),
            member.partitions.to_string(),
            state,
        ]);
    }
    text += &table.render();
    if members.is_empty() {
        text += "the Leader does not answer\n";
    }

    let shown = &look.shown;
    let latencies = sorted(shown.latencies_ms.iter().copied());
    let seconds = look.elapsed.as_secs_f64().max(1e-9);
    let average = latencies.iter().sum::<f64>() / latencies.len().max(1) as f64;
    let success = 100.0 * shown.ok as f64 / shown.total.max(1) as f64;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "\n{seconds:.0} s: {} requests, {} ok, {} failed, {} refused, {success:.1} % success",
        grouped(shown.total),
        grouped(shown.ok),
        grouped(shown.failed),
        grouped(shown.refused),
    );
    let _ = writeln!(
        text,
        "average {average:.1} ms, p50 {:.1}, p95 {:.1}, p99 {:.1}, max {:.1}; {:.1} requests/s, {} records",
        percentile(&latencies, 50.0),
        percentile(&latencies, 95.0),
        percentile(&latencies, 99.0),
        latencies.last().copied().unwrap_or(0.0),
        shown.ok as f64 / seconds,
        grouped(shown.rows),
    );

    let mut hosts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for member in members {
        let (partitions, rows) = hosts.entry(host(member)).or_default();
        *partitions += member.partitions;
        *rows += member.rows;
    }
    let all: u64 = hosts.values().map(|(_, rows)| rows).sum();
    for (host, (partitions, rows)) in hosts {
        let part = 100.0 * rows as f64 / all.max(1) as f64;
        let _ = writeln!(text, "data on {host}: {partitions} partitions, {} rows, {part:.0} %", grouped(rows));
    }
    for (id, lines) in &look.logs {
        for line in lines {
            let _ = writeln!(text, "{id}: {line}");
        }
    }
    text
}

/// The address without its port.
fn host(member: &MemberStatus) -> &str {
    member.address.rsplit_once(':').map_or(member.address.as_str(), |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{NodeId, Role};

    fn member(id: &str, address: &str, rows: u64) -> MemberStatus {
        MemberStatus {
            process_id: NodeId::from(id),
            role: Role::Worker,
            team: "pink".into(),
            address: address.to_owned(),
            state: "ready".to_owned(),
            rows,
            partitions: 3,
            links: Vec::new(),
            neighbors: Vec::new(),
            heard_ms_ago: 0,
        }
    }

    #[test]
    fn a_view_tells_nodes_figures_and_data() {
        let status = NodeStatus {
            process_id: NodeId::from("A"),
            role: Role::Leader,
            team: "pink".into(),
            state: "ready".to_owned(),
            waiting_for: String::new(),
            rows: 0,
            pid: 1,
            incarnation: 1,
            fingerprint: String::new(),
            version: String::new(),
            fingerprint_keys: BTreeMap::new(),
            unix_us: 0,
            data_source: String::new(),
            links: Vec::new(),
            unheard: Vec::new(),
            members: vec![
                member("C", "10.0.0.1:1", 100),
                member("D", "10.0.0.1:2", 200),
                member("E", "10.0.0.2:1", 700),
            ],
            partitions: Vec::new(),
        };
        let busy = Metrics { active_requests: 2, queue_size: 5, avg_processing_time_ms: 1.25, ..Metrics::default() };
        let look = Look {
            elapsed: Duration::from_secs(10),
            shown: Shown {
                total: 40,
                ok: 30,
                refused: 10,
                rows: 3000,
                latencies_ms: [5.0, 7.0].into(),
                ..Shown::default()
            },
            status: Some(status),
            metrics: [("C".to_owned(), busy), ("D".to_owned(), Metrics::default())].into(),
            logs: [("C".to_owned(), vec!["serving".to_owned()])].into(),
        };
        let text = render(&look);
        let has = |words: &str| assert!(text.contains(words), "{words:?} is not in\n{text}");
        let line = |id: &str| text.lines().find(|line| line.starts_with(&format!("{id}   "))).unwrap_or_default();
        assert!(line("C").ends_with("→ processing") && line("C").contains("1.2"), "{text}");
        assert!(line("D").ends_with("✓ ready"), "{text}");
        assert!(line("E").ends_with("✗ does not answer"), "{text}");
        has("40 requests, 30 ok, 0 failed, 10 refused, 75.0 % success");
        has("average 6.0 ms, p50 5.0, p95 7.0, p99 7.0, max 7.0; 3.0 requests/s, 3,000 records");
        has("data on 10.0.0.1: 6 partitions, 300 rows, 30 %");
        has("data on 10.0.0.2: 3 partitions, 700 rows, 70 %");
        has("C: serving");
        let silent = Look { status: None, metrics: BTreeMap::new(), logs: BTreeMap::new(), ..look };
        assert!(render(&silent).contains("the Leader does not answer"));
    }

    #[test]
    fn a_log_cannot_move_the_cursor() {
        assert_eq!(plain("\x1b[2Jtwo\x07"), "[2Jtwo");
        assert_eq!(plain(&"x".repeat(9000)).len(), LOG_COLUMNS);
    }
}
