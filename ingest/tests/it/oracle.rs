//! Generated text, ingested, against sums taken from the text with string operations alone.

use std::collections::BTreeMap;
use std::fs;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int8Type, Int16Type, Int32Type, TimestampSecondType};
use overlay_ingest::{Cache, DateRange, observations, parse_date};

use crate::tree::{LAYOUT, Tree, date};

/// Every row as 13 texts in one spelling, so that rows can be compared as a multiset.
fn rows_of_text(tree: &Tree, day: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(tree.root().join("data").join(day)).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let mut row: Vec<String> = line.trim_matches('"').split("\",\"").map(str::to_owned).collect();
            for index in [0, 1, 4, 6, 7, 8] {
                let number: f64 = row[index].parse().unwrap();
                row[index] = if index > 1 && number == -999.0 { "null".into() } else { number.to_string() };
            }
            rows.push(row);
        }
    }
    rows.sort();
    rows
}

fn rows_of_batch(batch: &RecordBatch) -> Vec<Vec<String>> {
    let text = |column: usize, row: usize| {
        let column = batch.column(column).as_dictionary::<Int32Type>();
        column.values().as_string::<i32>().value(column.keys().value(row) as usize).to_owned()
    };
    let number = |column: usize, row: usize| {
        let column = batch.column(column);
        match column.is_null(row) {
            true => "null".to_owned(),
            false => match column.data_type() {
                arrow::datatypes::DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
                arrow::datatypes::DataType::Int16 => column.as_primitive::<Int16Type>().value(row).to_string(),
                _ => column.as_primitive::<Int8Type>().value(row).to_string(),
            },
        }
    };
    let utc = |row: usize| {
        let seconds = batch.column(2).as_primitive::<TimestampSecondType>().value(row);
        let (year, month, day) = overlay_ingest::Date::of_unix_seconds(seconds).unwrap().ymd();
        let of_day = seconds.rem_euclid(86_400);
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}", of_day / 3600, of_day / 60 % 60)
    };
    (0..batch.num_rows())
        .map(|row| {
            (0..13)
                .map(|column| match column {
                    2 => utc(row),
                    0 | 1 | 4 | 6 | 7 | 8 => number(column, row),
                    _ => text(column, row),
                })
                .collect()
        })
        .collect()
}

#[test]
fn every_generated_row_comes_back_from_the_text_and_from_the_cache() {
    let tree = Tree::generated(3, 60);
    let outcome = tree.run();
    let cache = Cache::open(tree.cache()).unwrap();
    let dataset = tree.dataset();
    let mut nulls = [0; 13];
    assert_eq!(outcome.manifest.partitions.len(), 3);
    for entry in &outcome.manifest.partitions {
        let parsed = parse_date(&dataset, entry.id.date, LAYOUT).unwrap();
        let loaded = cache.load(entry).unwrap();
        // The same id, rows, order and dictionaries, with and without a cache.
        assert_eq!(parsed.partition.id, loaded.id);
        assert_eq!(parsed.partition.batch, loaded.batch);
        assert_eq!(parsed.partition.stats, loaded.stats);
        assert_eq!(loaded.batch.schema(), observations());
        for (column, nulls) in nulls.iter_mut().enumerate() {
            *nulls += loaded.batch.column(column).null_count();
        }

        let mut found = rows_of_batch(&loaded.batch);
        let key = |row: &Vec<String>| (row[3].clone(), row[12].clone(), row[2].clone());
        assert!(found.is_sorted_by_key(key), "rows are sorted by parameter, full_aqs_id, utc");
        found.sort();
        assert_eq!(found, rows_of_text(&tree, &entry.id.date.to_string()));

        // Zones are slices that together are the day.
        assert_eq!(loaded.zone_count(), found.len().div_ceil(64));
        let zones: Vec<RecordBatch> = (0..loaded.zone_count()).map(|index| loaded.zone(index)).collect();
        assert_eq!(zones.iter().map(RecordBatch::num_rows).sum::<usize>(), found.len());
        assert!(zones[..zones.len() - 1].iter().all(|zone| zone.num_rows() == 64));

        // Statistics, from the text.
        let rows = rows_of_text(&tree, &entry.id.date.to_string());
        let values: Vec<f64> = rows.iter().filter(|row| row[4] != "null").map(|row| row[4].parse().unwrap()).collect();
        let bounds = loaded.stats.concentration.unwrap();
        assert_eq!(bounds.min, values.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(bounds.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        let parameters: BTreeMap<&String, ()> = rows.iter().map(|row| (&row[3], ())).collect();
        assert_eq!(loaded.stats.parameters.unwrap().to_vec(), parameters.into_keys().cloned().collect::<Vec<_>>());
    }
    for column in [4, 6, 7, 8] {
        assert!(nulls[column] > 0, "the generator makes nulls in column {column}");
    }
    assert_eq!(nulls.iter().sum::<usize>(), nulls[4] + nulls[6] + nulls[7] + nulls[8]);
}

#[test]
fn the_generator_is_deterministic_and_covers_what_it_promises() {
    let trees = [Tree::generated(1, 80), Tree::generated(1, 80)];
    let texts = trees.each_ref().map(|tree| {
        let folder = tree.root().join("data/20200810");
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 12);
        names.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>()
    });
    assert_eq!(texts[0], texts[1]);
    for piece in ["\"-999.0\"", "\"-999\"", "\"N/A\"", " \",\"", ", ", "\"OZONE\"", "\"CO\"", "T23:00", "\"-0."] {
        assert!(texts[0].contains(piece), "{piece}");
    }
    assert!(overlay_ingest::generate::generate(&trees[0].root(), &Default::default()).is_err());
    assert_eq!(trees[0].dataset().dates(DateRange::ALL).collect::<Vec<_>>(), [date("20200810")]);
}
