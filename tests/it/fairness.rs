//! Every fairness strategy seen from outside: more than a hundred queries at once over real connections, a strategy
//! switched while they wait, and a small query beside admitted giants. What holds the queries where they are is a turn
//! that the test takes from the node, so nothing here depends on time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use overlay::client::Client;
use overlay::delivery::QueryId;
use overlay::engine::executor::{Job, ScanPool};
use overlay::engine::fair_pool::{FairPool, Turn};
use overlay::engine::share::{Flow, Share};
use overlay::failure::{Failure, FailureKind};
use overlay::leader::answer::{QuerySpec, QueryState};
use serde_json::{Value, json};

use crate::asking::{range, sql};
use crate::cluster::{Cluster, Graph, PATIENCE, Setup, until};
use crate::oracle::Question;

fn share(flow: &str, query: u128, weight: u32) -> Share {
    Share { flow: Flow(Some(flow.into())), client: 1, query: QueryId(query), weight }
}

/// One node with one turn at a time.
async fn embedded(strategy: &str, limits: Value) -> Cluster {
    let strategies = json!({ "fairness_strategy": strategy });
    Cluster::start(Setup { graph: Graph::Embedded, strategies, limits, days: 3, ..Setup::default() }).await
}

/// The node's only turn: as long as it is held, what is admitted runs and comes to no end.
async fn hold(cluster: &Cluster) -> Turn {
    cluster.node("A").pool().turn(&share("held", 0, 1)).await
}

/// A query of team `all`, or of no team.
fn of(team: bool, spec: QuerySpec) -> QuerySpec {
    QuerySpec { team: team.then(|| "all".into()), ..spec }
}

async fn submit(client: &Client, spec: QuerySpec) -> Result<QueryId, Failure> {
    client.node().submit(spec, client.id(), None).await.map(|submitted| submitted.id)
}

async fn count_running(client: &Client, ids: &[QueryId]) -> usize {
    let mut running = 0;
    for id in ids {
        running += usize::from(client.node().query_status(*id).await.expect("known").state == QueryState::Running);
    }
    running
}

/// 110 queries of the team `all`, then 60 of none, on a node where none ends: so many of each run at the same time.
async fn check_running(strategy: &str, expected: (usize, usize)) {
    let cluster = embedded(strategy, json!({ "threads": 1 })).await;
    let held = hold(&cluster).await;
    let clients: Vec<Client> = (0..10).map(|_| cluster.client()).collect();
    let (mut of_all, mut of_none) = (Vec::new(), Vec::new());
    for n in 0..170 {
        let is_all = n < 110;
        let id = submit(&clients[n % 10], of(is_all, sql("SELECT count(*) FROM observations"))).await;
        if is_all { &mut of_all } else { &mut of_none }.push(id.expect("there is room to wait"));
    }
    let running = (count_running(&clients[0], &of_all).await, count_running(&clients[1], &of_none).await);
    assert_eq!(running, expected, "{strategy}");
    let metrics = cluster.metrics().await;
    assert_eq!(metrics.fairness_strategy, strategy);
    let all_running = running.0 + running.1;
    assert_eq!((metrics.active_requests as usize, metrics.queue_size as usize), (all_running, 170 - all_running));
    drop(held);
    for id in of_all.iter().chain(&of_none) {
        until("every query ends well", async || {
            let status = clients[0].node().query_status(*id).await.expect("known");
            if status.state == QueryState::Ready { Ok(()) } else { Err(format!("{strategy}: {status:?}")) }
        })
        .await;
    }
    let metrics = cluster.metrics().await;
    assert_eq!((metrics.active_requests, metrics.queue_size, metrics.queries_refused), (0, 0, 0), "{strategy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_fires() {
    check_running("strict", (60, 40)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weighted_fires() {
    check_running("weighted", (100, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hybrid_fires() {
    check_running("hybrid", (80, 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fair_queue_fires() {
    // The only core is busy, so two of each keep it so; and two more, of clients that have none running.
    check_running("fair_queue", (4, 4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_lets_one_team_have_all() {
    check_running("fifo", (100, 0)).await;
}

/// The queue is full of one team; a query of another takes the place of that team's newest, which is told to come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_shared_too() {
    let limits = json!({ "threads": 1, "concurrent_max": 2, "team_concurrent_max": 1, "queue_capacity": 4 });
    let cluster = embedded("fair_queue", limits).await;
    let held = hold(&cluster).await;
    let client = cluster.client();
    let count = || sql("SELECT count(*) FROM observations");
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(submit(&client, of(true, count())).await.expect("a place"));
    }
    let full = submit(&client, of(true, count())).await.expect_err("no place for more of the same");
    assert_eq!((full.kind, &*full.reason), (FailureKind::ResourceExhausted, "QUEUE_FULL"));
    assert!(full.retry_after.is_some_and(|after| after > Duration::ZERO), "{full:?}");
    // One runs, so two of none wait; each of them pushes one of `all` out.
    for newest in [None, Some(4), Some(3)] {
        submit(&client, of(false, count())).await.expect("another flow finds a place");
        let displaced = match newest {
            Some(newest) => read_failure(&client, ids[newest]).await,
            None => continue,
        };
        assert_eq!((displaced.kind, &*displaced.reason), (FailureKind::ResourceExhausted, "DISPLACED"));
        assert!(displaced.retry_after.is_some_and(|after| after > Duration::ZERO), "{displaced:?}");
    }
    drop(held);
}

async fn read_failure(client: &Client, id: QueryId) -> Failure {
    client.node().chunk(id, 0, None, None).await.expect_err("it was displaced")
}

async fn control(cluster: &Cluster, strategy: &str) -> Result<String, Failure> {
    cluster.client().node().control(Some(strategy), PATIENCE).await
}

/// Strategies come and go while queries wait and run, and every query comes to its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_is_switched_without_dropping_a_query() {
    let cluster = embedded("strict", json!({ "threads": 1, "concurrent_max": 10, "team_concurrent_max": 6 })).await;
    let held = hold(&cluster).await;
    let expected = cluster.ask_later(of(true, range(&Question::default())));
    let mut answers: Vec<_> = (0..60).map(|n| cluster.ask_later(of(n % 3 > 0, range(&Question::default())))).collect();
    answers.push(expected);
    until("all are admitted", async || {
        let metrics = cluster.metrics().await;
        let (running, waiting) = (metrics.active_requests, metrics.queue_size);
        if running == 10 && waiting == 51 { Ok(()) } else { Err(format!("{running} run and {waiting} wait")) }
    })
    .await;
    drop(held);
    for name in ["weighted", "fair_queue", "fifo", "hybrid", "strict", "fair_queue"] {
        let held = hold(&cluster).await;
        assert_eq!(control(&cluster, name).await.expect("it is known"), name);
        assert_eq!(cluster.metrics().await.fairness_strategy, name);
        drop(held);
    }
    let refused = control(&cluster, "unfair").await.expect_err("there is no such strategy");
    assert_eq!((refused.kind, refused.reason.as_str()), (FailureKind::InvalidArgument, "STRATEGY"), "{refused}");
    for answer in answers {
        let answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.rows.len(), cluster.oracle.rows.len());
    }
}

/// Thirty queries of a team run or wait before one of nobody's comes, all alike: it ends among the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_beside_thirty_of_a_team_ends_by_its_share() {
    let cluster = embedded("fair_queue", json!({ "threads": 1 })).await;
    let held = hold(&cluster).await;
    let ended = Arc::new(Mutex::new(Vec::new()));
    let taken = async |count: u32| {
        until("they are taken", async || {
            let metrics = cluster.metrics().await;
            let taken = metrics.active_requests + metrics.queue_size;
            if taken == count { Ok(()) } else { Err(format!("{taken} of {count} run or wait")) }
        })
        .await;
    };
    let ask = |team: bool| {
        let (ended, client) = (Arc::clone(&ended), cluster.client());
        tokio::spawn(async move {
            // Answered when the query has ended: what reading takes is not asked here.
            let spec = QuerySpec { wait: true, ..of(team, range(&Question::default())) };
            submit(&client, spec).await.expect("an answer");
            ended.lock().expect("no panic").push(team);
        })
    };
    let mut asked: Vec<_> = (0..30).map(|_| ask(true)).collect();
    taken(30).await;
    asked.push(ask(false));
    taken(31).await;
    drop(held);
    for task in asked {
        task.await.expect("it ended well");
    }
    let ended = ended.lock().expect("no panic");
    let place = ended.iter().position(|team| !team).expect("it ended") + 1;
    assert!(place <= 10, "it was the {place}th of 31");
}

/// What a worker does for a query takes turns there, and is billed at the Leader to the team that was named.
#[tokio::test(flavor = "multi_thread")]
async fn scans_take_turns_where_they_run_and_are_billed_to_their_team() {
    for strategy in ["fair_queue", "strict"] {
        let strategies = json!({ "fairness_strategy": strategy });
        let setup = Setup { graph: Graph::Pair, strategies, limits: json!({ "threads": 1 }), ..Setup::default() };
        let cluster = Cluster::start(Setup { days: 3, ..setup }).await;
        let held = cluster.node("B").pool().turn(&share("held", 0, 1)).await;
        let asked = cluster.ask_later(of(true, range(&Question::default())));
        until("zones wait at the worker", async || match cluster.node("B").pool().load() {
            (1, waiting) if waiting > 0 => Ok(()),
            load => Err(format!("{load:?} turns are given and waited for")),
        })
        .await;
        drop(held);
        let answer = asked.await.expect("no panic").expect("an answer");
        assert_eq!(answer.rows.len(), cluster.oracle.rows.len());
        let work = answer.footer.work.iter().find(|work| work.node.as_str() == "B").expect("B scanned");
        assert!(work.bytes_sent > 0 && work.cpu > Duration::ZERO, "{work:?}");
        let flows = cluster.node("A").admission().flows;
        let charged = flows[&Flow(Some("all".into()))].charged;
        // What B computed and sent, and what was sent to the client, which is about as much.
        let least = work.cpu + Duration::from_nanos(work.bytes_sent);
        assert!(charged >= least, "{charged:?} charged, {least:?} measured at B");
        assert_eq!(flows.len(), 1, "nobody else is billed");
    }
}

/// A pool that keeps in which order the jobs of which query ran.
struct Recording {
    pool: FairPool,
    order: Arc<Mutex<Vec<u128>>>,
}

impl Recording {
    fn spawn(&self, share: &Share, job: Job) {
        let (order, query) = (Arc::clone(&self.order), share.query.0);
        let recorded = Box::new(move || {
            order.lock().expect("no panic").push(query);
            job();
        });
        self.pool.spawn(share, recorded);
    }
}

/// Ten giants keep as many zones queued as a scan may, then a small query queues eight. By shares its last zone comes
/// among the first twenty, in the order of arrival after all that the giants had queued.
#[test]
fn zones_of_a_small_query_are_scanned_between_those_of_giants() {
    for (weight, of_small_before) in [(1, 20), (0, 88)] {
        let clock: overlay::engine::executor::Clock = Arc::new(|| Duration::ZERO);
        let pool = Recording { pool: FairPool::new(1, clock).expect("a thread"), order: Arc::default() };
        let (release, wait) = std::sync::mpsc::channel::<()>();
        pool.spawn(
            &share("held", 99, weight),
            Box::new(move || assert!(wait.recv().is_err(), "the end of the sender")),
        );
        for giant in 1..=10 {
            (0..8).for_each(|_| pool.spawn(&share("giants", giant, weight), Box::new(|| {})));
        }
        (0..8).for_each(|_| pool.spawn(&share("small", 0, weight), Box::new(|| {})));
        drop(release);
        while pool.pool.load() != (0, 0) {
            std::thread::yield_now();
        }
        let order = pool.order.lock().expect("no panic");
        let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
        order.iter().for_each(|query| *counts.entry(*query).or_default() += 1);
        assert_eq!((order.len(), counts[&0]), (89, 8));
        let last = order.iter().rposition(|query| *query == 0).expect("it ran") + 1;
        match weight {
            0 => assert!(last > of_small_before, "{last} of {order:?}"),
            _ => assert!(last <= of_small_before, "{last} of {order:?}"),
        }
    }
}

/// Joins without end of one team hold the only turn for as long as they compute; queries of another are answered all the
/// same, and each team is charged for its own.
#[tokio::test(flavor = "multi_thread")]
async fn giant_joins_of_one_team_do_not_starve_another() {
    let cluster = embedded("fair_queue", json!({ "threads": 1 })).await;
    let client = cluster.client();
    let endless = [
        "SELECT count(*) FROM observations a JOIN observations b ON a.parameter = b.parameter \
         JOIN observations c ON b.parameter = c.parameter",
        "SELECT count(*) FROM observations a, observations b, observations c WHERE a.aqi + b.aqi + c.aqi < 0",
    ];
    let mut giants = Vec::new();
    for n in 0..4 {
        giants.push(submit(&client, of(true, sql(endless[n % 2]))).await.expect("there is room"));
    }
    let charged = |flow: Option<&str>| {
        let flows = cluster.node("A").admission().flows;
        flows.get(&Flow(flow.map(Into::into))).map_or(Duration::ZERO, |flow| flow.charged)
    };
    until("the joins compute", async || match charged(Some("all")) {
        Duration::ZERO => Err("nothing is charged".to_owned()),
        _ => Ok(()),
    })
    .await;
    for _ in 0..10 {
        let id =
            submit(&client, of(false, sql("SELECT parameter, count(*) FROM observations GROUP BY parameter"))).await;
        let id = id.expect("there is room");
        until("a small query ends", async || {
            let status = client.node().query_status(id).await.expect("known");
            if status.state == QueryState::Ready { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }
    // Two a core, and more once it is seen how long they take.
    assert!(count_running(&client, &giants).await >= 2, "without an end");
    // What an operator computes without a pause is charged when it pauses, so the joins' charge says little yet.
    assert!(charged(None) > Duration::ZERO, "the small queries are charged for their own");
    for id in giants {
        client.node().cancel(id).await.expect("it is there");
    }
}

/// What the thread that it is called on has computed so far.
#[cfg(target_os = "linux")]
fn computed_here() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanos = told.split_whitespace().next().expect("the time on the core comes first");
    Duration::from_nanos(nanos.parse().expect("a number"))
}

/// Two thousand queries are refused at a full queue, by a node that shares its thread with the client: together they
/// compute no more for one than the node alone may, and keep nothing of it.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "current_thread")]
async fn a_refusal_costs_little_and_leaves_nothing() {
    const REFUSALS: u32 = 2_000;
    let limits = json!({ "threads": 1, "concurrent_max": 1, "team_concurrent_max": 1, "queue_capacity": 2 });
    let cluster = embedded("fair_queue", limits).await;
    let held = hold(&cluster).await;
    let client = cluster.client();
    let count = || of(true, sql("SELECT count(*) FROM observations"));
    for _ in 0..3 {
        submit(&client, count()).await.expect("one runs and two wait");
    }
    let before = (cluster.metrics().await, computed_here());
    for _ in 0..REFUSALS {
        let refused = submit(&client, count()).await.expect_err("the queue is full");
        assert_eq!(refused.reason, "QUEUE_FULL");
    }
    let each = (computed_here() - before.1) / REFUSALS;
    let after = cluster.metrics().await;
    println!("a refusal takes {each:?} at client and node");
    assert!(each <= Duration::from_millis(1), "{each:?}");
    assert_eq!(after.queries_refused, before.0.queries_refused + u64::from(REFUSALS));
    let kept = |metrics: &overlay::node::status::Metrics| {
        (metrics.active_requests, metrics.queue_size, metrics.results, metrics.result_bytes)
    };
    assert_eq!(kept(&after), kept(&before.0));
    drop(held);
}
