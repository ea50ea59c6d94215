//! The benches: one question a module, its data set and unit in its first line. `cargo bench --profile dist`.
//!
//! All of them use the same generated data set, so that they run anywhere; compare ratios within one run.

mod parse;
mod range_scan;

use std::path::PathBuf;
use std::sync::OnceLock;

use criterion::{criterion_group, criterion_main};
use overlay_ingest::generate::{GenerateOptions, generate};

/// A generated data set of 4 days and 300 sites, made once per run.
fn dataset() -> &'static PathBuf {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, root) = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let root = folder.path().join("generated");
        let options = GenerateOptions { days: 4, sites: 300, seed: 1, ..GenerateOptions::default() };
        generate(&root, &options).expect("the data set can be written");
        (folder, root)
    });
    root
}

criterion_group!(benches, parse::bench, range_scan::bench);
criterion_main!(benches);
