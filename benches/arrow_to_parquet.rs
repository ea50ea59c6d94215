//! How fast does a whole data set become a durable Parquet cache, parsing included? Each data set, all cores, everything
//! synced; bytes of CSV a second.

use criterion::{BenchmarkId, Criterion, Throughput};
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::schema::Layout;
use overlay_ingest::{DateRange, progress};

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("csv to parquet");
    group.sample_size(10);
    for data in super::data::all() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let options = RunOptions {
            cache: folder.path().join("cache"),
            range: DateRange::ALL,
            layout: Layout::default(),
            force: true,
        };
        let bytes = data.dataset.dates(DateRange::ALL).map(|date| data.dataset.csv_bytes(date)).sum();
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(BenchmarkId::new("durable", data.name), |bencher| {
            bencher.iter(|| run(&data.dataset, &options, &progress::Silent).expect("it can be written"));
        });
    }
    group.finish();
}
