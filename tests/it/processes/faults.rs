//! Nodes that die, stop and come back, and answers that break off.

use std::time::Duration;

use rustix::process::Signal;

use crate::csv_text::{self, UTC, assert_same};
use crate::program::{Place, eventually};

/// The dates that a node holds, as `overlay partitions` lists them.
fn dates_held(place: &Place, id: &str) -> Vec<String> {
    let listed = place.check(&["partitions", "--format", "csv"], 0, &[]);
    let rows = listed.lines().skip(1).map(csv_text::cells).filter(|cells| cells[5] == id);
    rows.map(|cells| cells[0].clone()).collect()
}

/// The rows of all days but some, of which dates are like 20200810.
fn rows_but(place: &Place, dates: &[String]) -> Vec<String> {
    csv_text::select(&place.data_set(), |row| !dates.contains(&row[UTC][..10].replace('-', "")))
}

#[test]
fn a_killed_node_is_named_with_its_route_and_dates_and_comes_back() {
    let place = Place::with_data("one_host.json");
    let up = place.up(&[]);
    let dates = dates_held(&place, "F");
    assert!(!dates.is_empty(), "F holds something");
    let pids: Vec<u32> = ["A", "B", "C", "D", "E"].map(|id| place.pid(id)).into();
    place.kill("F");

    // At once, while the others may still believe in it, and once they know.
    let mut words = vec!["F", "A → E → F", "hint: start the missing nodes"];
    words.extend(dates.iter().map(String::as_str));
    place.check(&["query", "--format", "table"], 1, &words);
    place.check(&["query", "-o", "answer.csv"], 1, &words);
    assert!(!place.path("answer.csv").exists());
    eventually("the Leader lists F as dead", || {
        let status = place.run(&["status"]);
        status.text().lines().any(|line| line.starts_with("F ") && line.contains(" dead ")).then_some(())
    });
    place.check(&["query", "--format", "table"], 1, &words);
    let status = place.check(&["status"], 1, &[]);
    assert!(dates.iter().all(|date| status.contains(&format!("hole: {date} (last held by F)"))), "{status}");

    let partial = place.run(&["query", "--allow-partial"]);
    partial.check(3, &["MISSING", "PARTIAL"]);
    partial.check(3, &words[..2]);
    partial.check(3, &words[3..]);
    assert_same(&csv_text::answer(&partial.text()), &rows_but(&place, &dates), "all but what F held");
    // Pruned partitions are not asked for, so nobody misses the node that held them.
    let others = place.check(&["query", "--to", "20200820"], 0, &["11 answered, 5 pruned"]);
    let green = csv_text::select(&place.data_set(), |row| &row[UTC][..10] <= "2020-08-20");
    assert_same(&csv_text::answer(&others), &green, "the other team is whole");

    let node = place.start(&["node", "--id", "F"]);
    place.check_ready();
    assert_same(&csv_text::answer(&place.check(&["query"], 0, &[])), &rows_but(&place, &[]), "F is back");
    assert_eq!(["A", "B", "C", "D", "E"].map(|id| place.pid(id)).to_vec(), pids, "nobody else was started again");
    assert_eq!(dates_held(&place, "F"), dates);
    // One of those that `up` started died, and it says so by its exit.
    up.terminate().check(1, &["F ended by itself"]);
    node.end().check(0, &[]);
}

#[test]
fn an_answer_that_breaks_off_cannot_be_taken_for_the_whole() {
    let place = Place::with_data("one_host.json");
    let _up = place.up(&[]);
    let dates = dates_held(&place, "F");
    place.signal("F", Signal::STOP);
    let asked: Vec<_> = [
        &["--format", "json"][..],
        &["--format", "csv"],
        &["--format", "arrow"],
        &["--format", "table"],
        &["-o", "answer.csv"],
        &["--allow-partial"],
    ]
    .into_iter()
    .map(|how| place.start(&[&["query", "--timeout", "3"], how].concat()))
    .collect();
    let [json, csv, arrow, table, file, partial]: [_; 6] =
        asked.into_iter().map(|query| query.end()).collect::<Vec<_>>().try_into().unwrap();
    place.signal("F", Signal::CONT);

    // Chunks are handed out whole, so some rows that came in time may not be printed; what is printed is counted.
    let printed = csv.text().lines().count() - 1;
    assert!((1..=rows_but(&place, &dates).len()).contains(&printed), "{printed}");
    let last = |rows: usize| Some(format!("incomplete: {rows} rows were printed"));
    for broken in [&json, &csv, &arrow] {
        broken.check(1, &["the query's time was over before it ended", "F (route A → E → F)"]);
    }
    assert_eq!(csv.stderr.lines().last().map(str::to_owned), last(printed));
    assert_eq!(json.stderr.lines().last().map(str::to_owned), last(json.text().matches("{\"latitude\"").count()));
    assert!(arrow.stderr.lines().last().is_some_and(|line| line.starts_with("incomplete: ")));
    assert!(json.stdout.starts_with(b"[{") && !json.text().trim_end().ends_with(']'), "{json}");
    assert!(!arrow.stdout.ends_with(&[255, 255, 255, 255, 0, 0, 0, 0]), "no end mark");
    // Nothing was printed, so nothing is incomplete: it is a timeout.
    for none in [&table, &file] {
        none.check(124, &["F (route A → E → F)", "hint: give it more time with --timeout"]);
        assert_eq!(none.text(), "");
    }
    assert!(!place.path("answer.csv").exists());
    partial.check(3, &["PARTIAL", "F"]);
    // On a busy machine others may not be in time either; whoever is not is named.
    let named = partial.stderr.lines().filter(|line| line.starts_with("missing: "));
    let missing: Vec<String> =
        named.flat_map(|line| line.rsplit(": ").next().unwrap_or_default().split(' ').map(str::to_owned)).collect();
    assert!(dates.iter().all(|date| missing.contains(date)), "{partial}");
    assert_same(&csv_text::answer(&partial.text()), &rows_but(&place, &missing), "what was there in time");
    for ended in [json, csv, arrow, table, file, partial] {
        assert!(ended.took < Duration::from_secs(30), "{ended}");
    }

    place.check_ready();
    assert_same(&csv_text::answer(&place.check(&["query"], 0, &[])), &rows_but(&place, &[]), "F goes on");
}

#[test]
fn an_interrupt_cancels_on_the_servers() {
    let place = Place::with_data("one_host.json");
    let _up = place.up(&[]);
    place.signal("F", Signal::STOP);
    let query = place.start(&["query", "--timeout", "60"]);
    eventually("the first rows", || (query.text().len() > 10_000).then_some(()));
    query.signal(Signal::INT);
    query.end().check(130, &["interrupted: cancelling query", "incomplete: "]);
    eventually("the Leader is idle", || {
        let figures: serde_json::Value =
            serde_json::from_str(&place.check(&["metrics", "--format", "json"], 0, &[])).unwrap();
        (figures["active_requests"] == 0 && figures["results"] == 0).then_some(())
    });
    place.signal("F", Signal::CONT);
}

#[test]
fn a_full_queue_refuses_with_5() {
    let place = Place::with_data_and("one_host.json", |config| {
        config["limits"]["concurrent_max"] = 1.into();
        config["limits"]["team_concurrent_max"] = 1.into();
        config["limits"]["queue_capacity"] = 1.into();
    });
    let _up = place.up(&[]);
    place.signal("F", Signal::STOP);
    let running = place.start(&["query", "--timeout", "60"]);
    eventually("the first rows", || (running.text().len() > 10_000).then_some(()));
    let waiting = place.start(&["query", "--timeout", "60", "--format", "json"]);
    let figure = |name: &str| {
        let figures: serde_json::Value =
            serde_json::from_str(&place.check(&["metrics", "--format", "json"], 0, &[])).unwrap();
        figures[name].as_u64().unwrap()
    };
    eventually("the second waits", || (figure("queue_size") == 1).then_some(()));
    // The client comes back when it was told to, as long as its own time lasts.
    let refused = place.check(&["query", "--timeout", "3"], 5, &["queries are waiting", "hint: try again in about"]);
    assert_eq!(refused, "");
    assert_eq!((figure("queue_peak"), figure("active_peak")), (1, 1));
    assert!(figure("queries_refused") >= 1);
    place.signal("F", Signal::CONT);
    // The stop may have lasted so long that F was given up; then both say so.
    for query in [running, waiting] {
        let ended = query.end();
        assert!(matches!(ended.code, Some(0 | 1)), "{ended}");
    }
    place.check_ready();
    place.check(&["query", "--quiet"], 0, &[]);
}
