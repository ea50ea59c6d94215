//! Known answers: what was ingested, ranges and SQL of the oracle, through the overlay and with `--local`.

use std::path::Path;
use std::process::Command;

use overlay_ingest::DateRange;
use serde_json::Value;

use super::{CLASSIC, CLASSIC_ROWS, classic, oracle, real};
use crate::csv_text::{answer, assert_same, cells, tenths};
use crate::program::Place;

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn the_data_set_is_ingested_whole() {
    let real = real();
    let manifest = real.manifest;
    assert_eq!(manifest.partitions.len(), 43);
    assert_eq!(manifest.partitions.iter().map(|entry| entry.sources.len()).sum::<usize>(), 516);
    assert!(!manifest.holds_rejects());
    let rows = |from: &str, to: &str| -> u64 {
        let range = DateRange { from: from.parse().unwrap(), to: to.parse().unwrap() };
        manifest.partitions(range).map(|entry| entry.rows).sum()
    };
    assert_eq!(rows("20200810", "20200924"), 1_167_525);
    assert_eq!(rows("20200810", "20200820"), 214_636);
    assert_eq!(rows("20200821", "20200924"), 952_889);
}

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn six_processes_know_every_answer_of_the_oracle() {
    let real = real();
    let place = real.place("one_host.json");
    let up = place.up(&[]);
    check_ranges(&place, &[]);
    check_sql(&place, &[]);
    let day = ["query", "--from", "20200910", "--to", "20200910", "-o", "day.csv"];
    place.check(&day, 0, &["coverage: 43 partitions: 1 answered, 42 pruned"]);
    up.terminate().check(0, &[]);
}

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn local_answers_are_those_of_the_oracle() {
    let real = real();
    let place = real.place("one_host.json");
    check_ranges(&place, &["--local"]);
    check_sql(&place, &["--local"]);
}

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn five_processes_and_one_process_have_the_same_totals() {
    let real = real();
    for shipped in ["five_process.json", "embedded.json"] {
        let place = real.place(shipped);
        let up = place.up(&[]);
        let ended = place.run(&CLASSIC);
        ended.check(0, &["225,521 rows in", "coverage: 43 partitions"]);
        assert_same(&answer(&ended.text()), classic(), shipped);
        let counted = "SELECT count(*), count(DISTINCT parameter), min(utc), max(utc) FROM observations";
        let counted = place.check(&["sql", counted], 0, &[]);
        assert_eq!(counted.lines().nth(1), Some("1167525,6,2020-08-10T01:00:00Z,2020-09-24T23:00:00Z"), "{shipped}");
        let teams =
            "SELECT utc < TIMESTAMP '2020-08-21 00:00:00' AS green, count(*) FROM observations GROUP BY 1 ORDER BY 1";
        let teams = place.check(&["sql", teams], 0, &[]);
        assert_eq!(teams.lines().skip(1).collect::<Vec<_>>(), ["false,952889", "true,214636"], "{shipped}");
        up.terminate().check(0, &[]);
    }
}

/// Every case of `ranges.json`: rows, rows of each team, and the exact sum, from the CSV output.
#[track_caller]
fn check_ranges(place: &Place, how: &[&str]) {
    let known: Value = serde_json::from_str(&std::fs::read_to_string(oracle("ranges.json")).unwrap()).unwrap();
    let cases = known["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    for case in cases {
        let text = |name: &str| case[name].as_str().unwrap().to_owned();
        let number = |name: &str| case[name].to_string();
        let mut arguments = vec!["query".to_owned(), text("parameter"), number("min"), number("max")];
        arguments.extend(["--from".into(), text("from").replace('-', ""), "--to".into(), text("to").replace('-', "")]);
        if let Some(bbox) = case["bbox"].as_object() {
            let edges = ["south", "west", "north", "east"].map(|edge| bbox[edge].to_string()).join(",");
            arguments.extend(["--bbox".into(), edges]);
        }
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["--format", "csv"]);
        arguments.extend(how);
        let name = text("name");
        let said = place.check(&arguments, 0, &[]);
        let rows: Vec<Vec<String>> = said.lines().skip(1).map(cells).collect();
        let green = rows.iter().filter(|row| row[2].as_str() < "2020-08-21").count();
        let counted = [rows.len(), green, rows.len() - green].map(|rows| rows as i64);
        let sum: i64 = rows.iter().map(|row| tenths(row)).sum();
        let expected = ["rows", "green_rows", "pink_rows"].map(|name| case[name].as_i64().unwrap());
        assert_eq!((counted, sum), (expected, case["sum_tenths"].as_i64().unwrap()), "{name} {how:?}");
        if arguments[..4] == CLASSIC {
            assert_eq!(rows.len(), CLASSIC_ROWS);
        }
    }
}

/// Every statement of `sql/`, compared by the oracle's own program.
#[track_caller]
fn check_sql(place: &Place, how: &[&str]) {
    let folder = oracle("sql");
    let mut statements: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    statements.sort();
    assert_eq!(statements.len(), 20);
    for statement in statements {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let answer = place.path("answer.csv");
        let (from, into) = (path(&statement), path(&answer));
        let ended = place.run(&[&["sql", "-f", &from, "-o", &into][..], how].concat());
        ended.check(0, &["coverage: 43 partitions"]);
        let mut compare = Command::new("python3");
        compare.arg(oracle("compare.py")).arg(statement.with_extension("csv")).arg(&answer);
        if std::fs::read_to_string(&statement).unwrap().starts_with("-- unordered") {
            compare.arg("--unordered");
        }
        let compared = compare.output().unwrap();
        let said = String::from_utf8_lossy(&compared.stdout);
        assert!(compared.status.success(), "{from} {how:?}: {said}{}", String::from_utf8_lossy(&compared.stderr));
        std::fs::remove_file(answer).unwrap();
    }
}
