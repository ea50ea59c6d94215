//! Streams that are half read and then left, and one on the same connection that is read to its end: what stands still
//! holds up nothing but itself.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use overlay::delivery::QueryId;
use overlay::engine::hop::RemoteScan;
use overlay::engine::message::{NodeInstance, Payload, ScanMessage, ScanPath, ScanRequest};
use overlay::leader::answer::QuerySpec;
use overlay::routing::NodeId;
use overlay::routing::assignment::Order;
use overlay::routing::path::Path;
use overlay::transport::connector::Tcp;
use overlay::transport::peer::{PeerLink, PeerLinks};
use overlay_ingest::{Layout, observations};
use serde_json::json;

use crate::asking::{range, read, sql};
use crate::cluster::{Cluster, Graph, PATIENCE, Setup, ingest};
use crate::oracle::Question;
use crate::rows::assert_same;

const HALF_READ: usize = 50;
/// What a stream may hold on its way; a stream with more than this stands still while nobody reads it.
const STREAM_WINDOW_BYTES: usize = 4 << 20;

/// An overlay with larger zones than other tests, which are quicker to send, and no more of them than needed.
async fn large(graph: Graph) -> Cluster {
    let mut cluster = Cluster::prepare(&Setup { graph, sites: 160, ..Setup::default() });
    ingest(&cluster.data_set(), Layout::default());
    for id in cluster.ids() {
        cluster.start_node(&id).await;
    }
    cluster.until_complete().await;
    cluster
}

/// Every row three times, which does not fit into a stream's window.
const THREE_TIMES: &str = "SELECT observations.* FROM observations CROSS JOIN (VALUES (1), (2), (3)) AS times (n)";

/// Longer than all of a test takes on a busy machine; what stands still stands for ever.
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_read_answers_hold_up_no_other() {
    tokio::time::timeout(LIMIT, half_read_answers()).await.expect("it stands still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_read_scans_hold_up_no_other() {
    tokio::time::timeout(LIMIT, half_read_scans()).await.expect("it stands still");
}

async fn half_read_answers() {
    let cluster = large(Graph::Embedded).await;
    let client = cluster.client();
    let large = QuerySpec { wait: true, encoding: "arrow_ipc", ..sql(THREE_TIMES) };
    let id = client.node().submit(large, "test", None).await.expect("submitted").id;
    let mut bytes = 0;
    let mut whole = client.node().stream(id, 0, None).await.expect("a stream");
    while let Some(message) = whole.next().await {
        bytes += message.expect("a message").data.len();
    }
    assert!(bytes > STREAM_WINDOW_BYTES + (1 << 20), "{bytes} bytes fit into a window");

    let mut half_read = Vec::new();
    for _ in 0..HALF_READ {
        let mut stream = client.node().stream(id, 0, None).await.expect("a stream");
        stream.next().await.expect("a message").expect("of rows");
        half_read.push(stream);
    }
    let one = read(&client, range(&Question::default())).await.expect("answered");
    assert_same(&one.rows, &cluster.oracle.answer(&Question::default()), "the one that is read");
    // Those that were left can still be read to their end.
    let mut rest = half_read.swap_remove(HALF_READ / 2);
    let mut last = None;
    while let Some(message) = rest.next().await {
        last = message.expect("a message").footer;
    }
    assert_eq!(last.expect("the end").rows, 3 * one.footer.rows);
}

async fn half_read_scans() {
    let cluster = large(Graph::Pair).await;
    let worker = cluster.node("B");
    let next = NodeId::from("B");
    let address = worker.address().to_owned();
    let links = PeerLinks::default();
    links.insert(next.clone(), PeerLink::new(Arc::new(Tcp), Arc::new(move || Some(address.clone()))));
    let path = Path::try_from(vec![NodeId::from("A"), next.clone()]).expect("a path");
    let request = ScanRequest {
        query: QueryId(7),
        attempt: 0,
        leaf: 0,
        team: None,
        client: 1,
        weight: 1,
        time_left: Duration::from_secs(120),
        hops: vec!["A".into()],
        leader: NodeInstance { id: "A".into(), incarnation: 1 },
        orders: vec![Order { path, partitions: worker.store().ids() }],
        zones: Default::default(),
        in_flight: 1,
        // Every column many times, so that it does not fit into a stream's window.
        projection: std::iter::repeat_n(0..observations().fields().len(), 16).flatten().collect(),
        predicate: Vec::new(),
        limit: None,
        scan_path: ScanPath::Any,
    };
    let mut half_read = Vec::new();
    for _ in 0..HALF_READ {
        let mut stream = links.scan(&next, request.clone()).await.expect("a stream");
        stream.next().await.expect("a message").expect("of rows");
        half_read.push(stream);
    }
    let one = async {
        let (mut rows, mut bytes, mut done) = (0, 0, false);
        let mut stream = links.scan(&next, request.clone()).await.expect("a stream");
        while let Some(message) = stream.next().await {
            match message.expect("no failure of the link") {
                ScanMessage::Zones(answers) => {
                    rows += answers.iter().map(|answer| answer.rows).sum::<u64>();
                    bytes += answers
                        .iter()
                        .map(|answer| match &answer.payload {
                            Payload::Packed { bytes, .. } => bytes.len(),
                            _ => 0,
                        })
                        .sum::<usize>();
                }
                ScanMessage::Failed(failure) => panic!("{failure:?}"),
                ScanMessage::Done { .. } => done = true,
            }
        }
        assert!(done, "the scan told its end");
        (rows, bytes)
    };
    let (rows, bytes) = one.await;
    assert_eq!(rows, cluster.oracle.rows.len() as u64);
    assert!(bytes > STREAM_WINDOW_BYTES + (1 << 20), "{bytes} bytes fit into a window");
    // The node itself goes on: it answers queries over its own links while the scans stand still.
    let few = Question { parameter: Some("OZONE"), min: Some(40.0), ..Question::default() };
    let answer = cluster.ask(QuerySpec { encoding: "json", ..range(&few) }).await.expect("answered");
    assert_same(&answer.rows, &cluster.oracle.answer(&few), "a query meanwhile");
    assert!(cluster.status("B").await.state == "ready" && json!(cluster.metrics().await)["is_healthy"] == true);
    drop(half_read);
    crate::cluster::until("the scans end with their readers", async || {
        let running = cluster.client_of("B").metrics(PATIENCE).await.expect("metrics").scans_running;
        if running == 0 { Ok(()) } else { Err(format!("{running} scans")) }
    })
    .await;
}
