//! The data sets that the benches read.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use overlay::config::Config;
use overlay_ingest::generate::{GenerateOptions, generate};
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::schema::Layout;
use overlay_ingest::{Cache, Dataset, Date, DateRange, Partition, progress};
use serde_json::json;

/// A data set with its Parquet cache.
pub struct Data {
    pub name: &'static str,
    pub root: PathBuf,
    pub cache: PathBuf,
    pub dataset: Dataset,
}

impl Data {
    fn open(name: &'static str, root: PathBuf, cache: PathBuf) -> Data {
        let dataset = Dataset::open(&root).expect("a data set");
        let options =
            RunOptions { cache: cache.clone(), range: DateRange::ALL, layout: Layout::default(), force: false };
        run(&dataset, &options, &progress::Silent).expect("it can be ingested");
        Data { name, root, cache, dataset }
    }

    /// The day with the most bytes.
    pub fn largest_day(&self) -> Date {
        let dates = self.dataset.dates(DateRange::ALL);
        dates.max_by_key(|date| self.dataset.csv_bytes(*date)).expect("a data set has a day")
    }

    /// That day in memory.
    pub fn partition(&self) -> Partition {
        let cache = Cache::open(&self.cache).expect("it was just made");
        let entry = cache.manifest().partition(self.largest_day()).expect("the day is in it");
        cache.load(entry).expect("the file is whole")
    }

    /// Rows over all days.
    pub fn rows(&self) -> u64 {
        let cache = Cache::open(&self.cache).expect("it was just made");
        cache.manifest().partitions.iter().map(|entry| entry.rows).sum()
    }

    /// One Leader that holds everything, or with `workers` a Leader, two team leaders and as many workers in a line.
    pub fn config(&self, state_dir: &Path, workers: usize) -> Arc<Config> {
        let dates: Vec<Date> = self.dataset.dates(DateRange::ALL).collect();
        let (first, last) = (dates[0].to_string(), dates[dates.len() - 1].to_string());
        let mut ids = vec!["A".to_owned()];
        ids.extend((1..=workers).map(|number| format!("W{number}")));
        let processes = ids.iter().enumerate().map(|(place, id)| {
            let neighbors: Vec<&String> =
                [place.checked_sub(1), Some(place + 1)].into_iter().flatten().filter_map(|n| ids.get(n)).collect();
            let role = ["leader", "team_leader", "worker"][place.min(2)];
            let mut process = json!({ "id": id, "role": role, "team": "all", "host": "127.0.0.1", "port": 0,
                "neighbors": neighbors });
            if place == 0 && workers == 0 {
                process["holds_data"] = json!(true);
            }
            (id.clone(), process)
        });
        let config = json!({
            "dataset": { "name": self.dataset.name, "root": self.root, "cache": self.cache },
            "teams": { "all": { "from": first, "to": last, "weight": 1 } },
            "strategies": { "forwarding_strategy": "parallel", "async_forwarding": true, "chunking_strategy": "adaptive" },
            "limits": { "data_bytes_max": "16GiB", "result_bytes_max": "4GiB" },
            "state_dir": state_dir,
            "processes": processes.collect::<serde_json::Map<_, _>>(),
        });
        Arc::new(Config::parse(config.to_string(), "the bench").expect("a sound configuration"))
    }
}

/// All data sets of this run.
pub fn all() -> &'static [Data] {
    static ALL: OnceLock<(tempfile::TempDir, Vec<Data>)> = OnceLock::new();
    let (_, all) = ALL.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let small = made(folder.path().join("generated"), 4, 300);
        let mut all = vec![Data::open("generated", small, folder.path().join("generated-cache"))];
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let real = here.join("datasets/2020-fire");
        if real.is_dir() {
            all.push(Data::open("2020-fire", real, folder.path().join("real-cache")));
        }
        if std::env::var_os("OVERLAY_BENCH_LARGE").is_some() {
            // 120 days, 13,500 sites, 12 hours of each day, some parameters a site: about 30 million rows.
            let large = made(here.join("target/bench-large/generated"), 120, 13_500);
            all.push(Data::open("large", large, here.join("target/bench-large/cache")));
        }
        (folder, all)
    });
    all
}

fn made(root: PathBuf, days: u32, sites: u32) -> PathBuf {
    if !root.is_dir() {
        let options = GenerateOptions { days, sites, seed: 1, ..GenerateOptions::default() };
        generate(&root, &options).expect("the data set can be written");
    }
    root
}
