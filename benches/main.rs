//! The benches: one question a module, its data set and unit in its first line. `cargo bench --profile dist`.
//!
//! Compare ratios within one run; what peers take for the same work is `benches/peers.py`'s question. The data are a
//! generated set, made anew; the real one as well, where it lies in `datasets/2020-fire`; and with OVERLAY_BENCH_LARGE=1
//! a generated one of about 30 million rows, because what fits into a cache tells little of what does not. That one is
//! kept in `target/`, takes about 6 GB and some minutes to make.

mod arrow_to_parquet;
mod csv_to_arrow;
mod data;
mod delivery;
mod load;
mod range_scan;
mod sql_group_by;
mod transport;
mod whole_cluster;

use criterion::{criterion_group, criterion_main};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion_group!(
    benches,
    csv_to_arrow::bench,
    arrow_to_parquet::bench,
    load::bench,
    range_scan::bench,
    sql_group_by::bench,
    delivery::bench,
    transport::bench,
    whole_cluster::bench
);
criterion_main!(benches);
