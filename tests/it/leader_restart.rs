//! A Leader that is killed and started again while queries run: what ran ends with a clear error, what comes next is
//! right at once, and no node so much as loads a partition again.

use std::sync::Arc;
use std::time::Duration;

use overlay::engine::store::HeldPartition;
use overlay::failure::FailureKind;
use overlay::leader::answer::{QuerySpec, QueryState};
use overlay::node::status::PartitionStatus;
use overlay_ingest::PartitionId;
use serde_json::json;

use crate::asking::{range, sql};
use crate::cluster::{Cluster, Graph, PATIENCE, Setup};
use crate::oracle::Question;
use crate::rows::assert_same;

type Held = Vec<(String, PartitionId, Arc<HeldPartition>)>;

/// Every partition in memory, by node.
fn held(cluster: &Cluster) -> Held {
    let ids = cluster.ids().into_iter();
    ids.flat_map(|node| {
        let store = cluster.node(node.as_str()).store();
        let held = store.ids().into_iter().map(|id| (node.to_string(), id, store.get(&id).expect("held")));
        held.collect::<Vec<_>>()
    })
    .collect()
}

async fn partitions(cluster: &Cluster) -> Vec<PartitionStatus> {
    cluster.status("A").await.partitions
}

async fn restart_under_load(setup: Setup) {
    let mut cluster = Cluster::start(setup).await;
    let (before, listed) = (held(&cluster), partitions(&cluster).await);
    for round in 0..3 {
        // One worker stands still, so that these have begun and cannot end.
        let release = cluster.freeze("C");
        let client = cluster.client();
        let mut running = Vec::new();
        for encoding in ["arrow_ipc", "json", "packed", "arrow_ipc"] {
            let spec = QuerySpec { encoding, ..range(&Question::default()) };
            let mut answer = client.open(spec).await.expect("opened");
            answer.next().await.expect("a chunk of what is there").expect("no failure yet");
            running.push(answer);
        }
        cluster.kill("A");
        drop(release);
        cluster.start_node(&"A".into()).await;
        let asked = [range(&Question::default()), sql("SELECT count(*) FROM observations")];
        let [rows, count] = asked.map(|spec| cluster.ask(spec));
        let rows = rows.await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_same(&rows.rows, &cluster.oracle.answer(&Question::default()), "the first answer");
        assert_eq!(rows.footer.state, QueryState::Ready);
        let count = count.await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_eq!(count.rows, [rows.rows.len().to_string()]);
        for mut answer in running {
            let mut end = None;
            while let Some(batch) = answer.next().await {
                end = batch.err();
            }
            let failure = end.expect("it must not look like an end");
            assert!(answer.footer().is_none(), "no footer, no answer");
            let is_clear = matches!(failure.kind, FailureKind::Unavailable | FailureKind::NotFound);
            assert!(is_clear && !failure.message.is_empty(), "{failure:?}");
        }
        cluster.until_complete().await;
        let after = held(&cluster);
        assert_eq!(after.len(), before.len());
        for ((node, id, was), (other, same, is)) in before.iter().zip(&after) {
            assert!(node == other && id == same && Arc::ptr_eq(was, is), "{node} loaded {id} again");
        }
        assert_eq!(partitions(&cluster).await, listed, "placed and held as before");
    }
}

#[tokio::test]
async fn a_leader_starts_again_and_nothing_moves() {
    restart_under_load(Setup::default()).await;
}

#[tokio::test]
async fn with_two_replicas_nothing_moves_either() {
    restart_under_load(Setup { graph: Graph::Five, replicas: json!(2), ..Setup::default() }).await;
}

#[tokio::test]
async fn a_short_deadline_is_kept_also_while_nobody_has_spoken() {
    let mut cluster = Cluster::start(Setup::default()).await;
    for id in ["A", "B", "E"] {
        cluster.kill(id);
    }
    cluster.start_node(&"A".into()).await;
    let spec = QuerySpec { time_left: Some(Duration::from_millis(300)), ..range(&Question::default()) };
    let failure =
        tokio::time::timeout(PATIENCE, cluster.ask(spec)).await.expect("in time").err().expect("nobody is there");
    assert!(matches!(failure.kind, FailureKind::Unavailable | FailureKind::DeadlineExceeded), "{failure:?}");
    let whole = Question { dates: Some(("20200815", "20200815")), ..Question::default() };
    cluster.start_node(&"B".into()).await;
    let answer = cluster.ask(range(&whole)).await.expect("it waits for B");
    assert_same(&answer.rows, &cluster.oracle.answer(&whole), "a day of green");
}
