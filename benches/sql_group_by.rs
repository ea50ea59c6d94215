//! How long does SQL that groups take over the leaf, planning included? Each data set, one node in this process, all
//! cores; rows of the data set a second.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use overlay::engine::session::Ask;
use overlay::node::local::LocalOverlay;

const STATEMENTS: [(&str, &str); 3] = [
    ("by parameter", "SELECT parameter, count(*), avg(concentration) FROM observations GROUP BY parameter"),
    (
        "by site",
        "SELECT full_aqs_id, max(concentration) FROM observations WHERE parameter = 'PM2.5' GROUP BY full_aqs_id",
    ),
    ("by hour", "SELECT date_trunc('hour', utc), avg(aqi) FROM observations GROUP BY 1 ORDER BY 1"),
];

pub fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let mut group = criterion.benchmark_group("sql group by");
    group.sample_size(20);
    for data in super::data::all() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let local = LocalOverlay::open(&data.config(folder.path(), 0)).expect("the cache can be loaded");
        group.throughput(Throughput::Elements(data.rows()));
        for (name, sql) in STATEMENTS {
            let ask = Ask::Sql(sql.to_owned());
            group.bench_function(BenchmarkId::new(name, data.name), |bencher| {
                bencher.iter(|| {
                    let answered = local.answer(&ask, None, Duration::from_secs(60), |_, _| Ok(()));
                    runtime.block_on(answered).expect("it is answered")
                });
            });
        }
    }
    group.finish();
}
