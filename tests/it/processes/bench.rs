//! `overlay bench engine`: every workload answers as the CSV text says, and nothing is left behind.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::csv_text::{self, FULL_AQS_ID, PARAMETER, UTC, concentration, tenths};
use crate::program::Place;

/// The workloads that answer with the rows of the range.
const OF_THE_RANGE: [&str; 5] = ["cold_count", "warm_count", "warm_count_scan", "warm_rows", "remote_rows"];

/// Runs the bench with a folder for temporary files of its own; gives stdout and what it left there.
fn bench(place: &Place, arguments: &[&str]) -> (String, Vec<PathBuf>) {
    let temporary = place.path("temporary");
    fs::create_dir_all(&temporary).unwrap();
    let ended = place.command(&[&["bench", "engine"], arguments].concat()).env("TMPDIR", &temporary).output().unwrap();
    assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    let left = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    (String::from_utf8(ended.stdout).unwrap(), left)
}

#[test]
fn every_workload_answers_right() {
    let place = Place::with_data("one_host.json");
    let data_set = place.data_set();
    let days = csv_text::days(&data_set).into_iter();
    let all: Vec<Vec<String>> = days.flat_map(|day| csv_text::rows_of_day(&data_set, &day)).collect();
    let within = |row: &&Vec<String>| {
        row[PARAMETER] == "OZONE" && concentration(row).is_some_and(|value| (20.0..=41.5).contains(&value))
    };
    let range: Vec<Vec<String>> = all.iter().filter(within).cloned().collect();
    assert!(!range.is_empty());
    let sum = |rows: &[Vec<String>]| rows.iter().map(|row| tenths(row)).sum::<i64>();
    let row = &all[all.len() / 2];
    let same = |other: &&Vec<String>| [FULL_AQS_ID, PARAMETER, UTC].iter().all(|column| other[*column] == row[*column]);
    let points = all.iter().filter(same).count();
    let point = format!("{},{},{}", row[FULL_AQS_ID], row[PARAMETER], row[UTC].trim_end_matches('Z'));

    let data_set = data_set.display().to_string();
    let arguments = ["--dataset", &data_set, "--range", "OZONE,20,41.5", "--point", &point, "--json"];
    let (text, left) = bench(&place, &arguments);
    let said: Value = serde_json::from_str(&text).unwrap();
    let check = |name: &str, rows: usize, tenths: Option<i64>| {
        let answer = &said[name];
        assert_eq!(answer["rows"].as_u64(), Some(rows as u64), "{name}: {answer}");
        assert_eq!(answer.get("tenths").and_then(Value::as_i64), tenths, "{name}: {answer}");
        assert!(answer["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{name}: {answer}");
    };
    check("csv_to_memory", all.len(), Some(sum(&all)));
    check("csv_to_parquet", all.len(), None);
    for name in OF_THE_RANGE {
        let tenths = ["warm_rows", "remote_rows"].contains(&name).then(|| sum(&range));
        check(name, range.len(), tenths);
    }
    check("remote_point", points, None);
    // The files stay for whoever reads the figures.
    let cache = said["csv_to_parquet"]["path"].as_str().unwrap();
    let files = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    assert!(files.filter(|path| path.extension().is_some_and(|end| end == "parquet")).count() > 1);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read_dir(&left[0]).unwrap().count(), 1, "nothing but the cache");
}

#[test]
fn a_table_leaves_nothing_and_nonsense_is_refused() {
    let place = Place::with_data("one_host.json");
    let data_set = place.data_set().display().to_string();
    let (table, left) = bench(&place, &["--dataset", &data_set, "--only", "warm_count,csv_to_parquet"]);
    assert!(table.contains("warm_count") && table.contains("csv_to_parquet") && !table.contains("remote"), "{table}");
    assert!(left.is_empty(), "{left:?}");
    for (arguments, words) in [
        (&["--dataset", &data_set, "--range", "OZONE,5"][..], &["PARAMETER,MIN,MAX"][..]),
        (&["--dataset", &data_set, "--range", "OZONE,5,x"], &["not a number"]),
        (&["--dataset", &data_set, "--only", "hot_count"], &["hot_count", "warm_count"]),
    ] {
        place.check(&[&["bench", "engine"], arguments].concat(), 2, words);
    }
    place.check(&["bench", "engine", "--dataset", "nowhere"], 1, &["nowhere"]);
}
