//! Nodes with a cache and CSV files, with either alone, and with neither: same partitions, same rows, and it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::{Cache, Dataset, DateRange, Layout};
use serde_json::{Value, json};

use crate::csv_text;
use crate::program::{NAME, Place};

/// A generated data set with a cache in zones of the usual size: those that a node parses itself.
fn place() -> Place {
    let place = Place::with_data("one_host.json");
    let options =
        RunOptions { cache: place.path("cache"), range: DateRange::ALL, layout: Layout::default(), force: true };
    fs::remove_dir_all(place.path("cache")).unwrap();
    run(&Dataset::open(place.data_set()).unwrap().named(NAME), &options, &Silent).unwrap();
    place
}

/// The same cluster as seen from a host with other folders.
fn write_config(place: &Place, file: &str, root: &str, cache: &str) {
    let mut config: Value = serde_json::from_slice(&fs::read(place.path("overlay.json")).unwrap()).unwrap();
    config["dataset"]["root"] = json!(root);
    config["dataset"]["cache"] = json!(cache);
    fs::write(place.path(file), config.to_string()).unwrap();
}

#[test]
fn hosts_with_and_without_a_cache_answer_as_one() {
    let place = place();
    let expected = csv_text::select(&place.data_set(), |_| true);
    let cache = Cache::open(place.path("cache")).unwrap();
    let named: BTreeSet<String> = cache.manifest().partitions.iter().map(|entry| entry.id.to_string()).collect();
    write_config(&place, "csv.json", "data-set", "no-cache");
    write_config(&place, "cache.json", "no-data-set", "cache");
    let csv = "no cache in no-cache: the CSV files are parsed";
    let alone = "no CSV files in no-data-set: the cache cache is served as it is";
    let hosts = [
        ("A", "csv.json", "", ""),
        ("B", "overlay.json", "cache", ""),
        ("C", "csv.json", "CSV", csv),
        ("D", "csv.json", "CSV", csv),
        ("E", "cache.json", "cache without CSV", alone),
        ("F", "overlay.json", "cache", ""),
    ];
    let nodes = hosts.map(|(id, config, _, _)| place.start(&["node", "--id", id, "--config", config]));
    place.check_ready();

    let answer = csv_text::answer(&place.check(&["query"], 0, &[]));
    csv_text::assert_same(&answer, &expected, "a mixed cluster");
    let status: Value = serde_json::from_str(&place.check(&["status", "--format", "json"], 0, &[])).unwrap();
    let partitions = status["partitions"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(partitions.iter().map(|one| text(&one["partition"])).collect::<BTreeSet<_>>(), named);
    let counted: u64 = partitions.iter().map(|one| one["rows"].as_u64().expect("held, so counted")).sum();
    assert_eq!(counted, expected.len() as u64);
    let holders: BTreeSet<String> =
        partitions.iter().flat_map(|one| one["holders"].as_array().unwrap()).map(text).collect();
    assert_eq!(holders.into_iter().collect::<Vec<_>>(), ["B", "C", "D", "E", "F"], "all kinds take part");

    let figures: Vec<Value> =
        serde_json::from_str(&place.check(&["metrics", "--all", "--format", "json"], 0, &[])).unwrap();
    let sources: BTreeMap<String, String> =
        figures.iter().map(|one| (text(&one["process_id"]), text(&one["data_source"]))).collect();
    for ((id, _, source, remark), node) in hosts.iter().zip(nodes) {
        assert_eq!(sources[*id], *source, "{id}");
        let log = place.check(&["logs", id], 0, &[]);
        assert_eq!(log.contains("no cache in") || log.contains("no CSV files in"), !remark.is_empty(), "{id}: {log}");
        assert!(log.contains(remark), "{id}: {log}");
        node.terminate().check(0, &[remark]);
    }
}

#[test]
fn a_cache_alone_is_enough_and_nothing_at_all_is_refused() {
    let place = place();
    let expected = csv_text::select(&place.data_set(), |_| true);
    fs::rename(place.data_set(), place.path("away")).unwrap();
    let up = place.up(&[]);
    csv_text::assert_same(&csv_text::answer(&place.check(&["query"], 0, &[])), &expected, "six nodes");
    up.terminate().check(0, &[]);
    let local = place.check(&["query", "--local"], 0, &["no CSV files in data-set: the cache cache is served"]);
    csv_text::assert_same(&csv_text::answer(&local), &expected, "--local");
    fs::rename(place.path("cache"), place.path("away-too")).unwrap();
    place.check(&["node", "--id", "F"], 1, &["the data set folder data-set does not exist", "hint: "]);
}

#[test]
fn a_team_whose_days_were_not_ingested_parses_them() {
    let place = place();
    fs::remove_dir_all(place.path("cache")).unwrap();
    let range = DateRange { from: "20200821".parse().unwrap(), to: "20200924".parse().unwrap() };
    let options = RunOptions { cache: place.path("cache"), range, layout: Layout::default(), force: false };
    run(&Dataset::open(place.data_set()).unwrap().named(NAME), &options, &Silent).unwrap();
    let up = place.up(&[]);
    let expected = csv_text::select(&place.data_set(), |_| true);
    csv_text::assert_same(&csv_text::answer(&place.check(&["query"], 0, &[])), &expected, "pink alone has a cache");
    for (id, parses) in [("B", true), ("F", false)] {
        let log = place.check(&["logs", id], 0, &[]);
        assert_eq!(log.contains("the CSV files are parsed"), parses, "{id}: {log}");
    }
    up.terminate().check(0, &[]);
}

#[test]
fn a_cache_of_another_data_set_is_refused() {
    let place = place();
    fs::remove_dir_all(place.path("cache")).unwrap();
    let options =
        RunOptions { cache: place.path("cache"), range: DateRange::ALL, layout: Layout::default(), force: false };
    run(&Dataset::open(place.data_set()).unwrap().named("other"), &options, &Silent).unwrap();
    let words = ["was made for data set \"other\"; this run is for data set \"2020-fire\"", "hint: run overlay-ingest"];
    place.check(&["node", "--id", "C"], 1, &words);
}
