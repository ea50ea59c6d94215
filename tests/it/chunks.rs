//! Results as a client reads them: chunk by chunk in any order, until they are acknowledged, cancelled, evicted or
//! expired; and who is let in.

use std::time::Duration;

use futures::StreamExt;
use overlay::delivery::QueryId;
use overlay::delivery::encoding;
use overlay::delivery::encoding::schema::decode_schema;
use overlay::failure::{Failure, FailureKind};
use overlay::leader::answer::{ChunkMessage, QuerySpec, QueryState};
use serde_json::{Value, json};

use crate::asking::{range, sql};
use crate::cluster::{Cluster, Graph, Setup, until};
use crate::oracle::Question;
use crate::rows::{assert_same, texts};

/// One process with these limits, in chunks of 150 rows.
async fn embedded(limits: Value) -> Cluster {
    start(Graph::Embedded, limits).await
}

/// A Leader with these limits and a worker. While the worker is frozen, a query that reads runs and gets nowhere.
async fn pair(limits: Value) -> Cluster {
    start(Graph::Pair, limits).await
}

async fn start(graph: Graph, limits: Value) -> Cluster {
    let strategies = json!({ "chunking_strategy": "fixed", "chunk_size": 150 });
    let mut all = json!({ "threads": 1 });
    for (key, value) in limits.as_object().expect("limits") {
        all[key] = value.clone();
    }
    Cluster::start(Setup { graph, strategies, limits: all, ..Setup::default() }).await
}

async fn submit(cluster: &Cluster, spec: QuerySpec) -> Result<QueryId, Failure> {
    Ok(cluster.client().node().submit(spec, "test", None).await?.id)
}

/// A query for everything.
fn all() -> QuerySpec {
    range(&Question::default())
}

/// A whole result, and how many chunks it has.
async fn finished(cluster: &Cluster, spec: QuerySpec) -> (QueryId, u64) {
    let reply =
        cluster.client().node().submit(QuerySpec { wait: true, ..spec }, "test", None).await.expect("submitted");
    assert_eq!(reply.state, QueryState::Ready);
    assert!(reply.total_records.is_some());
    (reply.id, reply.total_chunks.expect("totals are what was waited for"))
}

async fn chunk(cluster: &Cluster, id: QueryId, index: u64) -> Result<ChunkMessage, Failure> {
    cluster.client().node().chunk(id, index, None, None).await
}

/// The rows of one message that stands alone.
pub fn rows(message: &ChunkMessage, encoding: &str) -> Vec<String> {
    assert_eq!(message.data.checksum(), message.checksum);
    let schema = decode_schema(&message.schema).expect("a schema with each chunk");
    let encoding = encoding::by_name(encoding).expect("an encoding");
    encoding.decode(&message.data.joined(), &message.chunks, &schema).expect("decoded").iter().flat_map(texts).collect()
}

#[track_caller]
fn assert_failure<T: std::fmt::Debug>(result: Result<T, Failure>, kind: FailureKind, reason: &str) {
    let failure = result.expect_err("a failure");
    assert_eq!((failure.kind, failure.reason.as_str()), (kind, reason), "{failure:?}");
}

#[tokio::test]
async fn chunks_are_read_in_any_order_and_twice() {
    let cluster = embedded(json!({})).await;
    let question = Question { parameter: Some("OZONE"), ..Question::default() };
    for encoding in ["arrow_ipc", "packed", "json"] {
        let (id, total) = finished(&cluster, QuerySpec { encoding, ..range(&question) }).await;
        assert!(total > 4, "{total} chunks");
        let mut found: Vec<(u64, Vec<String>)> = Vec::new();
        for index in [2, 0, total - 1, 2].into_iter().chain((0..total).rev()) {
            let message = chunk(&cluster, id, index).await.expect("a chunk");
            let [meta] = message.chunks.as_slice() else { panic!("one chunk was asked for") };
            assert_eq!((meta.index, meta.is_last), (index, index == total - 1));
            assert_eq!((message.total_chunks, message.footer.is_some()), (Some(total), meta.is_last));
            let rows = rows(&message, encoding);
            assert_eq!((rows.len() as u64, rows.len() == 150 || meta.is_last), (meta.rows, true));
            match found.iter().find(|(known, _)| *known == index) {
                Some((_, before)) => assert_eq!(*before, rows, "chunk {index} is the same at every read"),
                None => found.push((index, rows)),
            }
        }
        let mut all: Vec<String> = found.into_iter().flat_map(|(_, rows)| rows).collect();
        all.sort();
        assert_same(&all, &cluster.oracle.answer(&question), encoding);
        assert_failure(chunk(&cluster, id, total).await, FailureKind::OutOfRange, "PAST_THE_END");
        assert_failure(chunk(&cluster, id, u64::MAX).await, FailureKind::OutOfRange, "PAST_THE_END");
    }
    assert_failure(chunk(&cluster, QueryId(5), 0).await, FailureKind::NotFound, "unknown");
    assert_failure(cluster.client().node().cancel(QueryId(5)).await, FailureKind::NotFound, "unknown");
    assert_failure(cluster.client().node().query_status(QueryId(5)).await, FailureKind::NotFound, "unknown");
}

#[tokio::test]
async fn an_empty_answer_has_one_chunk_with_the_schema() {
    let cluster = embedded(json!({})).await;
    for encoding in ["arrow_ipc", "packed", "json"] {
        let question = Question { parameter: Some("RADON"), columns: &["utc", "aqi"], ..Question::default() };
        let (id, total) = finished(&cluster, QuerySpec { encoding, ..range(&question) }).await;
        let message = chunk(&cluster, id, 0).await.expect("a chunk");
        assert_eq!((total, message.chunks[0].is_last, message.chunks[0].rows), (1, true, 0));
        assert_eq!(decode_schema(&message.schema).expect("a schema").fields().len(), 2);
        assert!(rows(&message, encoding).is_empty());
    }
}

#[tokio::test]
async fn what_is_acknowledged_or_cancelled_is_gone_and_its_memory_free() {
    let cluster = embedded(json!({})).await;
    let client = cluster.client();
    let (id, total) = finished(&cluster, all()).await;
    let full = cluster.metrics().await;
    assert!(full.results == 1 && full.result_bytes > 0, "{full:?}");
    client.node().chunk(id, 3, Some(2), None).await.expect("a chunk");
    assert_failure(chunk(&cluster, id, 2).await, FailureKind::NotFound, "acknowledged");
    chunk(&cluster, id, 3).await.expect("reading alone acknowledges nothing");
    let fewer = cluster.metrics().await;
    assert!(fewer.result_bytes < full.result_bytes, "{} of {}", fewer.result_bytes, full.result_bytes);
    assert_eq!(client.node().cancel(id).await, Ok(QueryState::Ready));
    assert_failure(chunk(&cluster, id, total - 1).await, FailureKind::NotFound, "cancelled");
    let empty = cluster.metrics().await;
    assert_eq!((empty.results, empty.result_bytes, empty.active_requests), (0, 0, 0));
    assert!(empty.result_bytes_peak <= empty.result_bytes_max);
}

#[tokio::test]
async fn a_stream_can_begin_in_the_middle_and_again() {
    let cluster = embedded(json!({})).await;
    let client = cluster.client();
    let (id, total) = finished(&cluster, all()).await;
    for from in [0, 3, total - 1, 5] {
        let mut stream = client.node().stream(id, from, None).await.expect("a stream");
        let (mut next, mut footer) = (from, None);
        while let Some(message) = stream.next().await {
            let message = message.expect("a message");
            for meta in &message.chunks {
                assert_eq!((meta.index, meta.is_last), (next, next == total - 1));
                next += 1;
            }
            footer = message.footer;
        }
        assert_eq!((next, footer.expect("a footer").rows), (total, cluster.oracle.rows.len() as u64));
    }
    // With everything acknowledged, only the footer is left to be told.
    let mut stream = client.node().stream(id, total, Some(total - 1)).await.expect("a stream");
    let message = stream.next().await.expect("a message").expect("a footer");
    assert!(message.chunks.is_empty() && message.footer.is_some() && stream.next().await.is_none());
    let mut beyond = client.node().stream(id, total + 1, None).await.expect("a stream");
    assert_failure(beyond.next().await.expect("a message"), FailureKind::OutOfRange, "PAST_THE_END");
}

#[tokio::test]
async fn totals_are_told_when_they_are_known() {
    let cluster = pair(json!({})).await;
    let client = cluster.client();
    let question = Question { parameter: Some("CO"), ..Question::default() };
    let expected = cluster.oracle.answer(&question).len() as u64;
    let reply = client.node().submit(QuerySpec { wait: true, ..range(&question) }, "test", None).await.expect("ready");
    assert_eq!((reply.total_records, reply.total_chunks), (Some(expected), Some(expected.div_ceil(150).max(1))));
    assert_eq!(reply.hops, ["A".into(), "B".into()]);
    let status = client.node().query_status(reply.id).await.expect("a status");
    assert_eq!((status.state, status.total_records, status.partial), (QueryState::Ready, Some(expected), false));
    // A failure is the answer of the call that waits.
    let failed =
        client.node().submit(QuerySpec { wait: true, ..sql("SELECT x FROM observations") }, "test", None).await;
    assert_failure(failed, FailureKind::InvalidArgument, "QUERY");
    let frozen = cluster.freeze("B");
    let id = submit(&cluster, all()).await.expect("submitted");
    let running = client.node().query_status(id).await.expect("a status");
    assert_eq!((running.total_chunks, running.total_records), (None, None));
    drop(frozen);
    until_state(&cluster, id, QueryState::Ready).await;
}

#[tokio::test]
async fn a_full_store_evicts_finished_results_and_then_refuses() {
    const BYTES: u64 = 400 << 10;
    let cluster = embedded(json!({ "result_bytes_max": BYTES, "result_disk_bytes_max": 0 })).await;
    // As Arrow, rows take more room than packed, so that few results fill the store.
    let question = Question { parameter: Some("PM2.5"), ..Question::default() };
    let question = || QuerySpec { encoding: "arrow_ipc", ..range(&question) };
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(finished(&cluster, question()).await.0);
        let metrics = cluster.metrics().await;
        assert!(metrics.result_bytes_peak <= BYTES, "{metrics:?}");
    }
    // The longest unread went first, and the newest is there.
    assert_failure(chunk(&cluster, ids[0], 0).await, FailureKind::NotFound, "evicted");
    chunk(&cluster, ids[11], 0).await.expect("the newest");
    let text = "SELECT a.*, b.utc AS other FROM observations a, (SELECT utc FROM observations LIMIT 20) b";
    let failed = cluster.ask(sql(text)).await.map(|answer| answer.rows.len());
    assert_failure(failed, FailureKind::ResourceExhausted, "RESULT_BYTES");
    finished(&cluster, question()).await;
    assert!(cluster.metrics().await.result_bytes_peak <= BYTES);
}

/// Waits until the store is empty, without touching the result.
async fn until_empty(cluster: &Cluster) {
    until("no result is left", async || {
        let metrics = cluster.metrics().await;
        if metrics.results == 0 { Ok(()) } else { Err(format!("{metrics:?}")) }
    })
    .await;
    assert_eq!(cluster.metrics().await.result_bytes, 0);
}

#[tokio::test]
async fn a_result_that_was_read_expires_and_one_that_nobody_reads_is_abandoned() {
    let cluster = pair(json!({ "result_ttl_s": 3, "idle_s": 1 })).await;
    let (id, _) = finished(&cluster, all()).await;
    chunk(&cluster, id, 0).await.expect("a chunk");
    until_empty(&cluster).await;
    assert_failure(chunk(&cluster, id, 0).await, FailureKind::NotFound, "expired");
    let (unread, _) = finished(&cluster, all()).await;
    until_empty(&cluster).await;
    assert_failure(chunk(&cluster, unread, 0).await, FailureKind::NotFound, "abandoned");
    let _frozen = cluster.freeze("B");
    let running = submit(&cluster, all()).await.expect("submitted");
    until("the query is abandoned", async || {
        let metrics = cluster.metrics().await;
        if metrics.active_requests == 0 { Ok(()) } else { Err(format!("{metrics:?}")) }
    })
    .await;
    assert_failure(chunk(&cluster, running, 0).await, FailureKind::NotFound, "abandoned");
}

async fn until_state(cluster: &Cluster, id: QueryId, state: QueryState) {
    until(&format!("the query is {state}"), async || match cluster.client().node().query_status(id).await {
        Ok(status) if status.state == state => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_cancel_lets_the_next_one_start() {
    let cluster = pair(json!({ "concurrent_max": 1, "team_concurrent_max": 1, "queue_capacity": 1 })).await;
    let frozen = cluster.freeze("B");
    let first = submit(&cluster, all()).await.expect("submitted");
    until_state(&cluster, first, QueryState::Running).await;
    let second = submit(&cluster, all()).await.expect("queued");
    until_state(&cluster, second, QueryState::Accepted).await;
    let refused = submit(&cluster, all()).await.expect_err("the queue is full");
    assert_eq!((refused.kind, refused.reason.as_str()), (FailureKind::ResourceExhausted, "QUEUE_FULL"));
    assert!(refused.retry_after.is_some_and(|after| after > Duration::ZERO), "{refused:?}");
    let metrics = cluster.metrics().await;
    assert_eq!((metrics.queue_size, metrics.queue_peak, metrics.queries_refused), (1, 1, 1));
    assert_eq!(cluster.client().node().cancel(first).await, Ok(QueryState::Running));
    assert_failure(chunk(&cluster, first, 0).await, FailureKind::Cancelled, "CANCELLED");
    until_state(&cluster, second, QueryState::Running).await;
    drop(frozen);
    until_state(&cluster, second, QueryState::Ready).await;
    let answer = cluster.ask(sql("SELECT count(*) FROM observations")).await.expect("it goes on");
    assert_eq!(answer.rows, [cluster.oracle.rows.len().to_string()]);
    assert_eq!(cluster.metrics().await.active_peak, 1);
}

#[tokio::test]
async fn a_deadline_ends_a_query_in_the_queue_and_while_it_runs() {
    let cluster = pair(json!({ "concurrent_max": 1, "team_concurrent_max": 1 })).await;
    let frozen = cluster.freeze("B");
    let within = |seconds| QuerySpec { time_left: Some(Duration::from_secs(seconds)), ..all() };
    let running = submit(&cluster, within(2)).await.expect("submitted");
    let queued = submit(&cluster, within(1)).await.expect("submitted");
    for id in [queued, running] {
        assert_failure(chunk(&cluster, id, 0).await, FailureKind::DeadlineExceeded, "DEADLINE");
        until_state(&cluster, id, QueryState::Expired).await;
    }
    let partial = submit(&cluster, QuerySpec { allow_partial: true, ..within(1) }).await.expect("submitted");
    until_state(&cluster, partial, QueryState::Partial).await;
    let message = chunk(&cluster, partial, 0).await.expect("a chunk without rows");
    let footer = message.footer.expect("it is the last");
    assert_eq!((footer.rows, footer.coverage.gaps.len(), message.partial), (0, 12, true));
    drop(frozen);
    cluster.until_complete().await;
    let answer = cluster.ask(sql("SELECT count(*) FROM observations")).await.expect("the permit is free again");
    assert_eq!(answer.rows, [cluster.oracle.rows.len().to_string()]);
}

#[tokio::test]
async fn a_lost_stream_is_a_pause_or_the_end_as_the_client_said() {
    let cluster = pair(json!({})).await;
    let _frozen = cluster.freeze("B");
    for (cancel_on_disconnect, state) in [(true, QueryState::Cancelled), (false, QueryState::Running)] {
        let client = cluster.client();
        let id = submit(&cluster, QuerySpec { cancel_on_disconnect, ..all() }).await.expect("submitted");
        until_state(&cluster, id, QueryState::Running).await;
        let mut stream = client.node().stream(id, 0, None).await.expect("a stream");
        let not_yet = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        assert!(not_yet.is_err(), "no chunk is there yet");
        drop(stream);
        drop(client);
        until_state(&cluster, id, state).await;
        if state == QueryState::Running {
            cluster.client().node().cancel(id).await.expect("cancelled");
        }
    }
    assert_eq!(cluster.metrics().await.active_requests, 0);
}

/// Many times everything, more than is on its way to a reader at once.
const MANY_TIMES: &str = "SELECT observations.* FROM observations \
    CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6)) AS some (n) \
    CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) AS times (n)";

/// How long a slow reader takes for a message. It only has to be long: slower makes chunks no larger.
const SLOW: Duration = Duration::from_millis(300);

#[tokio::test]
async fn adaptive_chunks_grow_with_a_quick_reader_and_shrink_when_it_becomes_slow() {
    // As Arrow, so that what is on its way when the reader slows down is a part of all.
    let limits = json!({ "threads": 1, "chunk_rows_max": 8_192 });
    let cluster = Cluster::start(Setup { graph: Graph::Embedded, limits, ..Setup::default() }).await;
    let everything = QuerySpec { encoding: "arrow_ipc", ..sql(MANY_TIMES) };
    let id = submit(&cluster, everything).await.expect("submitted");
    until_state(&cluster, id, QueryState::Ready).await;
    let client = cluster.client();
    let mut stream = client.node().stream(id, 0, None).await.expect("a stream");
    let (mut largest, mut rows, mut has_shrunk) = (0, 0, false);
    while let Some(message) = stream.next().await {
        let message = message.expect("a message");
        let sizes: Vec<u64> = message.chunks.iter().map(|chunk| chunk.rows).collect();
        rows += sizes.iter().sum::<u64>();
        largest = sizes.iter().copied().max().unwrap_or(0).max(largest);
        // The last chunk of all may have fewer.
        has_shrunk |= largest > 1_000 && message.footer.is_none() && sizes.iter().all(|rows| *rows == 1_000);
        if largest > 1_000 && !has_shrunk {
            tokio::time::sleep(SLOW).await;
        }
    }
    assert_eq!(rows, 60 * cluster.oracle.rows.len() as u64);
    assert!(largest > 1_000 && has_shrunk, "at most {largest} rows a chunk; small again: {has_shrunk}");
}
