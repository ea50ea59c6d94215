//! A worker is killed, or stopped, while queries run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::{CLASSIC, classic, real};
use crate::csv_text::{UTC, answer, assert_same, cells};
use crate::program::{Ended, Place, eventually};

/// The dates that F holds, as `overlay partitions` lists them.
fn dates_of_f(place: &Place) -> Vec<String> {
    let listed = place.check(&["partitions", "--format", "csv"], 0, &[]);
    let held = listed.lines().skip(1).map(cells).filter(|row| row[5] == "F");
    let dates: Vec<String> = held.map(|row| row[0].clone()).collect();
    assert!(!dates.is_empty(), "F holds at least one date: {listed}");
    dates
}

/// The rows of the classic query on other dates.
fn classic_but(dates: &[String]) -> Vec<String> {
    let date = |row: &str| row.split('\u{1f}').nth(UTC).unwrap()[..10].replace('-', "");
    classic().iter().filter(|row| !dates.contains(&date(row))).cloned().collect()
}

/// Whether an error says where it happened and which dates of F are missing; gives how many are.
#[track_caller]
fn check_named(ended: &Ended, dates: &[String]) -> usize {
    ended.check(1, &["error: ", "F (route A → E → F)", "hint: start the missing nodes"]);
    let named = dates.iter().filter(|date| ended.stderr.contains(*date)).count();
    assert!(named > 0, "no date of F is named by {ended}");
    named
}

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn a_worker_is_killed_while_queries_run_and_comes_back() {
    let real = real();
    let place = real.place("one_host.json");
    let up = place.up(&[]);
    let dates = dates_of_f(&place);
    let (rest, pids) = (classic_but(&dates), ["A", "B", "C", "D", "E"].map(|id| place.pid(id)));
    assert!(rest.len() < classic().len());

    // Two clients ask again and again. Every answer is whole, or it is an error with a name.
    let over = AtomicBool::new(false);
    let (whole, failed) = std::thread::scope(|scope| {
        let ask = || {
            let (mut whole, mut failed) = (0, 0);
            let start = Instant::now();
            // The limit ends the clients of a test that failed in between.
            while !over.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(120) {
                let ended = place.run(&CLASSIC);
                match ended.code {
                    Some(0) => {
                        assert_same(&answer(&ended.text()), classic(), "an answer that says that it is whole");
                        whole += 1;
                    }
                    _ => {
                        // F may have answered for some dates before the kill.
                        check_named(&ended, &dates);
                        failed += 1;
                    }
                }
            }
            (whole, failed)
        };
        let clients = [scope.spawn(ask), scope.spawn(ask)];
        eventually("some queries ended and others run", || {
            let figures: Value = serde_json::from_str(&place.run(&["metrics", "--format", "json"]).text()).ok()?;
            (figures["queries_admitted"].as_u64()? >= 6 && figures["active_requests"].as_u64()? > 0).then_some(())
        });
        place.kill("F");
        eventually("F is seen as dead", || place.run(&["status"]).text().contains("hole: ").then_some(()));
        over.store(true, Ordering::Relaxed);
        let counts = clients.map(|client| client.join().unwrap());
        (counts[0].0 + counts[1].0, counts[0].1 + counts[1].1)
    });
    println!("{whole} whole answers, {failed} errors around the kill");
    assert!(whole > 0 && failed > 0, "there were queries before and after the kill");

    let refused = place.run(&CLASSIC);
    assert_eq!(check_named(&refused, &dates), dates.len(), "all dates of F");
    let partial = place.run(&[&CLASSIC[..], &["--allow-partial"]].concat());
    partial.check(3, &["PARTIAL", "A → E → F"]);
    partial.check(3, &dates.iter().map(String::as_str).collect::<Vec<_>>());
    assert_same(&answer(&partial.text()), &rest, "exactly the other rows");

    let node = place.start(&["node", "--id", "F"]);
    place.check_ready();
    assert_same(&answer(&place.check(&CLASSIC, 0, &[])), classic(), "F is back");
    assert_eq!(["A", "B", "C", "D", "E"].map(|id| place.pid(id)), pids, "nobody else was started again");
    up.terminate().check(1, &["F ended by itself"]);
    node.end().check(0, &[]);
}

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn a_worker_that_stands_still_holds_up_neither_the_first_rows_nor_the_end() {
    let real = real();
    let place = real.place("one_host.json");
    let up = place.up(&[]);
    let dates = dates_of_f(&place);
    let timeout = Duration::from_secs(8);
    place.signal("F", Signal::STOP);
    let query = place.start(&[&CLASSIC[..], &["--timeout", "8"]].concat());
    let start = Instant::now();
    // The header alone would be a few hundred bytes.
    eventually("the first rows", || (query.text().lines().count() > 10).then_some(()));
    assert!(!query.has_ended(), "the first rows come before the end");
    println!("first rows after {:?}", start.elapsed());
    assert!(start.elapsed() < timeout, "{:?}", start.elapsed());
    let ended = query.end();
    println!("{}", ended.stderr);
    ended.check(1, &["the query's time was over", "F (route A → E → F)", "incomplete: "]);
    assert!(ended.took < timeout + Duration::from_secs(3), "it ends by its deadline: {:?}", ended.took);

    let partial = place.run(&[&CLASSIC[..], &["--timeout", "8", "--allow-partial"]].concat());
    partial.check(3, &["PARTIAL", "F"]);
    assert_same(&answer(&partial.text()), &classic_but(&dates), "what does not hang on F");
    place.signal("F", Signal::CONT);
    place.check_ready();
    assert_same(&answer(&place.check(&CLASSIC, 0, &[])), classic(), "F goes on");
    up.terminate().check(0, &[]);
}
