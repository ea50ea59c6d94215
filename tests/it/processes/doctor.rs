//! What the doctor finds, and that it finds nothing where nothing is wrong.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::program::{Place, eventually};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs the doctor and checks its exit code, and that some lines of its report begin with a level and say a word.
#[track_caller]
fn check(place: &Place, code: i32, findings: &[(&str, &str)]) -> String {
    let report = place.check(&["doctor"], code, &[]);
    for (level, words) in findings {
        let found = report.lines().any(|line| {
            let line = line.trim_start();
            line.starts_with(level) && words.split(" … ").all(|word| line.contains(word))
        });
        assert!(found, "no line {level:?} {words:?} in\n{report}");
    }
    report
}

#[test]
fn a_cluster_that_is_well_has_no_findings() {
    let place = Place::with_data("one_host.json");
    let before = check(
        &place,
        0,
        &[
            ("ok", "overlay.json: 6 processes, 6 links, teams green, pink"),
            ("ok", "all processes are on this host: A B C D E F (127.0.0.1)"),
            ("ok", "A does not run; it takes any free port"),
            ("ok", "green (B C): 11 of 11 days are on this host, 20200810 to 20200820 … the cache cache is fresh"),
            ("ok", "pink … of Parquet were read; every digest is right"),
            ("ok", "state_dir state can be written to … are free"),
        ],
    );
    assert!(before.ends_with(" 0 warnings, 0 problems\n"), "{before}");
    assert!(!place.path("state").exists(), "it only looks");

    let up = place.up(&[]);
    let report = check(
        &place,
        0,
        &[
            ("ok", &format!("C runs here at 127.0.0.1: … , pid {}", place.pid("C"))),
            ("ok", "C here is ready: … rows from cache … same configuration"),
            ("ok", "A here is ready: no data of its own"),
            ("ok", "live both ways: A–B A–E B–C B–D D–E E–F"),
            ("ok", "A knows 16 days … all are held"),
        ],
    );
    assert!(report.ends_with(" 0 warnings, 0 problems\n"), "{report}");
    let json: Value = serde_json::from_str(&place.check(&["doctor", "--json"], 0, &[])).unwrap();
    let sections: Vec<&str> =
        json["sections"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(sections, ["configuration", "ports", "nodes", "links", "data", "overlay", "disk"]);
    assert_eq!(json["problems"], 0);

    place.kill("F");
    eventually("F is missed", || (place.run(&["status"]).code == Some(1)).then_some(()));
    check(&place, 1, &[("problem", "nobody alive holds … last held by F"), ("ok", "an end does not run: E–F")]);
    up.terminate().check(1, &[]);
}

#[test]
fn a_configuration_that_cannot_be_used_is_the_only_finding() {
    let place = Place::with("one_host.json", |config| config["processes"]["C"]["team"] = json!("gren"));
    let report = check(&place, 1, &[("problem", "processes.C.team"), ("hint:", "green")]);
    assert!(report.ends_with("0 ok, 0 warnings, 1 problem\n"), "{report}");
    fs::write(place.path("overlay.json"), "{").unwrap();
    check(&place, 1, &[("problem", "overlay.json:1:")]);
    fs::remove_file(place.path("overlay.json")).unwrap();
    check(&place, 1, &[("problem", "overlay.json"), ("hint:", "--config")]);
    // Nobody's address: 192.0.2.0/24 is kept for examples.
    let place = Place::with("embedded.json", |config| {
        config["processes"]["A"]["host"] = json!("192.0.2.1");
        config["processes"]["A"]["port"] = json!(60051);
    });
    check(&place, 1, &[("problem", "no process has an address of this machine: A (192.0.2.1)")]);
}

#[test]
fn a_port_of_somebody_else_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let place = Place::with_data_and("embedded.json", |config| config["processes"]["A"]["port"] = json!(port));
    let taken = format!("A: 127.0.0.1:{port} is used by another program");
    check(&place, 1, &[("problem", &taken), ("hint:", "ss -ltnp")]);
    drop(listener);
    check(&place, 0, &[("ok", &format!("A: 127.0.0.1:{port} is free; A does not run"))]);
}

#[test]
fn a_node_with_another_configuration_is_found_by_its_keys() {
    let port = free_port();
    let place = Place::with_data_and("embedded.json", |config| config["processes"]["A"]["port"] = json!(port));
    let node = place.start(&["node", "--id", "A"]);
    place.check_ready();
    let mut config: Value = serde_json::from_slice(&fs::read(place.path("overlay.json")).unwrap()).unwrap();
    config["replicas"] = json!("all");
    config["dataset"]["table"] = json!("readings");
    let before = fs::read(place.path("overlay.json")).unwrap();
    place.configure(&config);
    check(
        &place,
        1,
        &[
            ("problem", &format!("A: 127.0.0.1:{port} is held by A of another folder")),
            ("problem", "A here has another configuration … : dataset.table, replicas"),
            ("hint:", "these keys must agree"),
        ],
    );
    fs::write(place.path("overlay.json"), before).unwrap();
    check(&place, 0, &[("ok", "A runs here at")]);
    node.terminate().check(0, &[]);
}

#[test]
fn a_link_that_is_live_one_way_is_found() {
    let ports = [free_port(), free_port()];
    let place = Place::with_data_and("embedded.json", |config| {
        config["adopt_links"] = json!(false);
        let a = config["processes"]["A"].clone();
        for (id, role, neighbor, port) in [("A", "leader", "B", ports[0]), ("B", "worker", "A", ports[1])] {
            let mut process = a.clone();
            for (key, value) in [("id", json!(id)), ("role", json!(role)), ("neighbors", json!([neighbor]))] {
                process[key] = value;
            }
            process["port"] = json!(port);
            config["processes"][id] = process;
        }
    });
    // B's host has a wrong address of A: what its firewall or a typing error would do.
    let mut config: Value = serde_json::from_slice(&fs::read(place.path("overlay.json")).unwrap()).unwrap();
    config["processes"]["A"]["port"] = json!(free_port());
    fs::write(place.path("of-b.json"), config.to_string()).unwrap();
    let a = place.start(&["node", "--id", "A"]);
    let b = place.start(&["node", "--id", "B", "--config", "of-b.json"]);
    for node in [&a, &b] {
        eventually("it serves", || node.errors().contains("serves at").then_some(()));
    }
    check(
        &place,
        1,
        &[
            ("problem", "one way only: A reaches B, but B does not reach A"),
            ("hint:", &format!("let B in at TCP port {} on 127.0.0.1; why it fails: overlay logs B", ports[0])),
        ],
    );
    b.terminate().check(0, &[]);
    let b = place.start(&["node", "--id", "B"]);
    place.check_ready();
    check(&place, 0, &[("ok", "live both ways: A–B")]);
    for node in [b, a] {
        node.terminate().check(0, &[]);
    }
}

#[test]
fn data_that_a_node_would_refuse_are_found() {
    let place = Place::with_data("one_host.json");
    let parquet = fs::read_dir(place.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    let mut parquet: Vec<_> = parquet.filter(|path| path.extension().is_some_and(|end| end == "parquet")).collect();
    parquet.sort();
    let whole = fs::read(&parquet[0]).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&parquet[0], &damaged).unwrap();
    check(
        &place,
        1,
        &[
            ("problem", "green: the cache is damaged at 20200810: … digest"),
            ("hint:", "overlay-ingest data-set --config overlay.json --force"),
        ],
    );
    fs::remove_file(&parquet[0]).unwrap();
    check(&place, 1, &[("problem", "green: the cache is damaged at 20200810")]);
    fs::write(&parquet[0], whole).unwrap();
    check(&place, 0, &[]);

    let csv = place.data_set().join("data/20200822/20200822-05.csv");
    let text = fs::read(&csv).unwrap();
    fs::write(&csv, &text[..text.len() / 2]).unwrap();
    check(
        &place,
        1,
        &[
            ("problem", "pink: D E F will not start: the cache is not up to date: data/20200822/20200822-05.csv"),
            ("ok", "green (B C)"),
        ],
    );
    fs::remove_dir_all(place.path("cache")).unwrap();
    check(
        &place,
        0,
        &[
            ("warning", "pink (D E F) … no cache: every start parses"),
            ("hint:", "overlay-ingest data-set --config overlay.json"),
        ],
    );
    for day in fs::read_dir(place.data_set().join("data")).unwrap() {
        let day = day.unwrap();
        if day.file_name().to_str().unwrap() > "20200820" {
            fs::remove_dir_all(day.path()).unwrap();
        }
    }
    check(&place, 0, &[("warning", "pink: none of its days is on this host, so D E F will hold nothing")]);
    fs::remove_dir_all(place.data_set()).unwrap();
    check(&place, 1, &[("problem", "green: B C will not start: the data set folder data-set does not exist")]);
}

#[test]
fn what_does_not_fit_or_cannot_be_written_is_found() {
    let place = Place::with_data_and("one_host.json", |config| {
        config["limits"]["data_bytes_max"] = json!(1000);
        config["state_dir"] = json!("overlay.json/state");
    });
    check(
        &place,
        1,
        &[
            (
                "warning",
                "green: about … of memory for its days here, shared by 2; data_bytes_max is 1000 B a node: the rest is read",
            ),
            ("problem", "state_dir overlay.json/state cannot be written to"),
        ],
    );
    // Without a cache there is nothing to read the rest from.
    fs::remove_dir_all(place.path("cache")).unwrap();
    let words = "green: about … of memory for its days here, shared by 2; data_bytes_max is 1000 B a node: too little";
    check(&place, 1, &[("problem", words)]);
}
