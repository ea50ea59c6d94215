//! How fast does one thread turn a day of CSV into a partition? Generated data set; bytes of CSV a second.

use criterion::{Criterion, Throughput};
use overlay_ingest::schema::Layout;
use overlay_ingest::{Dataset, DateRange, parse_date};

pub fn bench(criterion: &mut Criterion) {
    let dataset = Dataset::open(super::dataset()).expect("the data set was just made");
    let date = dataset.dates(DateRange::ALL).next().expect("it has days");
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(dataset.csv_bytes(date)));
    group.bench_function("one day", |bencher| {
        bencher.iter(|| parse_date(&dataset, date, Layout::default()).expect("the data set has no fault"));
    });
    group.finish();
}
