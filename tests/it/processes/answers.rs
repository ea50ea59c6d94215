//! Answers in every form, compared with the text of the CSV files.

use std::io::{Cursor, Read};
use std::process::Stdio;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Value, json};

use crate::csv_text::{self, CONCENTRATION, FULL_AQS_ID, HEADER, PARAMETER, UTC, assert_same, concentration};
use crate::program::Place;

/// Whether a row in normal form has a parameter and a concentration within bounds.
fn within(row: &[String], parameter: &str, min: f64, max: f64) -> bool {
    row[PARAMETER] == parameter && concentration(row).is_some_and(|value| (min..=max).contains(&value))
}

type Wanted = fn(&[String]) -> bool;

/// What is asked, and which rows must come.
const CASES: &[(&[&str], Wanted)] = &[
    (&[], |_| true),
    // Only a bound excludes rows without a concentration.
    (&["PM2.5"], |row| row[PARAMETER] == "PM2.5"),
    (&["PM2.5", "5", "35"], |row| within(row, "PM2.5", 5.0, 35.0)),
    (&["pm2.5", "5", "35"], |row| within(row, "PM2.5", 5.0, 35.0)),
    (&["NO2", "-5", "0"], |row| within(row, "NO2", -5.0, 0.0)),
    (&["no2", "-4.8", "-0.1"], |row| within(row, "NO2", -4.8, -0.1)),
    (&["OZONE", "500", "1000"], |row| within(row, "OZONE", 500.0, 1000.0)),
    (&["XENON"], |_| false),
    (&["OZONE", "0", "30", "--from", "20200820", "--to", "20200821"], |row| {
        within(row, "OZONE", 0.0, 30.0) && ("2020-08-20".."2020-08-22").contains(&&row[UTC][..10])
    }),
    (&["--from", "20200825"], |row| &row[UTC][..10] >= "2020-08-25"),
    (&["--to", "20190101"], |_| false),
    (&["PM10", "--bbox", "30,-120,40.5,-90"], |row| {
        let [latitude, longitude] = [0, 1].map(|column| row[column].parse::<f64>().unwrap());
        let inside = (30.0..=40.5).contains(&latitude) && (-120.0..=-90.0).contains(&longitude);
        row[PARAMETER] == "PM10" && inside
    }),
];

const DIRECT: [&str; 2] = ["--format", "csv"];

#[test]
fn days_without_room_in_memory_are_answered_from_disk() {
    let place = Place::with_data_and("one_host.json", |config| config["limits"]["data_bytes_max"] = json!(100_000));
    let up = place.up(&[]);
    for (question, wanted) in CASES {
        let arguments = [&["query"], *question, &DIRECT].concat();
        let answer = csv_text::answer(&place.check(&arguments, 0, &[]));
        assert_same(&answer, &csv_text::select(&place.data_set(), wanted), &arguments.join(" "));
    }
    let status = place.check(&["status"], 0, &[]);
    assert!(status.contains("of its partitions from disk: limits.data_bytes_max is full"), "{status}");
    let figures: Vec<Value> =
        serde_json::from_str(&place.check(&["metrics", "--all", "--format", "json"], 0, &[])).unwrap();
    let sum = |name: &str| figures.iter().map(|node| node[name].as_u64().unwrap()).sum::<u64>();
    let [entries, hits, misses] = ["entries", "hits", "misses"].map(|name| sum(&format!("footer_cache_{name}")));
    assert!(
        entries > 0 && entries <= misses && misses < hits,
        "each file is read whole once: {entries}, {misses}, {hits}"
    );
    let partitions = place.check(&["partitions"], 0, &[]);
    let on_disk = partitions.lines().filter(|line| line.contains(" (disk)")).count();
    // The header is none of them.
    assert!((1..partitions.lines().count() - 1).contains(&on_disk), "{partitions}");
    up.terminate().check(0, &[]);
}

#[test]
fn ranges_are_answered_as_the_files_say_and_locally_the_same() {
    let place = Place::with_data("one_host.json");
    let up = place.up(&[]);
    for (question, wanted) in CASES {
        let expected = csv_text::select(&place.data_set(), wanted);
        for how in [&["--format", "csv"][..], &["--encoding", "json", "--quiet"], &["--local"]] {
            let arguments = [&["query"], *question, how].concat();
            let answer = csv_text::answer(&place.check(&arguments, 0, &[]));
            assert_same(&answer, &expected, &arguments.join(" "));
        }
    }
    up.terminate().check(0, &[]);
}

#[test]
fn every_form_has_the_same_rows() {
    let place = Place::with_data("embedded.json");
    let _up = place.up(&[]);
    let expected = csv_text::select(&place.data_set(), |row| within(row, "PM2.5", 5.0, 35.0));
    let ask = |more: &[&str]| place.run(&[&["query", "PM2.5", "5", "35"], more].concat());

    let csv = ask(&DIRECT);
    csv.check(0, &["rows in", "coverage: 16 partitions", "query "]);
    assert_same(&csv_text::answer(&csv.text()), &expected, "csv");
    assert_same(&from_json(&ask(&["--format", "json"]).stdout), &expected, "json");
    assert_same(&from_arrow(&ask(&["--format", "arrow"]).stdout), &expected, "arrow");
    let table = ask(&["--format", "table"]).text();
    assert_eq!(table.lines().count(), expected.len() + 1, "a header and every row, although it is long");
    assert_eq!(table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(","), HEADER);

    let quiet = ask(&["--quiet"]);
    assert_eq!(quiet.stderr, "", "no footer");
    assert_eq!(quiet.text().lines().count(), expected.len() + 1, "a pipe gets csv");
    assert_eq!(ask(&["--limit", "7"]).text().lines().count(), 8);
    assert_eq!(ask(&["--limit", "0"]).text().lines().count(), 1);
    let empty = [("csv", format!("{HEADER}\n")), ("json", "[]\n".to_owned())];
    for (format, expected) in empty {
        assert_eq!(place.check(&["query", "XENON", "--format", format], 0, &[]), expected);
    }
    let columns = place.check(&["query", "PM2.5", "5", "35", "--columns", "full_aqs_id,concentration"], 0, &[]);
    assert_eq!(columns.lines().next(), Some("full_aqs_id,concentration"));
    let mut got: Vec<_> = columns.lines().skip(1).map(|line| csv_text::cells(line).join(",")).collect();
    let pick = |row: &String| {
        let cells: Vec<&str> = row.split('\u{1f}').collect();
        format!("{},{}", cells[FULL_AQS_ID], cells[CONCENTRATION])
    };
    let mut wanted: Vec<_> = expected.iter().map(pick).collect();
    got.sort();
    wanted.sort();
    assert_same(&got, &wanted, "two columns");
}

#[test]
fn a_file_appears_whole_and_in_the_form_of_its_name() {
    let place = Place::with_data("embedded.json");
    let _up = place.up(&[]);
    let expected = csv_text::select(&place.data_set(), |row| within(row, "OZONE", 20.0, 40.0));
    for name in ["answer.csv", "answer.json", "answer.arrow"] {
        let stdout = place.check(&["query", "OZONE", "20", "40", "-o", name], 0, &["rows in"]);
        assert_eq!(stdout, "");
        let bytes = std::fs::read(place.path(name)).unwrap();
        let rows = match name {
            "answer.csv" => csv_text::answer(&String::from_utf8(bytes).unwrap()),
            "answer.json" => from_json(&bytes),
            _ => from_arrow(&bytes),
        };
        assert_same(&rows, &expected, name);
    }
    place.check(&["query", "--columns", "nothing", "-o", "none.csv"], 2, &["error: ", "nothing"]);
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("none.csv")), "{left:?}");
}

#[test]
fn sql_is_taken_from_an_argument_a_file_or_a_pipe() {
    let place = Place::with_data("embedded.json");
    let _up = place.up(&[]);
    let rows = csv_text::select(&place.data_set(), |_| true);
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for row in &rows {
        *counts.entry(row.split('\u{1f}').nth(PARAMETER).unwrap()).or_default() += 1;
    }
    let lines: String = counts.iter().map(|(parameter, count)| format!("{parameter},{count}\n")).collect();
    let expected = format!("parameter,n\n{lines}");
    let sql = "SELECT parameter, count(*) AS n FROM observations GROUP BY parameter ORDER BY parameter";
    assert_eq!(place.check(&["sql", sql], 0, &["6 rows in"]), expected);
    assert_eq!(place.check(&["sql", sql, "--local"], 0, &["6 rows in"]), expected);
    std::fs::write(place.path("count.sql"), format!("-- a comment\n{sql}\n;\n")).unwrap();
    assert_eq!(place.check(&["sql", "-f", "count.sql"], 0, &[]), expected);
    let piped = place.command(&["sql", "-"]).stdin(std::fs::File::open(place.path("count.sql")).unwrap()).output();
    assert_eq!(String::from_utf8(piped.unwrap().stdout).unwrap(), expected);
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let place = Place::with_data("embedded.json");
    let _up = place.up(&[]);
    for format in ["csv", "json", "arrow", "table"] {
        let mut command = place.command(&["query", "--format", format]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // As `head -c 64` does: the beginning is read, then the pipe is closed. The answer is larger than a pipe.
        child.stdout.take().unwrap().read_exact(&mut [0; 64]).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), said.as_str()), (Some(0), ""), "{format}");
    }
}

fn from_json(bytes: &[u8]) -> Vec<String> {
    let rows: Vec<serde_json::Map<String, Value>> = serde_json::from_slice(bytes).unwrap();
    csv_text::sorted(rows.iter().map(|row| {
        let cell = |name| match &row[name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        HEADER.split(',').map(cell).collect()
    }))
}

fn from_arrow(bytes: &[u8]) -> Vec<String> {
    let batches = StreamReader::try_new(Cursor::new(bytes), None).unwrap().map(Result::unwrap);
    csv_text::sorted(batches.collect::<Vec<RecordBatch>>().iter().flat_map(|batch| {
        let options = FormatOptions::default();
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect();
        (0..batch.num_rows()).map(row).collect::<Vec<_>>()
    }))
}
