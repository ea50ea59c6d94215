//! What a second run does, what a killed run leaves, and what a reader refuses.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use overlay_ingest::run::RunOptions;
use overlay_ingest::{Cache, DateRange, Error, Layout, identify_date, parse_date};

use crate::tree::{LAYOUT, Tree, date, range, row};

fn touch(path: &std::path::Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// The counts of every day are those of its rows.
fn check_counts(tree: &Tree, what: &str) {
    let cache = Cache::open(tree.cache()).unwrap();
    let counts = cache.counts().unwrap().expect("a generated day has few distinct values");
    for entry in &cache.manifest().partitions {
        let batch = cache.load(entry).unwrap().batch;
        let parameters = cast(batch.column_by_name("parameter").unwrap(), &DataType::Utf8).unwrap();
        let concentrations = batch.column_by_name("concentration").unwrap().as_primitive::<Float64Type>();
        let day = counts.day(&entry.id).unwrap_or_else(|| panic!("{what}: {} is not counted", entry.id));
        for (name, min, max) in [("OZONE", 5.0, 35.5), ("PM2.5", 0.0, 0.0), ("CO", -9.0, 9e9), ("PM2.5", 7.0, 3.0)] {
            let rows = parameters.as_string::<i32>().iter().zip(concentrations);
            let matches = rows.filter(|(p, c)| *p == Some(name) && c.is_some_and(|c| min <= c && c <= max));
            let expected = Some(matches.count() as u64);
            assert_eq!(day.rows(|parameter| parameter == name, min, max), expected, "{what}: {name} {min} {max}");
        }
    }
}

#[test]
fn counts_follow_the_days() {
    // Enough sites that values repeat; of fewer rows no counts are kept.
    let tree = Tree::generated(3, 400);
    tree.run();
    check_counts(&tree, "made");
    let file = tree.root().join("data/20200811/20200811-03.csv");
    fs::remove_file(file).unwrap();
    tree.run();
    check_counts(&tree, "one day changed, two kept");
    fs::remove_dir_all(tree.root().join("data/20200810")).unwrap();
    tree.run();
    check_counts(&tree, "one day gone");
    let names = tree.cache_files();
    assert_eq!(names.iter().filter(|name| name.starts_with("counts")).count(), 1, "{names:?}");
    let small = Tree::generated(1, 3);
    assert!(small.run().manifest.counts.is_none(), "few rows, each with a value of its own");
}

#[test]
fn damaged_counts_are_refused_by_name_and_made_again() {
    let tree = Tree::generated(2, 400);
    let manifest = tree.run().manifest;
    let path = tree.cache().join(&manifest.counts.expect("they are kept").file);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let refused = Cache::open(tree.cache()).unwrap().counts().unwrap_err();
    assert!(matches!(refused, Error::CorruptPartition { .. }), "{refused}");
    fs::remove_file(tree.root().join("data/20200810/20200810-01.csv")).unwrap();
    tree.run();
    let cache = Cache::open(tree.cache()).unwrap();
    let counts = cache.counts().unwrap().expect("the day that was read again has counts");
    let known: Vec<bool> = cache.manifest().partitions.iter().map(|entry| counts.day(&entry.id).is_some()).collect();
    assert_eq!(known, [true, false], "a day that was kept goes without, rather than with wrong ones");
}

#[test]
fn a_second_run_does_only_what_changed() {
    let tree = Tree::generated(3, 10);
    let data = tree.root().join("data");
    let first = tree.run();
    assert_eq!((first.redone.len(), first.committed), (3, true));
    assert_eq!(tree.cache_files().len(), 4);
    let manifest_file = tree.cache().join("manifest.json");
    let written = fs::metadata(&manifest_file).unwrap().modified().unwrap();
    let check = |what: &str, redone: &[&str], committed: bool| {
        let before = tree.dataset();
        let stale = Cache::open(tree.cache()).unwrap().manifest().check_fresh(&before, DateRange::ALL);
        assert_eq!(stale.is_err(), committed, "{what}: {stale:?}");
        let outcome = tree.run();
        let redone: Vec<_> = redone.iter().map(|text| date(text)).collect();
        assert_eq!((outcome.redone, outcome.committed), (redone, committed), "{what}");
        assert!(outcome.manifest.check_fresh(&tree.dataset(), DateRange::ALL).is_ok(), "{what}");
        assert_eq!(tree.cache_files().len(), outcome.manifest.partitions.len() + 1, "{what}: swept");
        assert_eq!(*Cache::open(tree.cache()).unwrap().manifest(), outcome.manifest, "{what}: reads back");
        outcome.manifest
    };
    check("nothing", &[], false);
    assert_eq!(fs::metadata(&manifest_file).unwrap().modified().unwrap(), written);
    touch(&data.join("20200811/20200811-01.csv"), 1_600_000_000);
    assert_eq!(
        check("only a time", &[], true).partition(date("20200811")).unwrap().id,
        first.manifest.partitions[1].id
    );
    let file = data.join("20200811/20200811-03.csv");
    let mut text = fs::read(&file).unwrap();
    let end = text.iter().position(|&b| b == b'\n').unwrap();
    fs::write(&file, text.split_off(end + 1)).unwrap();
    let changed = check("a changed file", &["20200811"], true);
    assert_ne!(changed.partitions[1].id, first.manifest.partitions[1].id);
    fs::write(data.join("20200812/20200812-02.csv"), "").unwrap();
    check("a new file", &["20200812"], true);
    fs::remove_file(data.join("20200812/20200812-02.csv")).unwrap();
    let again = check("a removed file", &["20200812"], true);
    assert_eq!(again.partitions[2].id, first.manifest.partitions[2].id, "the same files have the same id");
    fs::remove_dir_all(data.join("20200810")).unwrap();
    assert_eq!(check("a removed day", &[], true).partitions.len(), 2);
}

#[test]
fn a_lost_partition_file_is_made_again() {
    let tree = Tree::generated(2, 5);
    let first = tree.run();
    fs::remove_file(tree.cache().join(&first.manifest.partitions[1].file)).unwrap();
    let outcome = tree.run();
    assert_eq!((outcome.redone, outcome.manifest == first.manifest), (vec![date("20200811")], true));
    assert!(Cache::open(tree.cache()).unwrap().load(&first.manifest.partitions[1]).is_ok());
}

#[test]
fn a_limited_run_leaves_other_days_alone() {
    let tree = Tree::generated(4, 5);
    let limited = |from: &str, to: &str, force| RunOptions { range: range(from, to), force, ..tree.options() };
    let outcome = tree.try_run(&limited("20200811", "20200812", false)).unwrap();
    assert_eq!(outcome.redone, [date("20200811"), date("20200812")]);
    fs::remove_dir_all(tree.root().join("data/20200811")).unwrap();
    let outcome = tree.try_run(&limited("20200812", "20200813", true)).unwrap();
    assert_eq!(outcome.redone, [date("20200812"), date("20200813")], "--force redoes the range");
    let dates: Vec<String> = outcome.manifest.partitions.iter().map(|entry| entry.id.date.to_string()).collect();
    assert_eq!(dates, ["20200811", "20200812", "20200813"], "a day outside the range stays, though its folder is gone");
    let stale = |days| outcome.manifest.check_fresh(&tree.dataset(), days).map_err(|error| error.to_string());
    assert_eq!(stale(range("20200812", "20200813")), Ok(()));
    assert!(stale(range("20200810", "20200810")).unwrap_err().contains("data/20200810/20200810-01.csv is new"));
    assert!(stale(range("20200811", "20200811")).unwrap_err().contains("data/20200811/20200811-01.csv is gone"));
    assert_eq!(tree.try_run(&limited("19990101", "19990102", false)).unwrap().redone, []);
    // Another layout cannot share a manifest with days that keep theirs; a whole run simply starts over.
    let layout = Layout { zone_rows: 32 };
    let other = RunOptions { layout, ..limited("20200812", "20200812", false) };
    assert!(matches!(tree.try_run(&other), Err(Error::OtherLayout { .. })));
    let whole = tree.try_run(&RunOptions { layout, ..tree.options() }).unwrap();
    assert_eq!((whole.redone.len(), whole.manifest.partitions.len()), (3, 3));
    assert_ne!(whole.manifest.partitions[1].id, outcome.manifest.partitions[1].id);
}

#[test]
fn what_a_killed_run_left_behind_is_nobodys_loss() {
    let tree = Tree::generated(1, 5);
    let first = tree.run();
    let leftovers = [
        format!("{}.0123456789abcdef.parquet", first.manifest.partitions[0].id),
        format!("{}.0123456789abcdef.parquet.tmp", first.manifest.partitions[0].id),
        "rejects-0123456789abcdef.jsonl".to_owned(),
        ".manifest.json.X1y2Z3".to_owned(),
    ];
    for name in &leftovers {
        fs::write(tree.cache().join(name), "half").unwrap();
    }
    fs::write(tree.cache().join("mine.txt"), "the user's").unwrap();
    // Killed before the rename: the old cache is whole.
    let cache = Cache::open(tree.cache()).unwrap();
    assert_eq!(*cache.manifest(), first.manifest);
    assert!(cache.load(&first.manifest.partitions[0]).is_ok());
    assert!(!tree.run().committed);
    assert_eq!(tree.cache_files(), [first.manifest.partitions[0].file.as_str(), "manifest.json", "mine.txt"]);
}

#[test]
fn one_run_at_a_time() {
    let tree = Tree::generated(1, 5);
    tree.run();
    let lock = File::create(tree.cache().join("lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(tree.try_run(&tree.options()), Err(Error::CacheInUse(_))));
    drop(lock);
    tree.run();
}

#[test]
fn a_corrupt_partition_is_never_decoded() {
    let tree = Tree::generated(1, 5);
    let manifest = tree.run().manifest;
    let entry = &manifest.partitions[0];
    let path = tree.cache().join(&entry.file);
    let good = fs::read(&path).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        fs::write(&path, bytes).unwrap();
        let error = Cache::open(tree.cache()).unwrap().load(entry).unwrap_err();
        assert!(matches!(error, Error::CorruptPartition { .. }) && error.to_string().contains(expected), "{error}");
        assert!(error.hint().unwrap().contains("--force"));
    };
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..50 {
        let mut bytes = good.clone();
        let at = random.usize(0..bytes.len());
        bytes[at] ^= 1 << random.u8(0..8);
        check(&bytes, "digest");
    }
    check(&good[..good.len() - 1], "bytes");
    check(b"", "bytes");
    // Even bytes that have the digest of the manifest may be no Parquet, or not these rows.
    let mut forged = entry.clone();
    forged.rows += 1;
    fs::write(&path, &good).unwrap();
    assert!(matches!(Cache::open(tree.cache()).unwrap().load(&forged), Err(Error::CorruptPartition { .. })));
    fs::write(&path, b"PAR1PAR1PAR1").unwrap();
    forged.file_bytes = 12;
    forged.file_digest = blake3::hash(b"PAR1PAR1PAR1").to_hex().to_string();
    assert!(matches!(Cache::open(tree.cache()).unwrap().load(&forged), Err(Error::CorruptPartition { .. })));
}

#[test]
fn a_manifest_that_cannot_be_used_is_refused_by_name() {
    let tree = Tree::generated(1, 5);
    assert!(matches!(Cache::open(tree.cache()), Err(Error::NoCache(_))));
    tree.write("20200810/20200810-02.csv", "bad\n");
    let good = tree.run().manifest;
    let path = tree.cache().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let rejects = &good.rejects.as_ref().unwrap().file;
    for (from, to) in [
        ("{", ""),
        ("\"format_version\": 1", "\"format_version\": 99"),
        ("\"zone_rows\": 64", "\"zone_rows\": 0"),
        ("\"file\": \"2020", "\"file\": \"../2020"),
        ("\"offset\": 0", "\"offset\": 18446744073709551615"),
        (rejects.as_str(), "rejects-0000000000000000.jsonl"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = tree.try_run(&tree.options()).unwrap_err();
        assert!(matches!(error, Error::BadManifest { .. }), "{from}: {error}");
        assert!(error.hint().unwrap().contains("--force"));
        assert_eq!(tree.try_run(&RunOptions { force: true, ..tree.options() }).unwrap().manifest, good);
    }
}

#[test]
fn a_day_depends_on_its_files_and_on_nothing_else() {
    let one = Tree::empty();
    let two = Tree::empty();
    for (tree, order) in [(&one, ["01", "03"]), (&two, ["03", "01"])] {
        for hour in order {
            tree.write(&format!("20200810/20200810-{hour}.csv"), row(hour));
        }
    }
    touch(&two.root().join("data/20200810/20200810-01.csv"), 7);
    let [one, two] = [one, two].map(|tree| tree.run().manifest.partitions.remove(0));
    assert_eq!((one.id, &one.file), (two.id, &two.file));
}

#[test]
fn a_day_is_named_without_reading_its_rows() {
    let tree = Tree::generated(2, 8);
    tree.write("20200811/20200811-22.csv", b"\x1f\x8b not text");
    tree.write("20200812/20200812-01.csv", "");
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/hostname", tree.root().join("data/20200812/20200812-03.csv")).unwrap();
    for name in ["set", "other"] {
        let dataset = tree.dataset().named(name);
        for day in dataset.dates(DateRange::ALL) {
            let parsed = parse_date(&dataset, day, LAYOUT).unwrap().partition;
            assert_eq!(identify_date(&dataset, day, LAYOUT).unwrap(), (parsed.id, parsed.csv_bytes), "{name} {day}");
        }
    }
    let (day, other) = (date("20200810"), tree.dataset().named("other"));
    assert_ne!(identify_date(&other, day, LAYOUT).unwrap(), identify_date(&tree.dataset(), day, LAYOUT).unwrap());
}
