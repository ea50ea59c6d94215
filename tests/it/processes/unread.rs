//! Clients that ask and never fetch: their results make room for those of clients that do, and memory stays within
//! what was given.

use futures::{StreamExt, stream};
use overlay::client::Client;
use overlay::leader::answer::QuerySpec;
use overlay::node::status::Metrics;
use serde_json::json;

use crate::asking::{range, read};
use crate::cluster::PATIENCE;
use crate::oracle::{Oracle, Question};
use crate::program::{Place, memory};
use crate::rows::assert_same;

const UNREAD: usize = 100;
const READ: usize = 20;
/// Of those that read, how many do at once: with what runs, their results are as much as there is memory for.
const READING: usize = 4;
/// Queries that run at once; each may hold a whole result that cannot be evicted yet.
const RUNNING: u64 = 8;
/// About what a row of all columns takes as Arrow.
const ROW_BYTES: u64 = 90;
/// Beyond the results: the readers' messages on their way, plans, and what the allocator keeps for later.
const OTHER_BYTES: u64 = 160 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
async fn unread_results_make_room_for_those_that_are_read() {
    let place = Place::new("embedded.json");
    place.generate();
    let oracle = Oracle::read(&place.data_set());
    let result_bytes = oracle.rows.len() as u64 * ROW_BYTES;
    let budget = result_bytes * (RUNNING + READING as u64);
    place.change(|config| {
        config["limits"]["result_bytes_max"] = json!(budget);
        config["limits"]["result_disk_bytes_max"] = json!(0);
        config["limits"]["concurrent_max"] = json!(RUNNING);
        config["limits"]["team_concurrent_max"] = json!(RUNNING);
    });
    place.ingest();
    let up = place.up(&[]);
    let address = place.address("A");
    let expected = oracle.answer(&Question::default());
    // Rows that leave packed are kept so, and would not fill the memory.
    let all = || QuerySpec { encoding: "arrow_ipc", ..range(&Question::default()) };
    let warm = read(&Client::new(&address), all()).await.expect("answered");
    assert_same(&warm.rows, &expected, "before");
    let figures = async || -> Metrics { Client::new(&address).metrics(PATIENCE).await.expect("metrics") };
    let of_one = figures().await.result_bytes;
    assert!(
        (result_bytes / 2..=result_bytes * 11 / 10).contains(&of_one),
        "a result takes {of_one}, not {result_bytes}"
    );
    let before = memory(place.pid("A"), "VmHWM");

    let mut unread = Vec::new();
    for _ in 0..UNREAD {
        let client = Client::new(&address);
        client.node().submit(all(), "never fetches", Some(PATIENCE)).await.expect("there is room to wait");
        unread.push(client);
    }
    let ask = async |n: usize| {
        let spec = QuerySpec { encoding: if n.is_multiple_of(2) { "arrow_ipc" } else { "json" }, ..all() };
        read(&Client::new(&address), spec).await
    };
    let answers: Vec<_> = stream::iter((0..READ).map(ask)).buffered(READING).collect().await;
    for (n, answer) in answers.into_iter().enumerate() {
        let answer = answer.unwrap_or_else(|error| panic!("reader {n}: {error:?}"));
        assert_same(&answer.rows, &expected, "one that is read");
    }
    let end = figures().await;
    let after = memory(place.pid("A"), "VmHWM");
    println!(
        "{} rows, {of_one} bytes each; budget {budget}, peak {}; {} results left; memory {before} → {after}",
        expected.len(),
        end.result_bytes_peak,
        end.results
    );
    assert!(end.result_bytes_peak <= budget && end.result_bytes <= budget, "{end:?}");
    assert!(end.result_bytes_peak > budget / 2, "the budget was needed: {end:?}");
    assert!((end.results as usize) < UNREAD, "results were evicted: {end:?}");
    assert_eq!(end.queries_refused, 0, "{end:?}");
    assert!(after < before + budget + OTHER_BYTES, "memory grew from {before} to {after} with a budget of {budget}");
    drop(unread);
    up.terminate().check(0, &[]);
}
