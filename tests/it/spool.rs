//! Results that are larger than the memory for results: the rest waits on disk, whoever reads it, and is gone afterwards.

use std::fs;
use std::path::PathBuf;

use fastrand::Rng;
use futures::StreamExt;
use overlay::delivery::QueryId;
use overlay::failure::FailureKind;
use overlay::leader::answer::{QuerySpec, QueryState};
use serde_json::{Value, json};

use crate::asking::{range, read, sql};
use crate::chunks::rows;
use crate::cluster::{Cluster, Graph, PATIENCE, Setup, until};
use crate::oracle::Question;

/// What a result may take of memory; those of this file take several times as much.
const MEMORY_BYTES: u64 = 128 << 10;
/// Everything, in an order that does not depend on who answered first.
const ALL: &str = "SELECT * FROM observations ORDER BY parameter, site_name, utc, concentration, latitude, longitude";

async fn embedded(limits: Value) -> Cluster {
    let strategies = json!({ "chunking_strategy": "fixed", "chunk_size": 150 });
    let mut all = json!({ "threads": 1, "result_bytes_max": MEMORY_BYTES });
    for (key, value) in limits.as_object().expect("limits") {
        all[key] = value.clone();
    }
    Cluster::start(Setup { graph: Graph::Embedded, strategies, limits: all, ..Setup::default() }).await
}

/// Runs a query to its end without reading it.
async fn finished(cluster: &Cluster, spec: QuerySpec) -> (QueryId, u64) {
    let client = cluster.client();
    let reply = client.node().submit(QuerySpec { wait: true, ..spec }, "test", Some(PATIENCE)).await.expect("ready");
    assert_eq!(reply.state, QueryState::Ready);
    (reply.id, reply.total_chunks.expect("totals are what was waited for"))
}

/// The folder with A's rows on disk.
fn folder(cluster: &Cluster) -> PathBuf {
    let state = fs::read_dir(cluster.folder().join("state")).expect("the state folder");
    let folders: Vec<PathBuf> = state.map(|entry| entry.expect("an entry").path().join("A/spool")).collect();
    folders.into_iter().find(|folder| folder.is_dir()).expect("A has made it")
}

fn files(cluster: &Cluster) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(cluster)).expect("the folder is there");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Waits until nothing is held any more, in memory or on disk.
async fn until_nothing_is_held(cluster: &Cluster) {
    until("nothing is held", async || {
        let metrics = cluster.metrics().await;
        let held = (metrics.results, metrics.result_bytes, metrics.result_disk_bytes, files(cluster).len());
        if held == (0, 0, 0, 0) { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
}

#[tokio::test]
async fn an_answer_from_disk_is_the_same_to_the_last_byte() {
    let (small, roomy) = (embedded(json!({})).await, embedded(json!({ "result_bytes_max": "64MiB" })).await);
    for encoding in ["json", "arrow_ipc"] {
        let spec = || QuerySpec { encoding, ..sql(ALL) };
        let (id, total) = finished(&small, spec()).await;
        let (other, other_total) = finished(&roomy, spec()).await;
        assert_eq!(total, other_total);
        let metrics = small.metrics().await;
        assert!(metrics.result_bytes <= MEMORY_BYTES && metrics.result_disk_bytes > MEMORY_BYTES, "{metrics:?}");
        assert_eq!((roomy.metrics().await.result_disk_bytes, metrics.result_disk_bytes_max), (0, 4 << 30));
        #[cfg(unix)]
        for file in files(&small).iter().chain([&folder(&small)]) {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(file).expect("it is there").permissions().mode() & 0o077, 0, "{}", file.display());
        }
        let mut random = Rng::with_seed(11);
        let mut order: Vec<u64> = (0..total).chain(0..total / 3).collect();
        random.shuffle(&mut order);
        for index in order {
            let one = small.client().node().chunk(id, index, None, None).await.expect("a chunk");
            let same = roomy.client().node().chunk(other, index, None, None).await.expect("a chunk");
            // The dictionaries of Arrow may list their values in another order.
            let same_bytes = one.data == same.data && one.chunks == same.chunks;
            assert!(same_bytes || encoding == "arrow_ipc", "the bytes of chunk {index}");
            assert_eq!(rows(&one, encoding), rows(&same, encoding), "chunk {index} as {encoding}");
        }
        // A reader that acknowledges as it reads leaves nothing.
        let client = small.client();
        for index in 0..total {
            client.node().chunk(id, index, index.checked_sub(1), None).await.expect("a chunk");
        }
        client.node().stream(id, total, Some(total - 1)).await.expect("a stream").next().await;
        assert_eq!(small.metrics().await.result_disk_bytes, 0);
        client.node().cancel(id).await.expect("it is there");
        until_nothing_is_held(&small).await;
    }
    let answer = read(&small.client(), sql(ALL)).await.expect("answered");
    assert_eq!(answer.rows, small.oracle.answer(&Question::default()));
}

#[tokio::test]
async fn with_both_full_a_query_fails_and_names_both_settings_while_others_go_on() {
    let cluster = embedded(json!({ "result_disk_bytes_max": 64 << 10 })).await;
    let failed = read(&cluster.client(), sql(ALL)).await.map(|answer| answer.rows.len()).expect_err("too large");
    assert_eq!((failed.kind, failed.reason.as_str()), (FailureKind::ResourceExhausted, "RESULT_BYTES"), "{failed:?}");
    for setting in ["limits.result_bytes_max", "limits.result_disk_bytes_max"] {
        assert!(failed.message.contains(setting), "{failed}");
    }
    let few = read(&cluster.client(), sql("SELECT * FROM observations LIMIT 300")).await.expect("answered");
    assert_eq!(few.rows.len(), 300);
    let metrics = cluster.metrics().await;
    assert!(metrics.result_disk_bytes_peak <= 64 << 10 && metrics.result_bytes_peak <= MEMORY_BYTES, "{metrics:?}");
}

#[tokio::test]
async fn a_broken_disk_fails_the_queries_that_need_it_and_no_other() {
    let cluster = embedded(json!({})).await;
    // Zone by zone, so that the first are in memory.
    let (id, total) = finished(&cluster, range(&Question::default())).await;
    for file in files(&cluster) {
        let length = fs::metadata(&file).expect("it is there").len();
        fs::File::options().write(true).open(&file).and_then(|file| file.set_len(length - 9)).expect("cut short");
    }
    let failed = cluster.client().node().chunk(id, total - 1, None, None).await.expect_err("it is damaged");
    assert_eq!((failed.kind, failed.reason.as_str()), (FailureKind::DataLoss, "SPOOL"), "{failed:?}");
    cluster.client().node().chunk(id, 0, None, None).await.expect("what is in memory is fine");
    cluster.client().node().cancel(id).await.expect("it is there");
    until_nothing_is_held(&cluster).await;

    let folder = folder(&cluster);
    fs::remove_dir(&folder).expect("it is empty");
    fs::write(&folder, "in the way").expect("written");
    let failed = read(&cluster.client(), sql(ALL)).await.map(|answer| answer.rows.len()).expect_err("no folder");
    assert_eq!((failed.kind, failed.reason.as_str()), (FailureKind::Internal, "SPOOL"), "{failed:?}");
    assert!(failed.message.contains("limits.result_disk_bytes_max"), "{failed}");
    let few = read(&cluster.client(), sql("SELECT * FROM observations LIMIT 300")).await.expect("answered");
    assert_eq!(few.rows.len(), 300);
    until("its space is given back", async || match cluster.metrics().await.result_disk_bytes {
        0 => Ok(()),
        bytes => Err(format!("{bytes} bytes")),
    })
    .await;
}

#[tokio::test]
async fn what_a_kill_left_is_swept_at_the_next_start() {
    let mut cluster = embedded(json!({})).await;
    finished(&cluster, sql(ALL)).await;
    let folder = folder(&cluster);
    assert!(!files(&cluster).is_empty());
    cluster.kill("A");
    // As a process leaves it that had no time at all, under this configuration and under another.
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("left.rows"), "rows").expect("written");
    let earlier = cluster.folder().join("state/0123456789abcdef/A");
    fs::create_dir_all(earlier.join("spool")).expect("made");
    fs::write(earlier.join("spool/left.rows"), "rows").expect("written");
    fs::write(earlier.join("manifest.json"), "{}").expect("written");
    cluster.start_node(&"A".into()).await;
    cluster.until_complete().await;
    assert!(files(&cluster).is_empty() && !earlier.join("spool").exists(), "{:?}", files(&cluster));
    assert!(earlier.join("manifest.json").exists(), "only rows are swept");
    assert_eq!(cluster.metrics().await.result_disk_bytes, 0);
    let few = read(&cluster.client(), sql(ALL)).await.expect("answered");
    assert_eq!(few.rows.len(), cluster.oracle.rows.len());
}
