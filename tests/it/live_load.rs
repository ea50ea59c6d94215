//! `capacity` over real nodes: a holder that is busy says so with its replies, is given less, and is given its part again
//! when it is free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use overlay::delivery::QueryId;
use overlay::engine::executor::ScanPool;
use overlay::engine::hop::RemoteScan;
use overlay::engine::message::{NodeInstance, ScanMessage, ScanPath, ScanRequest};
use overlay::engine::share::{Flow, Share};
use overlay::routing::assignment::Order;
use overlay::routing::path::Path;
use overlay::routing::{Load, NodeId};
use overlay::transport::connector::Tcp;
use overlay::transport::peer::{PeerLink, PeerLinks};
use serde_json::json;

use crate::asking::range;
use crate::cluster::{Cluster, Graph, Setup, until};
use crate::oracle::Question;

/// Pieces of work that wait at the busy node, far more than a query has partitions.
const WAITING: usize = 500;

/// A question whose zones have to be looked at.
fn looked_at() -> Question {
    Question { min: Some(1.0), ..Question::default() }
}

/// Rows that each node looked at for one query.
async fn scanned(cluster: &Cluster) -> BTreeMap<NodeId, u64> {
    let answer = cluster.ask(range(&looked_at())).await.expect("answered");
    assert_eq!(answer.rows, cluster.oracle.answer(&looked_at()));
    let mut rows = BTreeMap::new();
    for work in &answer.footer.work {
        *rows.entry(work.node.clone()).or_default() += work.rows_scanned;
    }
    rows
}

/// What a node says of itself at the end of a scan.
async fn load_in_reply(cluster: &Cluster, id: &str) -> Load {
    let next = NodeId::from(id);
    let address = cluster.node(id).address().to_owned();
    let links = PeerLinks::default();
    links.insert(next.clone(), PeerLink::new(Arc::new(Tcp), Arc::new(move || Some(address.clone()))));
    let path = Path::try_from(vec![NodeId::from("A"), next.clone()]).expect("a path");
    let request = ScanRequest {
        query: QueryId(9),
        attempt: 0,
        leaf: 0,
        team: None,
        client: 1,
        weight: 1,
        time_left: Duration::from_secs(30),
        hops: vec!["A".into()],
        leader: NodeInstance { id: "A".into(), incarnation: 1 },
        orders: vec![Order { path, partitions: cluster.node(id).store().ids().into_iter().take(1).collect() }],
        zones: Default::default(),
        in_flight: 1,
        projection: vec![0],
        predicate: Vec::new(),
        limit: None,
        scan_path: ScanPath::Any,
    };
    let mut messages = links.scan(&next, request).await.expect("a stream");
    while let Some(message) = messages.next().await {
        if let ScanMessage::Done { load, .. } = message.expect("no failure of the link") {
            return load.expect("a reply says how busy its node is");
        }
    }
    panic!("the scan told its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_holder_is_given_less_until_it_is_free() {
    let strategies = json!({ "forwarding_strategy": "capacity", "async_forwarding": true });
    let setup = Setup { graph: Graph::Five, strategies, replicas: json!(2), ..Setup::default() };
    let cluster = Cluster::start(setup).await;
    let c = NodeId::from("C");
    let all: u64 = scanned(&cluster).await.values().sum();
    let of_c = async || scanned(&cluster).await.get(&c).copied().unwrap_or(0);
    until("C has its part", async || match of_c().await {
        rows if rows >= all / 8 => Ok(()),
        rows => Err(format!("{rows} of {all} rows")),
    })
    .await;

    let pool = cluster.node("C").pool().clone();
    let busy = Arc::new(AtomicBool::new(true));
    let share = Share { flow: Flow(Some("busy".into())), client: 1, query: QueryId(1), weight: 1 };
    // Each gives way to a zone of a query and then comes back, so that C is slow and not dead.
    fn work(pool: &overlay::engine::fair_pool::FairPool, share: &Share, busy: &Arc<AtomicBool>) {
        let (again, of, still) = (pool.clone(), share.clone(), Arc::clone(busy));
        pool.spawn(
            share,
            Box::new(move || {
                // This is the work: it takes a thread of C for a time. Nothing here waits for anything to have happened.
                std::thread::sleep(Duration::from_micros(200));
                if still.load(Ordering::Relaxed) {
                    work(&again, &of, &still);
                }
            }),
        );
    }
    (0..WAITING).for_each(|_| work(&pool, &share, &busy));
    let load = load_in_reply(&cluster, "C").await;
    assert!(load.queued as usize >= WAITING / 2 && load.capacity == 1 && load.service_ms > 0.0, "{load:?}");
    assert!((load_in_reply(&cluster, "D").await.queued as usize) < WAITING / 2, "D has nothing to do");
    until("C is given little", async || match of_c().await {
        rows if rows <= all / 50 => Ok(()),
        rows => Err(format!("{rows} of {all} rows")),
    })
    .await;
    busy.store(false, Ordering::Relaxed);
    until("C has its part again", async || match of_c().await {
        rows if rows >= all / 8 => Ok(()),
        rows => Err(format!("{rows} of {all} rows")),
    })
    .await;
}
