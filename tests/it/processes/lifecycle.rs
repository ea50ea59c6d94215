//! Starting, looking, ending.

use std::collections::BTreeMap;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::csv_text;
use crate::program::{Place, Process, eventually};

const SIX: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

#[test]
fn up_shows_what_it_started_and_ends_it_in_order() {
    let place = Place::with_data("one_host.json");
    let rows: BTreeMap<String, usize> = csv_text::days(&place.data_set())
        .into_iter()
        .map(|day| (day.clone(), csv_text::rows_of_day(&place.data_set(), &day).len()))
        .collect();
    let total: usize = rows.values().sum();

    let up = place.up(&[]);
    let shown = up.text();
    let mut lines = shown.lines();
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["id", "role", "team", "address", "state", "rows", "pid"]);
    for id in SIX {
        let cells: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!((cells[0], cells[4], cells[6]), (id, "ready", place.pid(id).to_string().as_str()), "{shown}");
    }
    for step in ["overlay --config overlay.json query", "overlay --config overlay.json status", "end:   Ctrl-C"] {
        assert!(shown.contains(step), "{step}: {shown}");
    }
    assert_eq!(place.running(), SIX);

    let status = place.check(&["status"], 0, &[]);
    assert!(status.contains("rows in 16 partitions; complete"), "{status}");
    let json: Value = serde_json::from_str(&place.check(&["status", "--format", "json"], 0, &[])).unwrap();
    let held: u64 = json["members"].as_array().unwrap().iter().map(|member| member["rows"].as_u64().unwrap()).sum();
    assert_eq!(held, total as u64);

    let partitions = place.check(&["partitions", "--format", "csv"], 0, &[]);
    let listed: BTreeMap<String, usize> = partitions
        .lines()
        .skip(1)
        .map(csv_text::cells)
        .inspect(|cells| {
            assert!(
                ["C", "B", "D", "E", "F"].contains(&cells[5].as_str()),
                "{cells:?} is held by one who is no Leader"
            );
            assert_eq!(cells[2], if cells[0].as_str() <= "20200820" { "green" } else { "pink" });
        })
        .map(|cells| (cells[0].clone(), cells[3].parse().unwrap()))
        .collect();
    assert_eq!(listed, rows);

    let figures = place.check(&["metrics", "--all", "--format", "csv"], 0, &[]);
    let ids: Vec<String> = figures.lines().map(|line| csv_text::cells(line)[0].clone()).collect();
    assert_eq!(ids, ["process_id", "A", "B", "C", "D", "E", "F"]);
    let changed = place.check(&["control", "fairness", "weighted"], 0, &[]);
    assert_eq!(changed, "fairness_strategy weighted (was fair_queue), until the Leader ends\n");
    place.run(&["control", "fairness", "unfair"]).check(2, &["there is no fairness strategy", "fair_queue"]);
    place.check(&["query", "PM2.5", "5", "35", "--as", "pink", "-o", "pink.csv"], 0, &[]);
    let check = place.check(&["check"], 0, &[]);
    assert!(check.starts_with("A, leader, is ready; fairness_strategy weighted\n"), "{check}");
    let pink = check.lines().find(|line| line.starts_with("pink")).unwrap_or_else(|| panic!("{check}"));
    assert_eq!(pink.split_whitespace().nth(3), Some("1"), "one was admitted: {check}");
    let table = place.check(&["metrics", "--all"], 0, &[]);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for id in ["A", "B", "C", "D", "E", "F"] {
        let lines = table.lines().filter(|line| line.starts_with(&format!("{id}  "))).count();
        assert_eq!(lines, 3, "what {id} is, what it does, and what it keeps: {table}");
    }
    for text in ["rows/s", "on disk", "round trips", "A → B", "E → F"] {
        assert!(table.contains(text), "{text}: {table}");
    }
    let one = place.check(&["metrics", "B"], 0, &[]);
    for name in ["active_requests", "forwarding_strategy", "uptime_ms", "cpu_ms", "memory_bytes", "rows_per_s"] {
        assert!(one.lines().any(|line| line.starts_with(name)), "{name}: {one}");
    }
    for _ in 0..3 {
        place.check(&["sql", "SELECT parameter, max(aqi) FROM observations GROUP BY parameter"], 0, &[]);
    }
    let of_a: Value = serde_json::from_str(&place.check(&["metrics", "A", "--format", "json"], 0, &[])).unwrap();
    for (name, times) in [("plan_cache_entries", 1), ("plan_cache_hits", 2), ("plan_cache_misses", 1)] {
        assert_eq!(of_a[name], json!(times), "{name}, after a statement was asked three times: {of_a}");
    }
    assert!(of_a["bytes_per_s"].as_f64().unwrap() > 0.0, "an answer has just left it: {of_a}");
    assert_eq!(of_a["peers"].as_array().unwrap().len(), 2, "{of_a}");
    #[cfg(target_os = "linux")]
    for name in ["cpu_ms", "memory_bytes"] {
        assert!(of_a[name].as_u64().unwrap() > 0, "{name}: {of_a}");
    }
    let one: Value = serde_json::from_str(&place.check(&["metrics", "C", "--format", "json"], 0, &[])).unwrap();
    assert_eq!((&one["process_id"], &one["is_healthy"]), (&json!("C"), &json!(true)));

    place.check(&["up"], 1, &["A runs already", "overlay down"]);
    place.check(&["node", "--id", "C"], 1, &["another process with id C runs here", &place.pid("C").to_string()]);
    assert_eq!(place.running(), SIX, "what was refused disturbed nobody");

    up.terminate().check(0, &["draining"]);
    assert_eq!(place.running(), [""; 0]);
    place.check(&["status"], 4, &["its address is not known", "overlay up"]);
}

#[test]
fn the_end_of_its_terminal_ends_up_and_its_nodes() {
    let place = Place::with_data("embedded.json");
    let up = place.up(&[]);
    up.signal(Signal::HUP);
    up.end().check(0, &["draining"]);
    assert_eq!(place.running(), [""; 0]);
}

#[test]
#[cfg(target_os = "linux")]
fn who_ignores_the_end_of_the_terminal_outlives_it() {
    let place = Place::with_data("embedded.json");
    let mut command = place.command_without_hang_up("up");
    let up = Process::start(command.stdin(Stdio::null()), "up without a terminal".to_owned());
    eventually("up is ready", || up.text().contains("\nend: ").then_some(()));
    place.check_ready();
    up.signal(Signal::HUP);
    place.check(&["query", "PM2.5", "5", "35", "-o", "rows.csv"], 0, &[]);
    assert_eq!(up.errors(), "", "it is not draining");
    up.terminate().check(0, &["draining"]);
}

#[test]
fn down_ends_what_up_left_running() {
    let place = Place::with_data("five_process.json");
    let shown = place.check(&["up", "--detach"], 0, &[]);
    assert!(shown.contains("overlay --config overlay.json down"), "{shown}");
    assert_eq!(place.running().len(), 5);
    place.check(&["status", "--wait", "60"], 0, &[]);
    assert_eq!(place.check(&["down", "--only", "E"], 0, &[]), "E ended\n");
    assert_eq!(place.running(), ["A", "B", "C", "D"]);
    eventually("the Leader misses E", || (place.run(&["status"]).code == Some(1)).then_some(()));
    let ended = place.check(&["down"], 0, &[]);
    assert_eq!(ended.lines().filter(|line| line.ends_with(" ended")).count(), 4, "{ended}");
    assert_eq!(place.running(), [""; 0]);
    assert_eq!(place.check(&["down"], 0, &[]), "nothing was running\n");
}

#[test]
fn only_what_was_named_is_started_and_what_it_waits_for_is_said() {
    let place = Place::with_data("one_host.json");
    for command in ["up", "down"] {
        place.check(&[command, "--only", "A,G"], 2, &["no process \"G\"", "A, B, C, D, E, F"]);
        place.check(&[command, "--only", "b"], 2, &["no process \"b\"", "did you mean B?"]);
    }
    assert_eq!(place.check(&["down", "--only", "C,B"], 0, &[]), "B was not running\nC was not running\n");
    // Without the Leader there is no placement yet; the workers serve and say so.
    let up = place.start(&["up", "--only", "C,C"]);
    let shown = eventually("the table", || Some(up.text()).filter(|text| text.contains("\nend: ")));
    assert!(shown.contains("waiting for A"), "{shown}");
    assert!(shown.contains("the Leader, A on 127.0.0.1, does not run yet"), "{shown}");
    assert_eq!(place.running(), ["C"]);
    up.terminate().check(0, &[]);
}

#[test]
fn processes_of_other_hosts_are_left_to_them() {
    // Nobody's address: 192.0.2.0/24 is kept for examples.
    let place = Place::with("one_host.json", |config| {
        config["processes"]["F"]["host"] = json!("192.0.2.1");
        config["processes"]["F"]["port"] = json!(60056);
    });
    for command in ["up", "down"] {
        let there = format!("type it on 192.0.2.1: overlay {command} --only F");
        place.check(&[command, "--only", "C,F"], 2, &["F belongs on 192.0.2.1, which is not this machine", &there]);
    }
    place.check(&["logs", "F"], 4, &["F on 192.0.2.1 cannot be reached", "overlay doctor"]);
    assert_eq!(place.running(), [""; 0]);
    assert_eq!(place.check(&["down"], 0, &[]), "nothing was running\n");
}

#[test]
fn a_node_that_is_asked_to_end_ends_well() {
    let place = Place::with_data("embedded.json");
    for signal in [Signal::TERM, Signal::INT] {
        let node = place.start(&["node", "--id", "A"]);
        place.check_ready();
        place.check(&["query", "CO", "--quiet"], 0, &[]);
        node.signal(signal);
        node.end().check(0, &["A serves at 127.0.0.1:"]);
        assert_eq!(place.running(), [""; 0]);
    }
}

#[test]
fn without_a_cache_the_files_are_parsed_and_the_answers_are_the_same() {
    let place = Place::with_data("one_host.json");
    std::fs::remove_dir_all(place.path("cache")).unwrap();
    let expected = csv_text::select(&place.data_set(), |_| true);
    let up = place.up(&[]);
    let answer = csv_text::answer(&place.check(&["query"], 0, &[]));
    csv_text::assert_same(&answer, &expected, "six nodes without a cache");
    let partitions = place.check(&["partitions", "--format", "csv"], 0, &[]);
    let counted = partitions.lines().skip(1).map(|line| csv_text::cells(line)[3].parse::<usize>().unwrap());
    assert_eq!(counted.sum::<usize>(), expected.len(), "what was parsed is counted");
    let local = place.check(&["query", "--local"], 0, &["no cache in cache: the CSV files are parsed"]);
    csv_text::assert_same(&csv_text::answer(&local), &expected, "--local without a cache");
    up.terminate().check(0, &[]);
    let said = std::fs::read_to_string(place.path("logs/F.err")).unwrap();
    assert!(said.contains("no cache in cache: the CSV files are parsed"), "{said}");
}

#[test]
fn a_cache_that_is_older_than_its_files_is_refused_by_name() {
    let place = Place::with_data("one_host.json");
    let file = place.data_set().join("data/20200822/20200822-05.csv");
    let mut text = std::fs::read_to_string(&file).unwrap();
    let line = text.lines().next().unwrap().replace("2020-08-22T05:00\",\"", "2020-08-22T05:00\",\"X");
    text.push_str(&line);
    std::fs::write(&file, text).unwrap();
    let stale = "the cache is not up to date: data/20200822/20200822-05.csv";
    place.check(&["node", "--id", "F"], 1, &[stale, "hint: run overlay-ingest"]);
    place.check(&["query", "--local"], 1, &[stale, "hint: run overlay-ingest"]);
    place.check(&["up"], 1, &["ended while starting", stale]);
    assert_eq!(place.running(), [""; 0], "the others do not stay");
    // The other team's dates are up to date.
    let green = place.start(&["node", "--id", "C"]);
    eventually("C serves", || green.errors().contains("C serves at").then_some(()));
    green.terminate().check(0, &[]);
    place.ingest();
    let up = place.up(&[]);
    assert_eq!(place.check(&["query", "--from", "20200822", "--to", "20200822"], 0, &[]).matches(",X").count(), 1);
    up.terminate().check(0, &[]);
}
