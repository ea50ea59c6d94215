//! The real data set against its published totals.

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type};
use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::{Cache, Dataset, DateRange, Layout, PartitionEntry};

use crate::tree::range;

#[test]
#[ignore = "needs the real data set in datasets/2020-fire"]
fn the_real_data_set_has_its_published_totals() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/2020-fire");
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(root).unwrap();
    let options =
        RunOptions { cache: folder.path().to_owned(), range: DateRange::ALL, layout: Layout::default(), force: false };
    let manifest = run(&dataset, &options, &Silent).unwrap().manifest;
    assert_eq!(manifest.partitions.len(), 43);
    let files = manifest.partitions.iter().map(|entry| entry.sources.len());
    assert_eq!(files.sum::<usize>(), 516);
    assert!(!manifest.holds_rejects());
    let rows = |days| manifest.partitions(days).map(|entry| entry.rows).sum::<u64>();
    assert_eq!(rows(DateRange::ALL), 1_167_525);
    assert_eq!(rows(range("20200810", "20200820")), 214_636);
    assert_eq!(rows(range("20200821", "20200924")), 952_889);

    // From the files, not from the manifest: PM2.5 from 5 to 35, and the mean over all of its values.
    let cache = Cache::open(folder.path()).unwrap();
    let batches: Vec<RecordBatch> = manifest.partitions.iter().map(|entry| load(&cache, entry)).collect();
    let values: Vec<f64> = batches.iter().flat_map(pm25).collect();
    assert_eq!(values.iter().filter(|&&value| (5.0..=35.0).contains(&value)).count(), 225_521);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    assert!((mean - 20.149064).abs() < 1e-6, "{mean}");
}

fn load(cache: &Cache, entry: &PartitionEntry) -> RecordBatch {
    cache.load(entry).unwrap().batch
}

fn pm25(batch: &RecordBatch) -> Vec<f64> {
    let parameter = batch.column_by_name("parameter").unwrap().as_dictionary::<Int32Type>();
    let names = parameter.values().as_string::<i32>();
    let concentration = batch.column_by_name("concentration").unwrap().as_primitive::<Float64Type>();
    let rows = parameter.keys().iter().zip(concentration);
    rows.filter(|(key, _)| names.value(key.unwrap() as usize) == "PM2.5").filter_map(|(_, value)| value).collect()
}
