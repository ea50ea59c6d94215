//! What is no query of rows is refused in words, and the node goes on.

use overlay::engine::session::Ask;
use overlay::failure::FailureKind;
use overlay::leader::answer::QuerySpec;

use crate::asking::{range, sql};
use crate::cluster::{Cluster, Graph, Setup};
use crate::oracle::Question;

/// Refused as the client's fault, in words; the node goes on.
async fn check_refused(cluster: &Cluster, spec: QuerySpec, words: &str) {
    let what = format!("{:?}", spec.ask);
    let Err(failure) = cluster.ask(spec).await else { panic!("{what}: was answered") };
    assert_eq!(failure.kind, FailureKind::InvalidArgument, "{what}: {failure:?}");
    let message = failure.message.to_lowercase();
    assert!(message.contains(&words.to_lowercase()), "{what}: no {words:?} in {message}");
    let healthy = cluster.ask(sql("SELECT count(*) FROM observations")).await.expect("the node answers");
    assert_eq!(healthy.rows, [cluster.oracle.rows.len().to_string()], "after {what}");
}

#[tokio::test]
async fn what_is_not_a_query_is_refused() {
    let cluster = Cluster::start(Setup { graph: Graph::Embedded, ..Setup::default() }).await;
    for (text, words) in [
        ("", "no statement"),
        ("SELEC 1", "SELEC"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("DROP TABLE observations", "not DROP"),
        ("CREATE TABLE t AS SELECT 1", "not CREATE"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "not CREATE"),
        ("INSERT INTO observations SELECT * FROM observations", "not INSERT"),
        ("UPDATE observations SET aqi = 1", "not UPDATE"),
        ("DELETE FROM observations", "not DELETE"),
        ("COPY observations TO '/tmp/x.csv'", "not COPY"),
        ("SET datafusion.execution.batch_size = 1", "not SET"),
        ("SHOW TABLES", "not SHOW"),
        ("EXPLAIN ANALYZE SELECT 1", "not EXPLAIN ANALYZE"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT * FROM 'file:///etc/passwd.csv'", "passwd"),
        ("SELECT * FROM generate_series(1, 1000000000)", "generate_series"),
        ("SELECT * FROM range(1, 1000000000)", "range"),
        ("SELECT repeat('x', 1000000000)", "repeat"),
        ("SELECT * FROM observations WHERE lpad(site_name, 100000000, 'x') = ''", "lpad"),
        ("WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t", "recursive"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT * FROM information_schema.tables", "information_schema"),
        ("SELECT nothing FROM observations", "nothing"),
        ("SELECT CAST('x' AS INT) FROM observations", "cast"),
    ] {
        check_refused(&cluster, sql(text), words).await;
    }
    check_refused(&cluster, sql(&format!("SELECT {}1", "1 + ".repeat(3000))), "operators").await;
    check_refused(&cluster, sql(&format!("SELECT '{}'", "x".repeat(70_000))), "bytes").await;
}

#[tokio::test]
async fn a_range_query_that_makes_no_sense_is_refused() {
    let cluster = Cluster::start(Setup { graph: Graph::Embedded, ..Setup::default() }).await;
    let all = Question::default();
    check_refused(&cluster, range(&Question { columns: &["nothing"], ..all.clone() }), "no column \"nothing\"").await;
    check_refused(&cluster, range(&Question { columns: &["aqi", "aqi"], ..all.clone() }), "named twice").await;
    check_refused(&cluster, range(&Question { min: Some(f64::NAN), ..all.clone() }), "not a number").await;
    check_refused(&cluster, range(&Question { dates: Some(("20200820", "20200819")), ..all.clone() }), "before").await;
    let nobody = QuerySpec { team: Some("blue".into()), ..range(&all) };
    check_refused(&cluster, nobody, "no team \"blue\"").await;
    let mut long = range(&all);
    if let Ask::Range(filter) = &mut long.ask {
        filter.parameter = Some("x".repeat(300));
    }
    check_refused(&cluster, long, "longer than").await;
}
