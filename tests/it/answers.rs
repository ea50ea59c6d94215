//! Range queries through whole overlays: the rows are those of the text, whatever the strategies.

use overlay::delivery::chunking;
use overlay::delivery::encoding::ENCODINGS;
use overlay::leader::answer::{QuerySpec, QueryState};
use overlay::routing::forwarding;
use serde_json::{Value, json};

use crate::asking::range;
use crate::cluster::{Cluster, Graph, Setup};
use crate::oracle::Question;
use crate::rows::assert_same;

/// The answer is the oracle's, as a multiset, and complete.
async fn check(cluster: &Cluster, question: &Question, encoding: &'static str, what: &str) {
    let what = format!("{question:?} as {encoding}, {what}");
    let answer = cluster.ask(QuerySpec { encoding, ..range(question) }).await;
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_same(&answer.rows, &cluster.oracle.answer(question), &what);
    assert_eq!(answer.footer.state, QueryState::Ready, "{what}");
    assert_eq!(answer.footer.rows, answer.rows.len() as u64, "{what}");
    assert!(answer.footer.coverage.is_complete(), "{what}");
    let columns: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(columns, question.columns(), "{what}");
    assert!(answer.rows.is_empty() == (answer.chunk_rows == [0]), "{what}: {:?}", answer.chunk_rows);
}

/// With a limit: exactly as many rows as there are, and each of them real, none twice.
async fn check_limit(cluster: &Cluster, question: &Question, limit: u64, what: &str) {
    let what = format!("{question:?} limit {limit}, {what}");
    let answer = cluster.ask(QuerySpec { limit: Some(limit), ..range(question) }).await;
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut left = cluster.oracle.answer(question);
    assert_eq!(answer.rows.len(), left.len().min(limit as usize), "{what}");
    for row in &answer.rows {
        let at = left.binary_search(row).unwrap_or_else(|_| panic!("{what}: not a row, or given twice: {row}"));
        left.remove(at);
    }
}

fn cases() -> Vec<Question> {
    let all = Question::default();
    vec![
        all.clone(),
        Question { parameter: Some("PM2.5"), min: Some(5.0), max: Some(35.0), ..all.clone() },
        Question { parameter: Some("pm2.5"), min: Some(5.0), ..all.clone() },
        Question { parameter: Some("Ozone"), max: Some(-0.1), columns: &["concentration", "utc"], ..all.clone() },
        Question { min: Some(-30.5), max: Some(-0.1), ..all.clone() },
        Question { min: Some(-999.0), max: Some(-999.0), ..all.clone() },
        Question { parameter: Some("RADON"), ..all.clone() },
        Question { min: Some(8.0), max: Some(3.0), ..all.clone() },
        Question { dates: Some(("20200820", "20200821")), ..all.clone() },
        Question { dates: Some(("20200821", "20200821")), parameter: Some("CO"), ..all.clone() },
        Question { dates: Some(("20190101", "20190102")), ..all.clone() },
        Question { bbox: Some([30.0, -115.0, 42.0, -90.0]), ..all.clone() },
        Question { bbox: Some([30.0, -115.0, 42.0, -90.0]), parameter: Some("NO2"), min: Some(3.0), ..all.clone() },
        Question { columns: &["full_aqs_id", "latitude", "parameter", "category"], ..all.clone() },
        Question { columns: &["utc"], parameter: Some("SO2"), ..all },
    ]
}

fn strategies(forwarding: &str, asynchronous: bool, chunking: &str) -> Value {
    json!({ "forwarding_strategy": forwarding, "async_forwarding": asynchronous, "chunking_strategy": chunking,
        "fairness_strategy": "strict", "chunk_size": 150 })
}

/// All questions under every chunking and encoding; the Leader starts again for each combination.
async fn every_combination(forwarding: &str, asynchronous: bool) {
    let first = strategies(forwarding, asynchronous, chunking::STRATEGIES[0].name);
    let mut cluster = Cluster::start(Setup { strategies: first, ..Setup::default() }).await;
    for (turn, entry) in chunking::STRATEGIES.iter().enumerate() {
        let what = format!("{forwarding} async={asynchronous} {}", entry.name);
        if turn > 0 {
            cluster.restart_leader(strategies(forwarding, asynchronous, entry.name)).await;
        }
        // The first two under each combination, of the others every second: the debug build is slow.
        for (number, question) in cases().iter().enumerate().filter(|(number, _)| *number < 2 || number % 2 == turn % 2)
        {
            for encoding in ENCODINGS {
                // The whole table as JSON once for each forwarding.
                if number > 0 || encoding.name != "json" || turn == 0 {
                    check(&cluster, question, encoding.name, &what).await;
                }
            }
        }
        let wide = Question { parameter: Some("OZONE"), ..Question::default() };
        let matches = cluster.oracle.answer(&wide).len() as u64;
        for limit in [0, 1, 65, matches - 1, matches + 1] {
            check_limit(&cluster, &wide, limit, &what).await;
        }
        check_limit(&cluster, &cases()[4], 5, &what).await;
        check_limit(&cluster, &cases()[6], 5, &what).await;
    }
}

#[tokio::test]
async fn parallel_async_answers() {
    every_combination("parallel", true).await;
}

#[tokio::test]
async fn parallel_blocking_answers() {
    every_combination("parallel", false).await;
}

#[tokio::test]
async fn capacity_async_answers() {
    every_combination("capacity", true).await;
}

#[tokio::test]
async fn capacity_blocking_answers() {
    every_combination("capacity", false).await;
}

#[tokio::test]
async fn round_robin_async_answers() {
    every_combination("round_robin", true).await;
}

#[tokio::test]
async fn round_robin_blocking_answers() {
    every_combination("round_robin", false).await;
}

#[test]
fn every_forwarding_strategy_is_asked() {
    let names: Vec<&str> = forwarding::STRATEGIES.iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["round_robin", "parallel", "capacity"], "a new strategy wants its two tests above");
}

#[tokio::test]
async fn other_graphs_and_replicas_answer_the_same() {
    for (graph, replicas) in [(Graph::Embedded, json!(1)), (Graph::Five, json!(1)), (Graph::Six, json!("all"))] {
        let cluster = Cluster::start(Setup { graph, replicas, ..Setup::default() }).await;
        for question in cases() {
            check(&cluster, &question, "arrow_ipc", &format!("{graph:?}")).await;
        }
        check_limit(&cluster, &Question::default(), 1000, &format!("{graph:?}")).await;
    }
}

#[tokio::test]
async fn fixed_chunks_have_exactly_their_rows() {
    let cluster = Cluster::start(Setup { strategies: strategies("parallel", true, "fixed"), ..Setup::default() }).await;
    for question in [cases().remove(0), cases().remove(1)] {
        let answer = cluster.ask(range(&question)).await.expect("an answer");
        let (last, others) = answer.chunk_rows.split_last().expect("at least one chunk");
        assert!(others.iter().all(|rows| *rows == 150), "{:?}", answer.chunk_rows);
        assert!((1..=150).contains(last), "{last}");
    }
}
