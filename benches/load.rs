//! How fast does a node load a day from its Parquet file: checked, decoded, cut into zones, counted? Largest day of each
//! data set, one thread; rows a second.

use criterion::{BenchmarkId, Criterion, Throughput};
use overlay::engine::store::HeldPartition;
use overlay_ingest::Cache;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load from parquet");
    for data in super::data::all() {
        let cache = Cache::open(&data.cache).expect("it was made before");
        let entry = cache.manifest().partition(data.largest_day()).expect("the day is in it");
        group.throughput(Throughput::Elements(entry.rows));
        group.bench_function(BenchmarkId::new("decode", data.name), |bencher| {
            bencher.iter(|| cache.load(entry).expect("the file is whole"));
        });
        let partition = cache.load(entry).expect("the file is whole");
        group.bench_function(BenchmarkId::new("zone maps and counts", data.name), |bencher| {
            bencher.iter(|| HeldPartition::new(&partition));
        });
    }
    group.finish();
}
