//! A data set that is ingested again while queries run: every answer is wholly of one version.
//!
//! In version v of the data set every row of two days has the concentration v, so that each row tells its version.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use overlay::client::Client;
use overlay::failure::{Failure, FailureKind};
use overlay::leader::answer::QuerySpec;
use overlay_ingest::Layout;
use serde_json::json;

use crate::asking::{range, read, sql};
use crate::cluster::{Cluster, Graph, Setup, ZONES, ingest, parse, until};
use crate::csv_text::{CONCENTRATION, cells};
use crate::oracle::Question;

/// Two days of green that change together, with a third between unchanged ones.
const CHANGED: [&str; 2] = ["20200816", "20200818"];
const VERSIONS: u32 = 5;

/// Gives every row of the changed days this concentration. Nothing is committed.
fn write_version(root: &Path, version: u32) {
    for day in CHANGED {
        for file in fs::read_dir(root.join("data").join(day)).expect("a day") {
            let path = file.expect("a file").path();
            let text = fs::read_to_string(&path).expect("text");
            let line = |line: &str| {
                let mut cells = cells(line);
                cells[CONCENTRATION] = format!("{version}.0");
                let quoted: Vec<String> =
                    cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
                quoted.join(",") + "\n"
            };
            fs::write(&path, text.lines().map(line).collect::<String>()).expect("written");
        }
    }
}

fn first_version(root: &Path) {
    write_version(root, 1);
}

/// The rows that carry a version, and how many there are of them.
struct Asked {
    rows: usize,
}

impl Asked {
    fn of(cluster: &Cluster) -> Asked {
        Asked { rows: cluster.oracle.rows.iter().filter(|row| CHANGED.contains(&row.date.as_str())).count() }
    }

    /// The one version that an answer is of, asked for in one of three ways.
    async fn version(&self, client: &Client, way: u32) -> Result<u32, Failure> {
        let texts = match way % 3 {
            0 => {
                let days = Question {
                    dates: Some((CHANGED[0], CHANGED[1])),
                    columns: &["utc", "concentration"],
                    ..Question::default()
                };
                let rows = read(client, range(&days)).await?.rows;
                let is_changed = |row: &&String| CHANGED.iter().any(|day| row.replace('-', "").starts_with(day));
                let changed: Vec<&String> = rows.iter().filter(is_changed).collect();
                assert_eq!(changed.len(), self.rows, "all rows of both days");
                changed.iter().map(|row| row.split_once('|').expect("two columns").1.to_owned()).collect()
            }
            1 => {
                let text = "SELECT min(concentration), max(concentration), count(concentration) FROM observations \
                            WHERE date_trunc('day', utc) IN ('2020-08-16', '2020-08-18')";
                let rows = read(client, sql(text)).await?.rows;
                let cells: Vec<String> = rows[0].split('|').map(str::to_owned).collect();
                assert_eq!(cells[2], self.rows.to_string(), "all rows of both days");
                cells[..2].to_vec()
            }
            _ => {
                // Two leaves over the same days: both read the one version that the query is pinned to.
                let text = "SELECT min(a.concentration), max(b.concentration) FROM observations a JOIN observations b \
                            ON a.full_aqs_id = b.full_aqs_id AND a.parameter = b.parameter \
                            WHERE a.utc = '2020-08-16T05:00:00' AND b.utc = '2020-08-18T05:00:00'";
                let rows = read(client, sql(text)).await?.rows;
                rows[0].split('|').map(str::to_owned).collect::<Vec<_>>()
            }
        };
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "one answer of several versions: {:?}", {
            let mut mixed = texts.clone();
            mixed.sort();
            mixed.dedup();
            mixed
        });
        Ok(texts[0].parse().unwrap_or_else(|_| panic!("{:?} is not a version", texts[0])))
    }
}

async fn until_version(cluster: &Cluster, asked: &Asked, version: u32) {
    let client = cluster.client();
    until("the new version is answered", async || match asked.version(&client, 0).await {
        Ok(found) if found == version => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn answers_are_of_one_version(graph: Graph) {
    let cluster = Cluster::start(Setup { graph, edit: first_version, ..Setup::default() }).await;
    let asked = Arc::new(Asked::of(&cluster));
    let (done, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(1)));
    let askers: Vec<_> = (0..3)
        .map(|asker| {
            let (client, asked) = (cluster.client(), Arc::clone(&asked));
            let (done, newest) = (Arc::clone(&done), Arc::clone(&newest));
            tokio::spawn(async move {
                let (mut seen, mut turn) = (vec![], asker);
                while !done.load(Ordering::Acquire) {
                    match asked.version(&client, turn).await {
                        Ok(version) => seen.push(version),
                        // The nodes took longer to agree than a query waits.
                        Err(failure) if failure.reason == "CONFLICT" => println!("{failure}"),
                        Err(failure) => panic!("{failure:?}"),
                    }
                    assert!(seen.last().is_none_or(|last| *last <= newest.load(Ordering::Acquire)), "from the future");
                    turn += 1;
                }
                seen
            })
        })
        .collect();
    for version in 2..=VERSIONS {
        newest.store(version, Ordering::Release);
        let root = cluster.data_set();
        tokio::task::spawn_blocking(move || {
            write_version(&root, version);
            ingest(&root, ZONES);
        })
        .await
        .expect("ingested");
        until_version(&cluster, &asked, version).await;
    }
    done.store(true, Ordering::Release);
    for asker in askers {
        let seen = asker.await.expect("no answer was mixed");
        assert!(seen.is_sorted(), "versions go back: {seen:?}");
        assert!(seen.len() as u32 > VERSIONS, "it asked all the time: {seen:?}");
    }
    // What is not of the changed days never changed; the others hold what they held.
    let others = Question { dates: Some(("20200819", "20200924")), ..Question::default() };
    let answer = cluster.ask(range(&others)).await.expect("answered");
    crate::rows::assert_same(&answer.rows, &cluster.oracle.answer(&others), "unchanged days");
    cluster.until_complete().await;
    // Replaced partitions go again, after a while.
    until("no node holds a replaced partition", async || {
        let held: Vec<usize> = cluster.ids().iter().map(|id| cluster.held(id.as_str()).len()).collect();
        if held.iter().sum::<usize>() == 12 { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_of_one_version_while_a_team_changes_over() {
    answers_are_of_one_version(Graph::Six).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_of_one_version_where_one_process_is_all() {
    answers_are_of_one_version(Graph::Embedded).await;
}

#[tokio::test]
async fn without_a_cache_a_node_keeps_to_the_files_it_read_until_one_is_committed() {
    let mut cluster = Cluster::prepare(&Setup { graph: Graph::Pair, edit: first_version, ..Setup::default() });
    fs::remove_dir_all(cluster.data_set().join(".overlay")).expect("there was a cache");
    for id in cluster.ids() {
        cluster.start_node(&id).await;
    }
    cluster.until_complete().await;
    let asked = Asked::of(&cluster);
    let client = cluster.client();
    write_version(&cluster.data_set(), 2);
    assert_eq!(asked.version(&client, 0).await.expect("answered"), 1, "a file has no point of commit");
    let remark = cluster.node("B").data_remark().map(str::to_owned);
    assert!(remark.as_ref().is_some_and(|remark| remark.ends_with("the CSV files are parsed")), "{remark:?}");
    ingest(&cluster.data_set(), Layout::default());
    until_version(&cluster, &asked, 2).await;
}

#[tokio::test]
async fn a_node_with_other_files_is_named_and_nothing_mixes() {
    let setup = Setup { graph: Graph::Five, edit: first_version, ..Setup::default() };
    let mut cluster = Cluster::prepare(&setup);
    fs::remove_dir_all(cluster.data_set().join(".overlay")).expect("there was a cache");
    ingest(&cluster.data_set(), Layout::default());
    for id in cluster.ids() {
        let mut text = cluster.text.clone();
        if id.as_str() == "E" {
            // As on a host of its own where nobody ran overlay-ingest.
            text["dataset"]["cache"] = json!(cluster.folder().join("none"));
        }
        cluster.start_with(&id, parse(&text)).await.expect("it starts");
    }
    cluster.until_complete().await;
    let asked = Asked::of(&cluster);
    let client = cluster.client();
    assert_eq!(asked.version(&client, 0).await.expect("with and without a cache the ids are the same"), 1);

    write_version(&cluster.data_set(), 2);
    ingest(&cluster.data_set(), Layout::default());
    until("the disagreement is told", async || match asked.version(&client, 0).await {
        Err(failure) if failure.reason == "CONFLICT" => {
            assert_eq!(failure.kind, FailureKind::FailedPrecondition);
            assert!(failure.message.contains("E says") && failure.message.contains("run overlay-ingest"), "{failure}");
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    // Nor as a part: nobody can know which rows are meant.
    let days = Question { dates: Some((CHANGED[0], CHANGED[1])), ..Question::default() };
    let partial = cluster.ask(QuerySpec { allow_partial: true, ..range(&days) }).await;
    assert_eq!(partial.err().map(|failure| failure.reason), Some("CONFLICT".to_owned()));
    let others = Question { dates: Some(("20200819", "20200924")), ..Question::default() };
    let answer = cluster.ask(range(&others)).await.expect("nobody disagrees about other days");
    crate::rows::assert_same(&answer.rows, &cluster.oracle.answer(&others), "unchanged days");

    cluster.kill("E");
    cluster.start_node(&"E".into()).await;
    until_version(&cluster, &asked, 2).await;
}

#[tokio::test]
async fn a_day_whose_csv_files_changed_since_the_start_is_a_hole_and_its_node_goes_on() {
    let mut cluster = Cluster::prepare(&Setup { graph: Graph::Pair, edit: first_version, ..Setup::default() });
    fs::remove_dir_all(cluster.data_set().join(".overlay")).expect("there was a cache");
    // B lists the files, and is given days only when A is there.
    cluster.start_node(&"B".into()).await;
    write_version(&cluster.data_set(), 2);
    cluster.start_node(&"A".into()).await;
    until("B holds what it can", async || {
        let held = (cluster.held("B").len(), cluster.status("B").await.state);
        if held == (10, "ready".to_owned()) { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
    let failed = cluster.ask(range(&Question::default())).await.map(|answer| answer.rows.len()).expect_err("holes");
    assert_eq!((failed.kind, failed.reason.as_str()), (FailureKind::Unavailable, "MISSING_PARTITIONS"), "{failed:?}");
    assert_eq!(failed.dates, CHANGED);
    let partial = QuerySpec { allow_partial: true, ..range(&Question::default()) };
    let answer = cluster.ask(partial).await.expect("the other days are answered");
    let of_changed = Asked::of(&cluster).rows;
    assert_eq!((answer.rows.len(), answer.footer.coverage.gaps.len()), (cluster.oracle.rows.len() - of_changed, 2));
    assert_eq!(cluster.held("B").len(), 10, "it is not tried again");
}
