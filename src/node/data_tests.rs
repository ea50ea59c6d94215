use std::fs;
use std::path::{Path, PathBuf};

use overlay_ingest::generate::{GenerateOptions, generate};
use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};

use super::super::loading::{fill, memory_bytes};
use super::*;
use crate::engine::store::Store;

fn generated(folder: &Path, name: &str) -> PathBuf {
    let root = folder.join(name);
    generate(&root, &GenerateOptions { days: 4, sites: 5, ..GenerateOptions::default() }).unwrap();
    root
}

fn config(root: &Path, cache: &Path) -> DatasetConfig {
    DatasetConfig { name: "set".into(), root: root.to_owned(), cache: cache.to_owned(), table: "t".into() }
}

fn ingest(root: &Path, cache: &Path, range: DateRange) {
    let options = RunOptions { cache: cache.to_owned(), range, layout: Layout::default(), force: false };
    run(&Dataset::open(root).unwrap().named("set"), &options, &Silent).unwrap();
}

fn range(from: &str, to: &str) -> DateRange {
    DateRange { from: from.parse().unwrap(), to: to.parse().unwrap() }
}

#[test]
fn names_and_rows_are_the_same_wherever_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (generated(folder.path(), "here"), generated(folder.path(), "there"));
    let (cache, none) = (folder.path().join("cache"), folder.path().join("none"));
    ingest(&here, &cache, DateRange::ALL);
    let rows = |root: &Path, cache: &Path, expected: DataSource| {
        let config = config(root, cache);
        let data = LocalData::open(&config, DateRange::ALL).unwrap();
        assert_eq!(data.source(), expected);
        let look = LocalDates::look(&config, DateRange::ALL).unwrap();
        assert_eq!(look.source, expected);
        assert_eq!(look.dates, data.known().iter().map(|known| known.id.date).collect::<Vec<_>>());
        let load = |known: &KnownPartition| {
            let partition = data.load(&known.id).unwrap().unwrap();
            let stats = partition.stats;
            assert!(known.stats.as_ref().is_none_or(|known| *known == stats));
            (known.id, known.csv_bytes, data.csv_files(&[known.id]), partition.batch, stats)
        };
        let loaded: Vec<_> = data.known().iter().map(load).collect();
        let counted: u64 = loaded.iter().map(|(.., stats)| stats.rows).sum();
        assert!(look.rows.is_none_or(|rows| rows == counted));
        // An estimate errs to the safe side, and not by much.
        let sure = memory_bytes(Some(counted), 0);
        assert!((sure..2 * sure).contains(&look.memory_bytes), "{} for {sure}", look.memory_bytes);
        loaded
    };
    let cached = rows(&here, &cache, DataSource::Cache);
    assert_eq!(cached.len(), 4);
    assert_eq!(rows(&here, &none, DataSource::Csv), cached);
    assert_eq!(rows(&there, &none, DataSource::Csv), cached, "a folder of another name");
    assert_eq!(rows(&folder.path().join("nowhere"), &cache, DataSource::CacheAlone), cached);
}

#[test]
fn days_that_the_cache_lacks_are_parsed_and_days_that_differ_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (root, cache) = (generated(folder.path(), "root"), folder.path().join("cache"));
    ingest(&root, &cache, range("20200810", "20200811"));
    let config = config(&root, &cache);
    let source = |range| LocalData::open(&config, range).map(|data| data.source()).map_err(|error| error.to_string());
    assert_eq!(source(range("20200810", "20200811")), Ok(DataSource::Cache));
    assert_eq!(source(range("20200812", "20200813")), Ok(DataSource::Csv));
    // A day beside others that are in the cache is news to the cache.
    assert!(source(range("20200811", "20200812")).unwrap_err().contains("20200812-01.csv is new"));
    fs::remove_dir_all(root.join("data/20200810")).unwrap();
    assert!(source(range("20200810", "20200811")).unwrap_err().contains("20200810-01.csv is gone"));
    assert_eq!(source(range("20200810", "20200810")), Ok(DataSource::CacheAlone));
    assert_eq!(LocalData::open(&config, range("20210101", "20210102")).unwrap().known().as_slice(), []);
    assert!(source(range("20200812", "20200813")).is_ok());
    let none = DatasetConfig { root: folder.path().join("none"), cache: folder.path().join("none"), ..config };
    assert!(matches!(LocalData::open(&none, DateRange::ALL), Err(Error::NoSuchFolder(_))));
    assert!(matches!(LocalDates::look(&none, DateRange::ALL), Err(Error::NoSuchFolder(_))));
}

#[test]
fn files_that_change_after_they_were_listed_are_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let root = generated(folder.path(), "root");
    let data = LocalData::open(&config(&root, &folder.path().join("none")), DateRange::ALL).unwrap();
    let ids: Vec<PartitionId> = data.known().iter().map(|known| known.id).collect();
    let file = root.join("data/20200811/20200811-03.csv");
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    assert!(data.load(&ids[0]).unwrap().is_some());
    assert!(matches!(data.load(&ids[1]), Err(Error::FilesChanged { date }) if date == ids[1].date));
    let strange = PartitionId { digest: 0, ..ids[0] };
    assert!(data.load(&strange).unwrap().is_none());
}

#[test]
fn what_does_not_fit_into_memory_stays_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = generated(folder.path(), "set");
    let (cache, none) = (folder.path().join("cache"), folder.path().join("none"));
    ingest(&root, &cache, DateRange::ALL);
    let ids = |data: &LocalData| data.known().iter().map(|known| known.id).collect::<Vec<_>>();
    let cached = LocalData::open(&config(&root, &cache), DateRange::ALL).unwrap();
    let csv = LocalData::open(&config(&root, &none), DateRange::ALL).unwrap();
    let check = |data: &LocalData, bytes_max: u64, expected_on_disk: std::ops::RangeInclusive<usize>| -> u64 {
        let store = Store::default();
        fill(&store, &data.view(), &ids(data), bytes_max).unwrap();
        assert!(
            expected_on_disk.contains(&store.ids_on_disk().len()),
            "{} for {bytes_max} bytes",
            store.ids_on_disk().len()
        );
        assert_eq!(store.ids(), ids(data));
        assert_eq!(store.rows(), cached.known().iter().map(|known| known.stats.as_ref().unwrap().rows).sum::<u64>());
        assert!(store.memory_bytes() <= bytes_max || data.source() == DataSource::Csv);
        store.memory_bytes()
    };
    let all = check(&cached, u64::MAX, 0..=0);
    check(&cached, all, 0..=0);
    // Which ones depends on who came first; one less, unless one at a time fills what another left.
    check(&cached, all - 1, 1..=3);
    check(&cached, all / 2, 2..=3);
    check(&cached, 0, 4..=4);
    // Without files there is nowhere else to read from: the node refuses beforehand.
    check(&csv, 0, 0..=0);
}
