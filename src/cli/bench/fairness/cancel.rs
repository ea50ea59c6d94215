//! Cancels at random moments, and how long it takes until nothing is left of the queries on any node.
//!
//! A few scans are opened, and cancelled together after a random part of a scan's length: by the call, or by going
//! away, as a client that was killed does. Then every node is asked again and again until none knows of a query that
//! waits or runs, a part of its plan, a result in memory or on disk, room for one, a scan, or work for it. What is told is the time until the answer that says so: never less than what it
//! took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::future::join_all;

use super::measures::MODEST;
use super::scenarios::Scenarios;
use crate::cli::bench::load::record::{Record, Status};
use crate::cli::bench::load::request::Manner;
use crate::cli::bench::nodes::Nodes;
use crate::client::Client;
use crate::delivery::QueryId;
use crate::delivery::encoding;
use crate::node::status::Metrics;
use crate::routing::Team;

/// Longer than this nothing is waited for.
const FREED_MAX: Duration = Duration::from_secs(3);
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks: so much the figures may be too high.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
const AT_ONCE_MAX: usize = 6;

/// Runs it. A scan takes about `scan` when several run.
pub async fn run(nodes: &Nodes, scenarios: &Scenarios, cancels: usize, scan: Duration) -> Vec<Record> {
    let mut random = Rng::with_seed(scenarios.seed);
    let client = Client::new(&nodes.leader);
    let name: Arc<str> = format!("{}/cancel", scenarios.label).into();
    let begun = Instant::now();
    let at = |time: Instant| time.duration_since(begun).as_micros() as i64;
    let manner = Manner { deadline: Duration::from_secs(5), retry: false, encoding: encoding::DEFAULT };
    let mut records = Vec::new();
    // What ran before has to be gone first.
    until_free(nodes).await;
    for _ in 0..cancels {
        let opened = join_all((0..random.usize(1..=AT_ONCE_MAX)).map(|_| {
            let spec = scenarios.scan.spec(Some(Team::from(MODEST)), manner);
            client.open(spec)
        }));
        let mut answers: Vec<_> = opened.await.into_iter().flatten().collect();
        let by_call = random.bool();
        let moment = scan.mul_f64(random.f64() * answers.len().max(1) as f64);
        read_for(&mut answers, moment).await;
        let cancelled = Instant::now();
        let tries = answers.len() as u32;
        // Going away after the end is no cancel: then the result rightly stays for a while.
        let told = answers.iter_mut().filter(|answer| by_call || answer.footer().is_some());
        join_all(told.map(|answer| answer.cancel())).await;
        let ids: Vec<QueryId> = answers.iter().map(|answer| answer.id()).collect();
        drop(answers);
        free_the_ended(&client, &ids).await;
        let freed = until_free(nodes).await;
        records.push(Record {
            run: Arc::clone(&name),
            team: MODEST.into(),
            kind: if by_call { "cancelled" } else { "gone" }.into(),
            due_us: at(cancelled),
            start_us: at(cancelled),
            end_us: at(Instant::now()),
            run_us: 0,
            rows: 0,
            bytes: 0,
            tries,
            status: if freed { Status::Ok } else { Status::Failed },
        });
    }
    records
}

/// Reads the answers, as their clients would, until the moment comes.
async fn read_for(answers: &mut [crate::client::Answer], moment: Duration) {
    let reading = join_all(answers.iter_mut().map(async |answer| while let Some(Ok(_)) = answer.count_next().await {}));
    // Those that ended before are part of it: their results are freed as well.
    let _ = tokio::time::timeout(moment, reading).await;
}

/// A query whose last chunk was on its way to the client that went has ended well: its result rightly stays for a while,
/// and says nothing about cancels.
async fn free_the_ended(client: &Client, ids: &[QueryId]) {
    for id in ids {
        if client.node().query_status(*id).await.is_ok_and(|status| status.state.has_ended()) {
            let _ = client.node().cancel(*id).await;
        }
    }
}

/// Waits until nothing is left. False if something stays.
async fn until_free(nodes: &Nodes) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < FREED_MAX {
        let looks = join_all(nodes.clients.iter().map(|client| client.metrics(LOOK_TIMEOUT))).await;
        if looks.iter().all(|look| look.as_ref().is_ok_and(is_free)) {
            return true;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    false
}

fn is_free(metrics: &Metrics) -> bool {
    let queries = metrics.active_requests + metrics.queue_size + metrics.results;
    let bytes = metrics.result_bytes + metrics.result_disk_bytes + metrics.result_bytes_reserved;
    let work = metrics.scans_running + metrics.plan_tasks + metrics.turns_given + metrics.turns_waiting;
    queries == 0 && bytes == 0 && work == 0
}
