//! The program: arguments, exit codes, what is printed where.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::tree::{Tree, row};

fn overlay_ingest(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overlay-ingest"));
    // Not the developer's configuration, and not the repository's.
    command.env_remove("OVERLAY_CONFIG").current_dir(std::env::temp_dir());
    command.args(arguments).output().unwrap()
}

#[track_caller]
fn check(arguments: &[&str], code: i32, stderr: &[&str]) -> String {
    let output = overlay_ingest(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    for text in stderr {
        assert!(errors.contains(text), "{text:?} is not in {errors:?}");
    }
    assert_eq!(errors.is_empty(), stderr.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const CONFIG: &str = r#"{"teams": {"green": {"from": "20200810", "to": "20200811", "weight": 1},
    "pink": {"from": "20200812", "to": "20200924"}}, "unknown": 1}"#;

#[test]
fn generate_ingest_and_count() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("made");
    let config = folder.path().join("c.json");
    fs::write(&config, CONFIG).unwrap();
    let made = check(&["generate", text(&root), "--days", "3", "--sites", "20", "--seed", "5"], 0, &[]);
    assert!(made.starts_with("36 files, "), "{made}");
    check(&["generate", text(&root)], 1, &["error: ", "is not empty", "hint: "]);
    let lines = |day: &str| -> u64 {
        let files = fs::read_dir(root.join("data").join(day)).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap().lines().count() as u64).sum()
    };
    let days = ["20200810", "20200811", "20200812"].map(lines);

    let receipt = check(&[text(&root), "--config", text(&config), "--threads", "2"], 0, &[]);
    for piece in ["36   ", " ok + 0 rejected", "rows/s", "green", "pink", "20200812 to 20200924", "3 written"] {
        assert!(receipt.contains(piece), "{piece}: {receipt}");
    }
    assert!(root.join(".overlay/manifest.json").exists());

    let json = |more: &[&str]| -> Value {
        let mut arguments = vec![text(&root), "--config", text(&config), "--json"];
        arguments.extend(more);
        serde_json::from_str(&check(&arguments, 0, &[])).unwrap()
    };
    let all = json(&[]);
    let totals = &all["totals"];
    assert_eq!(totals["redone"], 0);
    assert_eq!((&totals["files"], &totals["partitions"]), (&36.into(), &3.into()));
    assert_eq!(totals["teams"]["green"], days[0] + days[1]);
    assert_eq!(totals["teams"]["pink"], days[2]);
    assert_eq!(all["files"].as_object().unwrap().len(), 36, "files of days that were up to date too");
    let pink = json(&["--team", "pink", "--force"]);
    assert_eq!((&pink["totals"]["rows_in"], &pink["totals"]["redone"]), (&days[2].into(), &1.into()));
    let first = json(&["--to", "20200810"]);
    assert_eq!((&first["totals"]["ok"], &first["totals"]["partitions"]), (&days[0].into(), &1.into()));
    assert_eq!(json(&["--from", "20200811", "--team", "green"])["totals"]["ok"], days[1]);
}

#[test]
fn rejects_are_counted_in_json_and_end_with_3() {
    let tree = Tree::empty();
    tree.write("20200810/20200810-01.csv", format!("{}bad\n", row("a")));
    tree.write("20200810/20200810-03.csv", b"\x1f\x8b");
    tree.write("20200810/notes.md", "");
    let root = tree.root();
    for _ in 0..2 {
        let answer: Value = serde_json::from_str(&check(&[text(&root), "--json"], 3, &[])).unwrap();
        let file = &answer["files"]["data/20200810/20200810-01.csv"];
        let expected = serde_json::json!(
            {"rows_in": 2, "ok": 1, "rejected": 1, "reasons": {"missing_fields": 1}, "refused": null});
        assert_eq!(*file, expected);
        assert_eq!(answer["files"]["data/20200810/20200810-03.csv"]["refused"], "gzip");
        assert_eq!(answer["ignored"], serde_json::json!(["data/20200810/notes.md"]));
        let totals = &answer["totals"];
        assert_eq!((&totals["refused"], &totals["ignored"], &totals["rejected"]), (&1.into(), &1.into(), &1.into()));
        assert_eq!(crate::tree::read_json_lines(Path::new(totals["rejects_file"].as_str().unwrap()))[0]["raw"], "bad");
    }
    let receipt = check(&[text(&root)], 3, &[]);
    for piece in ["missing_fields", "rejects-", "gzip", "data/20200810/notes.md", "1 ok + 1 rejected"] {
        assert!(receipt.contains(piece), "{piece}: {receipt}");
    }
    // A run of other days still says that the cache holds rejects.
    check(&[text(&root), "--from", "20210101"], 3, &[]);
    tree.write("20200810/20200810-01.csv", row("a"));
    fs::remove_file(root.join("data/20200810/20200810-03.csv")).unwrap();
    check(&[text(&root)], 0, &[]);
}

#[test]
fn refused_runs_end_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    check(&[text(&path("none"))], 1, &["error: the data set folder", "does not exist", "hint: "]);
    fs::write(path("file"), "").unwrap();
    check(&[text(&path("file"))], 1, &["is not a folder"]);
    fs::create_dir_all(path("bare")).unwrap();
    check(&[text(&path("bare"))], 1, &["has no data/ folder"]);
    fs::create_dir_all(path("bare/data/20200810")).unwrap();
    fs::write(path("bare/data/20200810/x.csv"), "").unwrap();
    check(&[text(&path("bare"))], 1, &["holds no CSV"]);
    assert!(!path("bare/.overlay").exists(), "a refused run leaves nothing behind");
    fs::create_dir_all(path("bare/.overlay")).unwrap();
    fs::write(path("bare/.overlay/manifest.json"), "{").unwrap();
    fs::write(path("bare/data/20200810/20200810-01.csv"), row("a")).unwrap();
    check(&[text(&path("bare"))], 1, &["manifest.json cannot be used", "--force"]);
    check(&[text(&path("bare")), "--force"], 0, &[]);
}

#[test]
fn usage_and_configuration_errors_end_with_2() {
    let tree = Tree::empty();
    tree.write("20200810/20200810-01.csv", row("a"));
    let root = tree.root();
    let config = tree.folder.path().join("c.json");
    fs::write(&config, CONFIG).unwrap();
    let with = |more: &[&str], expected: &str| {
        let mut arguments = vec![text(&root)];
        arguments.extend(more);
        check(&arguments, 2, &[expected]);
    };
    check(&[], 2, &["Usage"]);
    with(&["--no-such-flag"], "--no-such-flag");
    with(&["--from", "20200230"], "is not a date");
    with(&["--config", "/no/such/file"], "cannot read the configuration file");
    with(&["--team", "green"], "there is no team");
    with(&["--config", text(&config), "--team", "gren"], "known are: green, pink");
    with(&["--config", text(&config), "--team", "green", "--from", "20200812"], "no day is in the range");
    fs::write(&config, r#"{"teams": {"green": {"from": "2020-08-10", "to": "20200811"}}}"#).unwrap();
    with(&["--config", text(&config)], "caused by: \"2020-08-10\" is not a date");
}

#[test]
fn the_configured_cache_is_used_for_its_own_data_set_only() {
    let tree = Tree::empty();
    tree.write("20200810/20200810-01.csv", row("a"));
    let (root, config) = (tree.root(), tree.folder.path().join("c.json"));
    let write = |dataset: &Path| {
        let cache = tree.folder.path().join("elsewhere");
        let json = serde_json::json!({"dataset": {"root": dataset, "cache": cache}});
        fs::write(&config, json.to_string()).unwrap();
    };
    write(tree.folder.path());
    check(&[text(&root), "--config", text(&config)], 0, &[]);
    assert!(root.join(".overlay").exists() && !tree.folder.path().join("elsewhere").exists());
    write(&root);
    check(&[text(&root), "--config", text(&config)], 0, &[]);
    assert!(tree.folder.path().join("elsewhere/manifest.json").exists());
    check(&[text(&root), "--cache", text(&tree.folder.path().join("third"))], 0, &[]);
    assert!(tree.folder.path().join("third/manifest.json").exists());
}

#[test]
fn the_configuration_names_its_data_set_whatever_the_folder_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let (root, config) = (folder.path().join("some-folder"), folder.path().join("c.json"));
    check(&["generate", text(&root), "--days", "1", "--sites", "3"], 0, &[]);
    let name = |dataset: Value| {
        fs::write(&config, serde_json::json!({ "dataset": dataset }).to_string()).unwrap();
        check(&[text(&root), "--config", text(&config)], 0, &[]);
        overlay_ingest::Cache::open(root.join(".overlay")).unwrap().manifest().dataset.clone()
    };
    assert_eq!(
        name(serde_json::json!({ "name": "fire", "root": folder.path() })),
        "some-folder",
        "it is about another"
    );
    assert_eq!(name(serde_json::json!({ "name": "fire", "root": root })), "fire");
}
