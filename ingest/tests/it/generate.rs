//! What a generated data set is like, counted in its text, and where none is generated.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use overlay_ingest::Error;
use overlay_ingest::generate::{GenerateOptions, Generated, generate};

const OPTIONS: fn(u32, u32, u64) -> GenerateOptions =
    |days, sites, seed| GenerateOptions { days, sites, seed, ..GenerateOptions::default() };

/// Generates, and gives every row's 13 fields, file by file.
fn made(options: &GenerateOptions) -> (Generated, Vec<Vec<Vec<String>>>) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    let made = generate(&root, options).unwrap();
    assert_eq!(names(&root), ["data"], "nothing else is left");
    let mut files = Vec::new();
    for day in names(&root.join("data")) {
        for name in names(&root.join("data").join(&day)) {
            let text = fs::read_to_string(root.join("data").join(&day).join(name)).unwrap();
            let fields = |line: &str| line.trim_matches('"').split("\",\"").map(str::to_owned).collect::<Vec<_>>();
            files.push(text.lines().map(fields).collect());
        }
    }
    (made, files)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_size_has_all_parameters_and_keeps_its_form() {
    for (days, sites, seed) in [(1, 1, 1), (1, 2, 9), (2, 40, 3), (3, 250, 1)] {
        let (made, files) = made(&OPTIONS(days, sites, seed));
        let what = format!("{days} days, {sites} sites, seed {seed}");
        assert_eq!((made.files, files.len()), (u64::from(days) * 12, days as usize * 12), "{what}");
        assert_eq!(made.rows, files.iter().map(|file| file.len() as u64).sum::<u64>(), "{what}");
        let mut keys = BTreeSet::new();
        let mut parameters = BTreeSet::new();
        for file in &files {
            let longitude = |row: &Vec<String>| row[1].parse::<f64>().unwrap();
            assert!(file.is_sorted_by_key(longitude), "{what}: rows ascend by longitude");
            let mut sites: Vec<&String> = file.iter().map(|row| &row[12]).collect();
            sites.dedup();
            assert_eq!(sites.len(), sites.iter().collect::<BTreeSet<_>>().len(), "{what}: a site's rows are together");
            for row in file {
                assert_eq!(row.len(), 13, "{what}: {row:?}");
                assert!(keys.insert([&row[2], &row[3], &row[12]]), "{what}: {row:?} is there twice");
                parameters.insert(row[3].as_str());
            }
        }
        assert_eq!(parameters, BTreeSet::from(["CO", "NO2", "OZONE", "PM10", "PM2.5", "SO2"]), "{what}");
    }
}

/// Per thousand.
#[track_caller]
fn check_share(what: &str, part: usize, whole: usize, expected: std::ops::Range<usize>) {
    let share = part * 1000 / whole;
    assert!(expected.contains(&share), "{what}: {share} of 1000, expected {expected:?} ({part} of {whole})");
}

#[test]
fn values_are_as_skewed_and_as_dirty_as_those_of_2020() {
    let (_, files) = made(&OPTIONS(6, 700, 1));
    let rows: Vec<&Vec<String>> = files.iter().flatten().collect();
    let mut by_parameter: BTreeMap<&str, Vec<&Vec<String>>> = BTreeMap::new();
    rows.iter().for_each(|row| by_parameter.entry(&row[3]).or_default().push(row));
    // The shares of 2020 are 410, 286, 108, 84, 61 and 51.
    for (parameter, share) in
        [("OZONE", 360..460), ("PM2.5", 260..340), ("PM10", 80..130), ("NO2", 65..100), ("SO2", 40..75), ("CO", 35..65)]
    {
        check_share(parameter, by_parameter[parameter].len(), rows.len(), share);
    }
    let count = |parameter: &str, is: &dyn Fn(&Vec<String>) -> bool| {
        (by_parameter[parameter].iter().filter(|row| is(row)).count(), by_parameter[parameter].len())
    };
    let check = |what: &str, parameter: &str, expected, is: &dyn Fn(&Vec<String>) -> bool| {
        let (part, whole) = count(parameter, is);
        check_share(&format!("{parameter} {what}"), part, whole, expected);
    };
    let value = |row: &Vec<String>| row[4].parse::<f64>().unwrap();
    check("without concentration", "OZONE", 10..25, &|row| row[4] == "-999.0");
    check("without raw value", "OZONE", 12..26, &|row| row[6] == "-999.0");
    check("without both", "OZONE", 0..1, &|row| row[4] == "-999.0" && row[6] == "-999.0");
    check("without AQI", "CO", 1000..1001, &|row| row[7] == "-999" && row[8] == "-999");
    check("below zero", "SO2", 10..110, &|row| value(row) < 0.0);
    // In 2020 half of PM2.5 was below 8.6, a tenth above 36.5, and two of a hundred above 141.3.
    check("below 8.6", "PM2.5", 330..670, &|row| value(row) < 8.6);
    check("above 36.5", "PM2.5", 40..220, &|row| value(row) > 36.5);
    check("above 141.3", "PM2.5", 4..60, &|row| value(row) > 141.3);
    assert!(rows.iter().any(|row| row[3] == "PM2.5" && value(row) > 500.0), "outliers");
    assert!(rows.iter().any(|row| row[3] == "PM10" && row[6].parse::<f64>().unwrap() < 0.0), "negatives");
    check_share(
        "rows with a comma in a text",
        rows.iter().filter(|row| (row[9].clone() + &row[10]).contains(',')).count(),
        rows.len(),
        10..80,
    );
    check_share(
        "rows with a space at the end",
        rows.iter().filter(|row| row[10].ends_with(' ')).count(),
        rows.len(),
        5..70,
    );
    let sites: BTreeMap<&str, BTreeSet<&str>> = rows.iter().fold(BTreeMap::new(), |mut sites, row| {
        sites.entry(row[12].as_str()).or_default().insert(row[2].as_str());
        sites
    });
    assert!(sites.len() > 690, "{} sites", sites.len());
    let silent = sites.values().filter(|hours| hours.len() < files.len()).count();
    check_share("sites that miss an hour", silent, sites.len(), 100..600);
}

#[test]
fn the_seed_makes_the_data_set() {
    let [one, same, other] = [(4, 5), (4, 5), (4, 6)].map(|(sites, seed)| made(&OPTIONS(1, sites, seed)).1);
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn a_data_set_gets_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let options = OPTIONS(1, 2, 1);
    fs::create_dir_all(path("empty")).unwrap();
    generate(&path("empty"), &options).unwrap();
    for name in ["data", ".overlay", ".generating", "notes.txt"] {
        let dir = path(&format!("holds-{name}"));
        fs::create_dir_all(dir.join(name)).unwrap();
        let error = generate(&dir, &options).unwrap_err();
        assert!(matches!(&error, Error::NotEmpty(refused) if *refused == dir), "{error}");
        assert!(error.hint().is_some());
        assert_eq!(names(&dir), [name], "what is there stays as it is");
    }
    fs::write(path("file"), "mine").unwrap();
    assert!(matches!(generate(&path("file"), &options), Err(Error::NotAFolder(_))));
    assert_eq!(fs::read(path("file")).unwrap(), b"mine");
    for (days, sites) in [(0, 1), (1, 0), (3661, 1), (1, 20_001)] {
        let error = generate(&path("none"), &OPTIONS(days, sites, 1)).unwrap_err();
        assert!(error.to_string().contains("days must be 1 to 3660, sites 1 to 20000"), "{error}");
        assert!(!path("none").exists());
    }
}
