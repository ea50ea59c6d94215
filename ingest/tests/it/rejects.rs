//! Files with bad rows, strange files, and files that are refused.

use std::fs;

use overlay_ingest::{Cache, DateRange, Refusal, parse_date};

use crate::tree::{LAYOUT, Tree, date, row};

const FILE: &str = "20200810/20200810-01.csv";

#[track_caller]
fn check(text: impl AsRef<[u8]>, ok: u64, expected: &[(u64, &str)]) -> Vec<serde_json::Value> {
    let tree = Tree::empty();
    tree.write(FILE, text);
    let outcome = tree.run();
    let source = &outcome.manifest.partitions[0].sources[0];
    let rejects = tree.rejects();
    let found: Vec<(u64, &str)> =
        rejects.iter().map(|reject| (reject["line"].as_u64().unwrap(), reject["reason"].as_str().unwrap())).collect();
    assert_eq!(found, expected);
    assert_eq!((source.ok, source.rejected, source.rows_in), (ok, found.len() as u64, ok + found.len() as u64));
    assert_eq!(source.reasons.values().sum::<u64>(), source.rejected);
    assert!(rejects.iter().all(|reject| reject["file"] == format!("data/{FILE}")));
    assert_eq!(outcome.manifest.holds_rejects(), !expected.is_empty());
    // An empty day too can be loaded again.
    let loaded = Cache::open(tree.cache()).unwrap().load(&outcome.manifest.partitions[0]).unwrap();
    assert_eq!(loaded.batch, parse_date(&tree.dataset(), date("20200810"), LAYOUT).unwrap().partition.batch);
    assert_eq!(loaded.stats.rows, ok);
    rejects
}

#[test]
fn accepted_forms() {
    let good = row("a");
    check("", 0, &[]);
    check("\u{feff}", 0, &[]);
    check("\n\r\n\n", 0, &[]);
    check(&good, 1, &[]);
    check(good.trim_end(), 1, &[]);
    check(format!("\u{feff}{}\r\n\r\n{}\r\n", good.trim_end(), row("b").trim_end()), 2, &[]);
    check(good.replace("\"41.7\"", "41.7").replace("\"PM2.5\"", "PM2.5"), 1, &[]);
    check(good.replace("Agency ", "The \"\"Agency\"\", no. 1"), 1, &[]);
}

#[test]
fn a_bad_row_costs_no_other_row() {
    let good = row("a");
    let lines = [
        row("a"),
        good.replace("\"PM2.5\"", "\"PM2.5"),
        "latitude,longitude\n".into(),
        good.replace("\"62\"", "\"62\",\"\""),
        "latitude,b,c,d,e,f,g,h,i,j,k,l,m\n".into(),
        good.replace("T01:00", "T25:00"),
        good.replace("08-10T", "08-11T"),
        good.replace("17.3", ""),
        good.replace("17.3", "inf"),
        good.replace("41.7", "-999"),
        row("a"),
        row("b"),
    ];
    let expected = [
        (2, "unterminated_quote"),
        (3, "missing_fields"),
        (4, "extra_fields"),
        (5, "header"),
        (6, "bad_timestamp"),
        (7, "wrong_day"),
        (8, "bad_number"),
        (9, "not_finite"),
        (10, "out_of_range"),
        (11, "duplicate"),
    ];
    let rejects = check(lines.concat(), 2, &expected);
    for reject in rejects {
        let line = &lines[reject["line"].as_u64().unwrap() as usize - 1];
        assert_eq!(reject["raw"].as_str().unwrap(), line.trim_end_matches('\n'));
    }
}

#[test]
fn bytes_that_are_no_text_are_kept_to_the_byte() {
    let mut text = row("a").into_bytes();
    text.extend_from_slice(row("b\0").as_bytes());
    text.extend_from_slice(b"caf\xe9,1\r\n");
    text.extend_from_slice(row(&"x".repeat((1 << 20) + 1)).as_bytes());
    let rejects = check(text, 1, &[(2, "nul_byte"), (3, "invalid_utf8"), (4, "field_too_long")]);
    assert_eq!(rejects[0]["raw"].as_str().unwrap(), row("b\0").trim_end());
    assert_eq!(rejects[1]["raw_hex"], "636166e92c31");
    assert_eq!(rejects[2]["raw"].as_str().unwrap().len(), row("").len() - 1 + 3 * ((1 << 20) + 1));
}

#[test]
fn equal_rows_in_two_files_are_both_kept_and_ties_follow_the_files() {
    let tree = Tree::empty();
    tree.write(FILE, row("a").replace("17.3", "1"));
    tree.write("20200810/20200810-03.csv", row("a").replace("17.3", "2"));
    let partition = parse_date(&tree.dataset(), date("20200810"), LAYOUT).unwrap().partition;
    let values: &arrow::array::Float64Array = partition.batch.column(4).as_any().downcast_ref().unwrap();
    assert_eq!(values.values().as_ref(), [1.0, 2.0]);
}

#[test]
fn minutes_of_one_file_are_brought_into_order() {
    let tree = Tree::empty();
    let at = |minute: &str, site: &str| row(site).replace("T01:00", &format!("T01:{minute}")).replace("17.3", minute);
    tree.write(FILE, [at("30", "b"), at("15", "b"), at("59", "a"), at("00", "b"), at("15", "a")].concat());
    let partition = parse_date(&tree.dataset(), date("20200810"), LAYOUT).unwrap().partition;
    let values: &arrow::array::Float64Array = partition.batch.column(4).as_any().downcast_ref().unwrap();
    assert_eq!(values.values().as_ref(), [15.0, 59.0, 0.0, 15.0, 30.0]);
}

#[test]
fn a_reject_of_a_day_that_is_left_alone_is_kept() {
    let tree = Tree::empty();
    tree.write(FILE, "bad\n");
    tree.write("20200811/20200811-01.csv", "worse\n");
    tree.run();
    tree.write(FILE, "bad again\nand again\n");
    let outcome = tree.run();
    assert_eq!(outcome.redone, [date("20200810")]);
    let raws: Vec<_> = tree.rejects().iter().map(|reject| reject["raw"].as_str().unwrap().to_owned()).collect();
    assert_eq!(raws, ["bad again", "and again", "worse"]);
    // Nothing changed, nothing lost.
    let before = tree.cache_files();
    assert!(!tree.run().committed);
    assert_eq!((tree.cache_files(), tree.rejects().len()), (before, 3));
    // Mended, so gone, with the file.
    tree.write(FILE, row("a"));
    tree.write("20200811/20200811-01.csv", "");
    assert!(!tree.run().manifest.holds_rejects());
    assert!(!tree.cache_files().iter().any(|name| name.starts_with("rejects")));
}

#[test]
fn strange_files_are_ignored_and_refused_by_name() {
    let tree = Tree::empty();
    tree.write(FILE, row("a"));
    tree.write("20200810/20200810-03.csv", b"\x1f\x8b\x08rest");
    for ignored in ["20200810/20200810-24.csv", "20200810/20200811-01.csv", "20200810/merged.csv", "notes.txt"] {
        tree.write(ignored, row("z"));
    }
    tree.write("20201301/20201301-01.csv", row("z"));
    tree.write("old/readme.txt", "");
    let dataset = tree.dataset();
    assert_eq!(
        dataset.ignored(),
        [
            "data/20200810/20200810-24.csv",
            "data/20200810/20200811-01.csv",
            "data/20200810/merged.csv",
            "data/notes.txt",
            "data/old/readme.txt"
        ]
    );
    let manifest = tree.run().manifest;
    let refused: Vec<_> = manifest.partitions[0].sources.iter().map(|source| source.refused).collect();
    assert_eq!(refused, [None, Some(Refusal::Gzip)]);
    assert_eq!(manifest.refused[0].path, "data/20201301/20201301-01.csv");
    assert_eq!(manifest.refused[0].refused, Some(Refusal::BadDirectoryName));
    assert_eq!(manifest.partitions[0].rows, 1);
    // What is refused is not forgotten by a run that has nothing to do.
    let again = tree.run();
    assert!(!again.committed && again.manifest.holds_rejects());
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_inside_and_refused_outside() {
    use std::os::unix::fs::symlink;
    let tree = Tree::empty();
    let inside = tree.root().join("store.csv");
    let outside = tree.folder.path().join("outside.csv");
    fs::write(&inside, row("a")).unwrap();
    fs::write(&outside, row("b")).unwrap();
    tree.write(FILE, "");
    let day = tree.root().join("data/20200810");
    symlink(&inside, day.join("20200810-03.csv")).unwrap();
    symlink(&outside, day.join("20200810-05.csv")).unwrap();
    symlink(tree.folder.path().join("nothing"), day.join("20200810-07.csv")).unwrap();
    symlink(tree.folder.path(), tree.root().join("data/20200812")).unwrap();
    symlink(tree.folder.path(), tree.root().join("data/strange")).unwrap();
    let manifest = tree.run().manifest;
    assert_eq!(manifest.partitions[0].rows, 1);
    let outside = Some(Refusal::SymlinkOutside);
    let refused: Vec<_> = manifest.partitions[0].sources.iter().map(|source| source.refused).collect();
    assert_eq!(refused, [None, None, outside, outside]);
    assert_eq!(manifest.partitions[1].sources[0].path, "data/20200812");
    assert_eq!((manifest.partitions[1].rows, manifest.partitions[1].sources[0].refused), (0, outside));
    assert_eq!((manifest.refused[0].path.as_str(), manifest.refused[0].refused), ("data/strange", outside));
    assert!(manifest.check_fresh(&tree.dataset(), DateRange::ALL).is_ok());
    // A link that now leads inside is read.
    fs::remove_file(day.join("20200810-05.csv")).unwrap();
    symlink(&inside, day.join("20200810-05.csv")).unwrap();
    assert_eq!(tree.run().manifest.partitions[0].rows, 2);
}
