//! How fast does one thread turn a day of CSV into a partition? Largest day of each data set; bytes of CSV and rows a
//! second.

use criterion::{BenchmarkId, Criterion, Throughput};
use overlay_ingest::parse_date;
use overlay_ingest::schema::Layout;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("csv to arrow");
    for data in super::data::all() {
        let date = data.largest_day();
        let parse = || parse_date(&data.dataset, date, Layout::default()).expect("the files can be read");
        let rows = parse().partition.stats.rows;
        for (unit, throughput) in
            [("bytes", Throughput::Bytes(data.dataset.csv_bytes(date))), ("rows", Throughput::Elements(rows))]
        {
            group.throughput(throughput);
            group.bench_function(BenchmarkId::new(data.name, unit), |bencher| bencher.iter(parse));
        }
    }
    group.finish();
}
