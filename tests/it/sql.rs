//! SQL through a whole overlay, and the plan behind it: the rows are what the oracle computes from the text.

use std::collections::{BTreeMap, BTreeSet};

use overlay::leader::answer::QueryState;

use crate::asking::sql;
use crate::cluster::{Cluster, Graph, Setup};
use crate::oracle::{Oracle, Question, Row};
use crate::rows::assert_same;

/// SQL, and what the oracle says the rows are; `ordered`: in this order.
async fn check_sql(cluster: &Cluster, text: &str, ordered: bool, expected: impl FnOnce(&Oracle) -> Vec<String>) {
    let answer = cluster.ask(sql(text)).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut expected = expected(&cluster.oracle);
    if ordered {
        assert_eq!(answer.in_order, expected, "{text}");
    } else {
        expected.sort();
        assert_same(&answer.rows, &expected, text);
    }
    assert_eq!(answer.footer.state, QueryState::Ready, "{text}");
}

fn count(rows: usize) -> Vec<String> {
    vec![rows.to_string()]
}

fn highest(rows: &mut [&Row]) {
    let tenths = |row: &Row| row.number("concentration").map(|value| (value * 10.0).round() as i64);
    rows.sort_by_key(|row| {
        let key = (row.text("full_aqs_id").to_owned(), row.text("utc").to_owned());
        (tenths(row).is_none(), std::cmp::Reverse(tenths(row)), key)
    });
}

#[tokio::test]
async fn sql_gives_what_the_oracle_computes() {
    let cluster = Cluster::start(Setup::default()).await;
    let pm = |oracle: &Oracle| -> Vec<Row> {
        oracle.rows.iter().filter(|row| row.text("parameter") == "PM2.5").cloned().collect()
    };
    check_sql(&cluster, "SELECT count(*) FROM observations", false, |oracle| count(oracle.rows.len())).await;
    check_sql(&cluster, "SELECT 1", false, |_| count(1)).await;
    check_sql(&cluster, "SELECT count(*) FROM observations WHERE parameter = 'RADON'", false, |_| count(0)).await;
    let text = "SELECT parameter, count(*), count(concentration), sum(aqi), min(concentration), max(concentration) \
                FROM observations GROUP BY parameter";
    check_sql(&cluster, text, false, |oracle| {
        let groups = oracle.grouped("parameter", |rows| {
            let values = |column: &str| rows.iter().filter_map(|row| row.number(column)).collect::<Vec<f64>>();
            let (values, aqi) = (values("concentration"), values("aqi"));
            let sum = if aqi.is_empty() { "null".to_owned() } else { aqi.iter().sum::<f64>().to_string() };
            let (min, max) = (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max));
            format!("{}|{}|{sum}|{}|{}", rows.len(), values.len(), min.unwrap(), max.unwrap())
        });
        groups.into_iter().map(|(parameter, rest)| format!("{parameter}|{rest}")).collect()
    })
    .await;
    check_sql(&cluster, "SELECT DISTINCT agency FROM observations", false, |oracle| {
        oracle.grouped("agency", |_| ()).into_keys().collect()
    })
    .await;
    let text = "SELECT count(*) FROM observations a JOIN observations b ON a.full_aqs_id = b.full_aqs_id \
                AND a.utc = b.utc WHERE a.parameter = 'OZONE' AND b.parameter = 'PM2.5'";
    check_sql(&cluster, text, false, |oracle| {
        let of = |parameter: &str| -> BTreeSet<(String, String)> {
            let rows = oracle.rows.iter().filter(|row| row.text("parameter") == parameter);
            rows.map(|row| (row.text("full_aqs_id").to_owned(), row.text("utc").to_owned())).collect()
        };
        count(of("OZONE").intersection(&of("PM2.5")).count())
    })
    .await;
    let text = "SELECT full_aqs_id, utc, concentration FROM observations WHERE parameter = 'PM2.5' \
                ORDER BY concentration DESC NULLS LAST, full_aqs_id, utc LIMIT 7";
    check_sql(&cluster, text, true, |oracle| {
        let rows = pm(oracle);
        let mut rows: Vec<&Row> = rows.iter().collect();
        highest(&mut rows);
        rows.iter().take(7).map(|row| row.canonical(&["full_aqs_id", "utc", "concentration"])).collect()
    })
    .await;
    let text = "SELECT parameter, full_aqs_id, utc FROM (SELECT *, row_number() OVER (PARTITION BY parameter \
                ORDER BY concentration DESC NULLS LAST, full_aqs_id, utc) AS place FROM observations) WHERE place <= 2";
    check_sql(&cluster, text, false, |oracle| {
        let groups = oracle.grouped("parameter", |rows| {
            let mut rows = rows.to_vec();
            highest(&mut rows);
            rows.iter().take(2).map(|row| row.canonical(&["parameter", "full_aqs_id", "utc"])).collect::<Vec<_>>()
        });
        groups.into_values().flatten().collect()
    })
    .await;
    let text = "SELECT full_aqs_id, utc FROM observations WHERE parameter = 'PM2.5' \
                AND concentration = (SELECT max(concentration) FROM observations WHERE parameter = 'PM2.5')";
    check_sql(&cluster, text, false, |oracle| {
        let rows = pm(oracle);
        let max = rows.iter().filter_map(|row| row.number("concentration")).reduce(f64::max);
        let top = rows.iter().filter(|row| row.number("concentration") == max);
        top.map(|row| row.canonical(&["full_aqs_id", "utc"])).collect()
    })
    .await;
    let text = "SELECT count(*) FROM observations WHERE full_aqs_id IN \
                (SELECT full_aqs_id FROM observations WHERE parameter = 'CO') AND parameter <> 'CO'";
    check_sql(&cluster, text, false, |oracle| {
        let with_co = oracle.grouped("full_aqs_id", |rows| rows.iter().any(|row| row.text("parameter") == "CO"));
        let other = oracle.rows.iter().filter(|row| row.text("parameter") != "CO");
        count(other.filter(|row| with_co[row.text("full_aqs_id")]).count())
    })
    .await;
    let text = "WITH days AS (SELECT date_trunc('day', utc) AS day, concentration FROM observations) \
                SELECT day, count(*) FROM days WHERE concentration < 0 GROUP BY day HAVING count(*) > 1 ORDER BY day";
    check_sql(&cluster, text, true, |oracle| {
        let mut days = BTreeMap::<String, usize>::new();
        for row in oracle.rows.iter().filter(|row| row.number("concentration").is_some_and(|value| value < 0.0)) {
            *days.entry(format!("{}T00:00", &row.text("utc")[..10])).or_default() += 1;
        }
        days.into_iter().filter(|(_, rows)| *rows > 1).map(|(day, rows)| format!("{day}|{rows}")).collect()
    })
    .await;
    // A limit below a union, a limit beside an aggregate, a limit of nothing.
    let text = "SELECT count(*) FROM (SELECT utc FROM observations LIMIT 70)";
    check_sql(&cluster, text, false, |_| count(70)).await;
    let text = "SELECT count(*) FROM (SELECT 1 FROM observations LIMIT 9 OFFSET 5)";
    check_sql(&cluster, text, false, |_| count(9)).await;
    check_sql(&cluster, "SELECT utc FROM observations LIMIT 0", false, |_| Vec::new()).await;
    check_sql(&cluster, "SELECT * FROM observations WHERE parameter = 'CO'", false, |oracle| {
        oracle.answer(&Question { parameter: Some("CO"), ..Question::default() })
    })
    .await;
    let text = "SELECT parameter FROM observations WHERE parameter = 'CO' UNION ALL SELECT agency FROM observations";
    check_sql(&cluster, text, false, |oracle| {
        let co = oracle.rows.iter().filter(|row| row.text("parameter") == "CO").map(|_| "CO".to_owned());
        co.chain(oracle.rows.iter().map(|row| row.text("agency").to_owned())).collect()
    })
    .await;
}

#[tokio::test]
async fn explain_shows_the_scan_and_what_was_pushed_into_it() {
    let cluster = Cluster::start(Setup { graph: Graph::Embedded, ..Setup::default() }).await;
    for (text, pieces) in [
        ("SELECT site_name FROM observations WHERE parameter = 'CO' LIMIT 3", &["parameter@3 = CO", "limit=3"][..]),
        ("SELECT aqi FROM observations WHERE concentration >= 5", &["columns=[aqi]", "concentration@4 >= 5"]),
        ("SELECT aqi FROM observations WHERE utc >= '2020-08-25'", &["partitions=2 of 12"]),
        ("SELECT count(*) FROM observations", &["partitions=12 of 12", "columns=[]"]),
    ] {
        let answer =
            cluster.ask(sql(&format!("EXPLAIN {text}"))).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        let plan = answer.in_order.join("\n");
        let scan = plan.lines().find(|line| line.contains("OverlayScanExec")).unwrap_or_else(|| panic!("{plan}"));
        for piece in pieces {
            assert!(scan.contains(piece), "{text}: no {piece:?} in {scan}");
        }
        assert!(!plan.contains("FilterExec"), "{text}: the filter is evaluated in the scan: {plan}");
    }
}
