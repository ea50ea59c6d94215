//! Ten classic and ninety point queries at once: all right, none refused, every limit held. And a hundred results that
//! nobody fetches, before twenty that somebody does.

use std::time::{Duration, Instant};

use fastrand::Rng;
use overlay::client::Client;
use overlay::engine::filter::RangeFilter;
use overlay::engine::session::Ask;
use overlay::leader::answer::QuerySpec;
use serde_json::Value;

use super::{CLASSIC, classic, data_set, real};
use crate::asking::spec;
use crate::csv_text::{self, FULL_AQS_ID, PARAMETER, UTC, answer, assert_same, joined};
use crate::program::{Ended, eventually, memory};

const CLASSIC_COUNT: usize = 10;
const POINT_COUNT: usize = 90;

/// Rows of the whole data set, drawn from the text of its files.
fn points(seed: u64) -> Vec<Vec<String>> {
    let mut random = Rng::with_seed(seed);
    let days = csv_text::days(&data_set());
    // A few days, so that not all 188 MB are read; each of the first and last of a team among them.
    let mut chosen: Vec<&str> = vec!["20200810", "20200820", "20200821", "20200924"];
    chosen.extend((0..5).map(|_| days[random.usize(..days.len())].as_str()));
    let rows: Vec<_> = chosen.iter().map(|day| csv_text::rows_of_day(&data_set(), day)).collect();
    (0..POINT_COUNT)
        .map(|_| {
            let day = &rows[random.usize(..rows.len())];
            day[random.usize(..day.len())].clone()
        })
        .collect()
}

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn a_hundred_queries_at_once_are_all_right() {
    let real = real();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let points = points(seed);
    let place = real.place("one_host.json");
    let up = place.up(&[]);
    let start = Instant::now();
    let ask_point = |row: &Vec<String>| -> Ended {
        let sql = format!(
            "SELECT * FROM observations WHERE full_aqs_id = '{}' AND parameter = '{}' AND utc = TIMESTAMP '{}'",
            row[FULL_AQS_ID],
            row[PARAMETER],
            row[UTC].trim_end_matches('Z').replace('T', " "),
        );
        place.run(&["sql", &sql, "--timeout", "300", "--format", "csv"])
    };
    std::thread::scope(|scope| {
        let ask_classic = || place.run(&[&CLASSIC[..], &["--timeout", "300", "--format", "csv"]].concat());
        let classics: Vec<_> = (0..CLASSIC_COUNT).map(|_| scope.spawn(ask_classic)).collect();
        let asked: Vec<_> = points.iter().map(|row| (row, scope.spawn(move || ask_point(row)))).collect();
        for (row, asked) in asked {
            let ended = asked.join().unwrap();
            ended.check(0, &["1 row in"]);
            assert_same(&answer(&ended.text()), &[joined(row.clone())], "a point query");
        }
        for asked in classics {
            let ended = asked.join().unwrap();
            ended.check(0, &["225,521 rows in"]);
            assert_same(&answer(&ended.text()), classic(), "a classic query");
        }
    });
    println!("{CLASSIC_COUNT} classic and {POINT_COUNT} point queries in {:?}", start.elapsed());

    let figures = eventually("the Leader is idle", || {
        let said = place.check(&["metrics", "--format", "json"], 0, &[]);
        let figures: Value = serde_json::from_str(&said).unwrap();
        (figures["active_requests"] == 0 && figures["results"] == 0).then_some(figures)
    });
    let figure = |name: &str| figures[name].as_u64().unwrap_or_else(|| panic!("{name}: {figures}"));
    assert!(figure("queue_peak") <= figure("queue_capacity"), "{figures}");
    assert!((1..=figure("max_capacity")).contains(&figure("active_peak")), "{figures}");
    assert!((1..=figure("result_bytes_max")).contains(&figure("result_bytes_peak")), "{figures}");
    assert_eq!((figure("queries_refused"), figure("queue_size"), figure("result_bytes")), (0, 0, 0), "{figures}");
    assert_eq!(figure("queries_admitted"), (CLASSIC_COUNT + POINT_COUNT) as u64, "{figures}");
    up.terminate().check(0, &[]);
}

const UNREAD_COUNT: usize = 100;
const READ_COUNT: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the real data set in datasets/2020-fire"]
async fn a_hundred_that_never_fetch_leave_room_for_twenty_that_do() {
    let real = real();
    let place = real.place("one_host.json");
    let up = place.up(&[]);
    let address = place.address("A");
    let time_left = Some(Duration::from_secs(300));
    let filter = RangeFilter { parameter: Some("PM2.5".into()), min: Some(5.0), max: Some(35.0), ..Default::default() };
    let before = memory(place.pid("A"), "VmHWM");
    let start = Instant::now();
    let mut unread = Vec::new();
    for _ in 0..UNREAD_COUNT {
        let client = Client::new(&address);
        let spec = QuerySpec { time_left, ..spec(Ask::Range(filter.clone())) };
        client.node().submit(spec, "never fetches", None).await.expect("there is room to wait");
        unread.push(client);
    }
    std::thread::scope(|scope| {
        let ask = || place.run(&[&CLASSIC[..], &["--timeout", "300", "--format", "csv"]].concat());
        let asked: Vec<_> = (0..READ_COUNT).map(|_| scope.spawn(ask)).collect();
        for ended in asked.into_iter().map(|asked| asked.join().unwrap()) {
            ended.check(0, &["225,521 rows in"]);
            assert_same(&answer(&ended.text()), classic(), "one that is read");
        }
    });
    let figures = Client::new(&address).metrics(Duration::from_secs(60)).await.expect("metrics");
    let after = memory(place.pid("A"), "VmHWM");
    println!(
        "{UNREAD_COUNT} unread and {READ_COUNT} read in {:?}; result bytes peak {} of {}; the Leader's memory {before} → {after}",
        start.elapsed(),
        figures.result_bytes_peak,
        figures.result_bytes_max,
    );
    assert!(figures.result_bytes_peak <= figures.result_bytes_max, "{figures:?}");
    assert!(after < before + figures.result_bytes_max + (512 << 20), "{before} → {after}");
    up.terminate().check(0, &[]);
}
