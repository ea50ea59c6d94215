//! How long does a query take over a Leader, a team leader and two workers in a line? Each data set, all nodes in this
//! process, over TCP; the time of a count and of one row, and rows of the answer a second.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use overlay::client::Client;
use overlay::engine::filter::RangeFilter;
use overlay::engine::session::Ask;
use overlay::leader::answer::QuerySpec;
use overlay::node::Node;

fn spec(ask: Ask) -> QuerySpec {
    QuerySpec { time_left: Some(Duration::from_secs(60)), cancel_on_disconnect: true, ..QuerySpec::of(ask) }
}

async fn ask(client: &Client, ask: Ask) -> u64 {
    let mut answer = client.open(spec(ask)).await.expect("the Leader takes it");
    let mut rows = 0;
    while let Some(batch) = answer.next().await {
        rows += batch.expect("it is answered").num_rows() as u64;
    }
    assert!(answer.footer().is_some(), "an answer has a footer");
    rows
}

async fn wait_until_ready(client: &Client) {
    for _ in 0..2_000 {
        if let Ok(status) = client.status(Duration::from_secs(5)).await
            && status.unheard.is_empty()
            && !status.partitions.is_empty()
            && status.partitions.iter().all(|partition| !partition.holders.is_empty())
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the nodes do not get ready");
}

pub fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let mut group = criterion.benchmark_group("whole cluster");
    group.sample_size(20);
    for data in super::data::all() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let config = data.config(folder.path(), 3);
        let nodes: Vec<Node> = runtime.block_on(async {
            let mut nodes = Vec::new();
            for id in config.processes.keys() {
                nodes.push(Node::start(config.clone(), id).await.expect("it starts"));
            }
            nodes
        });
        let leader = nodes.first().expect("A comes first").address();
        let client = runtime.block_on(async { Client::new(leader) });
        runtime.block_on(wait_until_ready(&client));

        let condition = "FROM observations WHERE parameter = 'PM2.5' AND concentration BETWEEN 5 AND 35";
        let sql = |text: String| Ask::Sql(text);
        for (name, text) in
            [("count", format!("SELECT count(*) {condition}")), ("one row", format!("SELECT * {condition} LIMIT 1"))]
        {
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(name, data.name), |bencher| {
                bencher.iter(|| runtime.block_on(ask(&client, sql(text.clone()))));
            });
        }
        let range = RangeFilter {
            parameter: Some("PM2.5".to_owned()),
            min: Some(5.0),
            max: Some(35.0),
            ..RangeFilter::default()
        };
        let rows = runtime.block_on(ask(&client, Ask::Range(range.clone())));
        group.throughput(Throughput::Elements(rows));
        group.bench_function(BenchmarkId::new("rows", data.name), |bencher| {
            bencher.iter(|| runtime.block_on(ask(&client, Ask::Range(range.clone()))));
        });
        runtime.block_on(async move { drop(nodes) });
    }
    group.finish();
}
