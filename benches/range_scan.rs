//! How long does a range query over memory take, from its text to its answer? Each data set, one node in this process, all
//! cores; rows of the data set a second, as a count and as rows, by index, by comparing and by DataFusion alone.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use overlay::engine::filter::RangeFilter;
use overlay::engine::message::ScanPath;
use overlay::engine::session::Ask;
use overlay::node::local::{LocalOverlay, Way};

pub fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let mut group = criterion.benchmark_group("range scan");
    let sql = "SELECT count(*) FROM observations WHERE parameter = 'PM2.5' AND concentration BETWEEN 5 AND 35";
    let count = Ask::Sql(sql.to_owned());
    let range =
        RangeFilter { parameter: Some("PM2.5".to_owned()), min: Some(5.0), max: Some(35.0), ..RangeFilter::default() };
    let rows = Ask::Range(range);
    for data in super::data::all() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let local = LocalOverlay::open(&data.config(folder.path(), 0)).expect("the cache can be loaded");
        let ask = |ask: &Ask, scan_path: ScanPath, plain_texts: bool| {
            let mut batches = Vec::new();
            let answered =
                local.answer_by(Way { scan_path, plain_texts }, ask, None, Duration::from_secs(60), |_, batch| {
                    batches.extend(batch);
                    Ok(())
                });
            runtime.block_on(answered).expect("it is answered");
            batches
        };
        group.throughput(Throughput::Elements(data.rows()));
        for (name, path) in
            [("index", ScanPath::Any), ("compare", ScanPath::NoIndex), ("datafusion", ScanPath::Reference)]
        {
            let id = BenchmarkId::new(format!("count by {name}"), data.name);
            group.bench_function(id, |bencher| bencher.iter(|| ask(&count, path, false)));
        }
        for (name, path) in [("compare", ScanPath::Any), ("datafusion", ScanPath::Reference)] {
            let id = BenchmarkId::new(format!("rows by {name}"), data.name);
            group.bench_function(id, |bencher| bencher.iter(|| ask(&rows, path, false)));
        }
        group.bench_function(BenchmarkId::new("rows in plain types", data.name), |bencher| {
            bencher.iter(|| ask(&rows, ScanPath::Any, true));
        });
    }
    group.finish();
}
