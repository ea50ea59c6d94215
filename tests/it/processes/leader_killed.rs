//! A Leader that is killed while it answers, and started again: what a user sees.

use std::fs;

use rustix::process::Signal;

use crate::csv_text::{self, assert_same};
use crate::program::{Ended, Place, eventually};

const WORKERS: [&str; 5] = ["B", "C", "D", "E", "F"];

/// How often a node has loaded partitions.
fn loads(place: &Place) -> Vec<usize> {
    let logs = WORKERS.map(|id| fs::read_to_string(place.path(&format!("logs/{id}.log"))).expect("a log"));
    logs.iter().map(|log| log.lines().filter(|line| line.contains(" ready partitions=")).count()).collect()
}

/// An answer of which rows were printed: exit 1, and the last line counts them. One of which none were: exit 1 or 4.
fn check_broken(ended: &Ended, printed: usize) {
    let last = ended.stderr.lines().last().unwrap_or_default();
    match printed {
        0 => assert!(matches!(ended.code, Some(1 | 4)), "{ended}"),
        rows => {
            assert_eq!(ended.code, Some(1), "{ended}");
            assert_eq!(last, format!("incomplete: {rows} rows were printed"), "{ended}");
        }
    }
    assert!(ended.stderr.contains("error: "), "{ended}");
}

#[test]
fn a_killed_leader_breaks_answers_openly_and_comes_back_right() {
    let place = Place::with_data("one_host.json");
    let up = place.up(&[]);
    let expected = csv_text::select(&place.data_set(), |_| true);
    let listed = place.check(&["partitions", "--format", "csv"], 0, &[]);
    let (pids, loaded) = (WORKERS.map(|id| place.pid(id)), loads(&place));

    place.signal("F", Signal::STOP);
    let csv = place.start(&["query", "--format", "csv", "--timeout", "60"]);
    let json = place.start(&["query", "--format", "json", "--timeout", "60"]);
    let table = place.start(&["query", "--format", "table", "--timeout", "60"]);
    let file = place.start(&["query", "-o", "answer.csv", "--timeout", "60"]);
    for query in [&csv, &json] {
        eventually("the first rows", || (query.text().len() > 10_000).then_some(()));
    }
    place.kill("A");
    place.signal("F", Signal::CONT);
    let (csv, json, table, file) = (csv.end(), json.end(), table.end(), file.end());
    check_broken(&csv, csv.text().lines().count() - 1);
    check_broken(&json, json.text().matches("{\"latitude\"").count());
    assert!(!json.text().trim_end().ends_with(']'), "what stands there is no JSON");
    check_broken(&table, 0);
    check_broken(&file, 0);
    assert!(!place.path("answer.csv").exists(), "a file is whole or not there");
    place.check(&["query"], 4, &["hint: "]);

    let leader = place.start(&["node", "--id", "A"]);
    eventually("A serves", || leader.errors().contains("A serves at").then_some(()));
    // Nobody waits for anything: the first query after the start.
    let first = place.check(&["query", "--format", "csv"], 0, &[]);
    assert_same(&csv_text::answer(&first), &expected, "the first answer of the new Leader");
    place.check_ready();
    assert_eq!(place.check(&["partitions", "--format", "csv"], 0, &[]), listed, "placed and held as before");
    assert_eq!(WORKERS.map(|id| place.pid(id)), pids, "nobody else was started again");
    assert_eq!(loads(&place), loaded, "and nobody loaded anything");
    assert_eq!(leader.terminate().code, Some(0));
    up.terminate().check(1, &["A ended by itself"]);
}
