//! How fast do rows become chunks, and messages in each encoding, and rows again? Largest day of each data set, one
//! thread; rows a second, and bytes of the message a second.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use overlay::delivery::chunking;
use overlay::delivery::encoding::ENCODINGS;
use overlay::delivery::encoding::packed::{Packed, RowsByRun};
use overlay::delivery::result::{ChunkingParams, ResultBuffer};
use overlay::delivery::{Chunk, ChunkState};

pub fn bench(criterion: &mut Criterion) {
    for data in super::data::all() {
        let partition = data.partition();
        let rows = partition.stats.rows;
        let zones: Vec<_> = (0..partition.zone_count()).map(|zone| partition.zone(zone)).collect();
        let Some(zone) = zones.first() else { continue };

        let mut group = criterion.benchmark_group("chunking");
        group.throughput(Throughput::Elements(rows));
        for line in chunking::STRATEGIES {
            group.bench_function(BenchmarkId::new(line.name, data.name), |bencher| {
                bencher.iter(|| {
                    let params = ChunkingParams {
                        strategy: Arc::from((line.make)()),
                        estimate: rows,
                        limit: None,
                        base: 200,
                        chunk_rows_max: 65_536,
                    };
                    let mut result = ResultBuffer::new(partition.batch.schema(), params);
                    zones.iter().for_each(|zone| result.append(zone.clone()).expect("its schema"));
                    result.finish();
                    let mut index = 0;
                    while let ChunkState::Ready(_) = result.ask(index, Duration::from_micros(index)) {
                        index += 1;
                    }
                    index
                });
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group("encoding");
        let chunk = Chunk { index: 0, pieces: vec![zone.clone().into()], is_last: true };
        for line in ENCODINGS {
            let encoding = (line.make)();
            let (bytes, metas) = encoding.message(std::slice::from_ref(&chunk), &zone.schema()).expect("it is encoded");
            let bytes = bytes.joined();
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(BenchmarkId::new(format!("{} write", line.name), data.name), |bencher| {
                bencher.iter(|| encoding.message(std::slice::from_ref(&chunk), &zone.schema()).expect("it is encoded"));
            });
            group.bench_function(BenchmarkId::new(format!("{} read", line.name), data.name), |bencher| {
                bencher.iter(|| encoding.decode(&bytes, &metas, &zone.schema()).expect("it is decoded"));
            });
        }
        let bytes: bytes::Bytes = RowsByRun::of_batch(zone).pack().expect("it is packed").into();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("zone write", data.name), |bencher| {
            bencher.iter(|| RowsByRun::of_batch(zone).pack().expect("it is packed"));
        });
        group.bench_function(BenchmarkId::new("zone read", data.name), |bencher| {
            bencher.iter(|| {
                Packed::open(bytes.clone(), &zone.schema()).and_then(|block| block.to_batch()).expect("a block")
            });
        });
        group.finish();
    }
}
