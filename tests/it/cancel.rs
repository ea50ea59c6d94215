//! The end of a query is one path: queries that end at random moments in every way there is, and then nothing of them is
//! left on any node. What is counted is what each node says of itself.

use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use overlay::client::Client;
use overlay::delivery::QueryId;
use overlay::engine::share::{Flow, Share};
use overlay::leader::answer::QuerySpec;
use overlay::node::status::Metrics;
use serde_json::json;

use crate::asking::{range, read, sql};
use crate::cluster::{Cluster, Graph, PATIENCE, Setup, until};
use crate::oracle::Question;

/// So many of them are cancelled, more or less five of eight; the others end in other ways.
const CANCELS: usize = 500;
const QUERIES: usize = 900;
/// So many clients ask at the same time: more than may run, so that some end in the queue.
const CLIENTS: usize = 10;
const RUNNING: u32 = 6;

/// Six nodes with little room, so that results wait for it and go to disk.
async fn cluster() -> Cluster {
    let limits = json!({ "threads": 1, "concurrent_max": RUNNING, "team_concurrent_max": RUNNING, "idle_s": 1,
        "result_ttl_s": 1, "result_bytes_max": "1MiB" });
    Cluster::start(Setup { graph: Graph::Six, limits, sites: 10, ..Setup::default() }).await
}

/// Something that takes a while, and something that does not.
fn draw_question(random: &mut Rng) -> QuerySpec {
    let texts = [
        "SELECT parameter, site_name, avg(concentration) FROM observations GROUP BY parameter, site_name",
        "SELECT a.* FROM observations a JOIN observations b ON a.site_name = b.site_name LIMIT 20000",
        "SELECT * FROM observations ORDER BY concentration DESC",
        "SELECT * FROM observations LIMIT 1000",
    ];
    match random.usize(0..6) {
        0 => range(&Question::default()),
        1 => range(&Question { parameter: Some("OZONE"), min: Some(20.0), ..Question::default() }),
        text => sql(texts[text - 2]),
    }
}

/// Asks one query and ends it in one of the ways, at a random moment.
async fn ask_and_end(client: Client, seed: u64) -> &'static str {
    let mut random = Rng::with_seed(seed);
    let latest = if random.bool() { 3_000 } else { 60_000 };
    let moment = Duration::from_micros(random.u64(0..latest));
    let others = ["gone", "deadline", "left", "read"];
    let way = if random.usize(0..8) < 5 { "cancelled" } else { others[random.usize(..others.len())] };
    let spec = QuerySpec {
        cancel_on_disconnect: way == "gone",
        allow_partial: random.bool(),
        encoding: if random.bool() { "json" } else { "arrow_ipc" },
        time_left: Some(if way == "deadline" { moment + Duration::from_millis(1) } else { PATIENCE }),
        ..draw_question(&mut random)
    };
    if way == "read" {
        // Some fail: there is little room.
        let _ = read(&client, spec).await;
        return way;
    }
    let Ok(mut answer) = client.open(spec).await else { return way };
    let is_reading = random.bool();
    let reading = async {
        while is_reading && answer.next().await.is_some_and(|batch| batch.is_ok()) {}
        std::future::pending::<()>().await;
    };
    let over = if way == "deadline" { moment + Duration::from_millis(20) } else { moment };
    let _ = tokio::time::timeout(over, reading).await;
    if way == "cancelled" || answer.footer().is_some() {
        answer.cancel().await;
    }
    // Whoever is still there goes, with the connection: what was promised for that case follows.
    drop((answer, client));
    way
}

fn left(metrics: &Metrics) -> [(&'static str, u64); 11] {
    [
        ("permits", u64::from(metrics.active_requests)),
        ("queue", u64::from(metrics.queue_size)),
        ("results", u64::from(metrics.results)),
        ("bytes in memory", metrics.result_bytes),
        ("bytes on disk", metrics.result_disk_bytes),
        ("bytes reserved", metrics.result_bytes_reserved),
        ("tasks", metrics.plan_tasks),
        ("turns given", metrics.turns_given),
        ("turns waiting", metrics.turns_waiting),
        ("scans", metrics.scans_running),
        ("of flows", metrics.flows.iter().map(|flow| u64::from(flow.active + flow.queued)).sum()),
    ]
}

/// Waits until every node says that nothing is left.
async fn until_nothing_is_left(cluster: &Cluster, nodes: &[&str]) {
    for node in nodes {
        let client = cluster.client_of(node);
        until(&format!("nothing is left on {node}"), async || {
            let metrics = client.metrics(PATIENCE).await.map_err(|failure| failure.to_string())?;
            let left: Vec<_> = left(&metrics).into_iter().filter(|(_, count)| *count > 0).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_500_cancels_at_random_moments_nothing_is_left_on_any_node() {
    let seed = std::env::var("OVERLAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    println!("OVERLAY_SEED={seed}");
    let cluster = cluster().await;
    let mut ways: Vec<&str> = Vec::new();
    for round in 0..QUERIES / CLIENTS {
        let seed_of = |n| seed * 1_000_003 + (round * CLIENTS + n) as u64;
        let ending = (0..CLIENTS).map(|n| ask_and_end(cluster.client(), seed_of(n)));
        ways.extend(join_all(ending).await);
    }
    for (way, least) in [
        ("cancelled", CANCELS),
        ("gone", QUERIES / 20),
        ("deadline", QUERIES / 20),
        ("left", QUERIES / 20),
        ("read", 1),
    ] {
        let count = ways.iter().filter(|other| **other == way).count();
        assert!(count >= least, "{count} of {QUERIES} queries were {way}");
    }
    until_nothing_is_left(&cluster, &["A", "B", "C", "D", "E", "F"]).await;
    // All permits are there: as many as may run do, and everything is answered.
    let asked: Vec<_> = (0..RUNNING).map(|_| cluster.ask_later(sql("SELECT count(*) FROM observations"))).collect();
    for answer in asked {
        let answer = answer.await.expect("no panic").expect("answered");
        assert_eq!(answer.rows, [cluster.oracle.rows.len().to_string()]);
    }
}

/// A cancel reaches every node on the route, also one where the query's scan waits for its turn and would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_scans_that_wait_far_away() {
    let limits = json!({ "threads": 1 });
    let cluster = Cluster::start(Setup { graph: Graph::Six, limits, ..Setup::default() }).await;
    // Who has F's only turn keeps its scans from beginning, not F from listening.
    let share = Share { flow: Flow(None), client: 0, query: QueryId(0), weight: 1 };
    let held = cluster.node("F").pool().turn(&share).await;
    let scans = async |node: &str| cluster.client_of(node).metrics(PATIENCE).await.map(|metrics| metrics.scans_running);
    let scanning = async |expected: bool| {
        for node in ["E", "F"] {
            until(&format!("{node} scans: {expected}"), async || match scans(node).await {
                Ok(count) if (count > 0) == expected => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        }
    };
    for by_call in [true, false] {
        let spec = QuerySpec { cancel_on_disconnect: !by_call, ..range(&Question::default()) };
        let client = cluster.client();
        let mut answer = client.open(spec).await.expect("it is let in");
        scanning(true).await;
        if by_call {
            answer.cancel().await;
        }
        drop((answer, client));
        scanning(false).await;
    }
    drop(held);
    until_nothing_is_left(&cluster, &["A", "B", "C", "D", "E", "F"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_and_a_draining_one_leave_nothing_behind() {
    let limits = json!({ "threads": 1, "idle_s": 1, "result_ttl_s": 1 });
    let mut cluster = Cluster::start(Setup { graph: Graph::Five, limits, ..Setup::default() }).await;
    let spec = || QuerySpec { time_left: Some(Duration::from_secs(8)), ..sql("SELECT * FROM observations") };
    let frozen = cluster.freeze("D");
    let asked: Vec<_> = (0..20).map(|_| cluster.ask_later(spec())).collect();
    until("they run", async || match cluster.metrics().await.active_requests {
        20 => Ok(()),
        running => Err(format!("{running}")),
    })
    .await;
    drop(frozen);
    cluster.kill("D");
    for answer in asked {
        // Those whose rows had come in time are answered.
        let _ = answer.await.expect("no panic");
    }
    until_nothing_is_left(&cluster, &["A", "B", "C", "E"]).await;
    let asked: Vec<_> = (0..20).map(|_| cluster.ask_later(QuerySpec { allow_partial: true, ..spec() })).collect();
    cluster.drain("C").await;
    for answer in asked {
        let _ = answer.await.expect("no panic");
    }
    until_nothing_is_left(&cluster, &["A", "B", "E"]).await;
}
