//! Every way to the rows gives the same rows: the short plan and the long one, counts kept beside the rows, plain
//! comparisons, and DataFusion's own evaluation, which is the reference.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use fastrand::Rng;
use futures::StreamExt;
use overlay::delivery::QueryId;
use overlay::engine::cold::count_in_cache;
use overlay::engine::coverage::{CoverageSink, LeafReport};
use overlay::engine::executor::InlinePool;
use overlay::engine::filter::RangeFilter;
use overlay::engine::hop::Hop;
use overlay::engine::message::{NodeInstance, ScanPath};
use overlay::engine::on_disk::PartitionOnDisk;
use overlay::engine::plan_cache::PLANS_MAX;
use overlay::engine::reader::{Overview, PinnedPartition, QueryContext};
use overlay::engine::session::{Ask, Engine};
use overlay::engine::stop::Stop;
use overlay::engine::store::{HeldPartition, Store};
use overlay::routing::assignment::{NodeView, Snapshot};
use overlay::routing::{Load, NodeId, Role, Topology, forwarding};
use overlay::transport::peer::PeerLinks;
use overlay_ingest::generate::{GenerateOptions, generate};
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::schema::Layout;
use overlay_ingest::{
    Cache, Dataset, DateRange, Partition, PartitionId, PartitionStats, observations, parse_date, progress,
};
use serde_json::Value;

const LAYOUT: Layout = Layout { zone_rows: 64 };
const HOUR: Duration = Duration::from_secs(3600);

/// One node that holds a small generated data set in zones of 64 rows.
pub(super) struct Alone {
    hop: Arc<Hop>,
    engine: Engine,
    partitions: Arc<Vec<PinnedPartition>>,
}

struct OnlyHere(Arc<Hop>);

impl Overview for OnlyHere {
    fn snapshot(&self) -> Snapshot {
        let view = NodeView {
            team: None,
            role: Role::Leader,
            holds: Arc::new(self.0.store.ids().into_iter().collect()),
            load: Load::default(),
            alive: true,
        };
        let nodes = BTreeMap::from([(self.0.me.clone(), view)]);
        Snapshot { reader: self.0.me.clone(), topology: Topology::default(), nodes }
    }

    fn last_holder(&self, _: &PartitionId) -> Option<(NodeId, Vec<NodeId>)> {
        None
    }
}

/// The partition with some concentrations replaced by values on which ways to compare could differ. With `many`, most
/// rows have one of their own, so that they are not kept as codes.
fn with_odd_values(partition: Partition, many: bool, random: &mut Rng) -> Partition {
    let schema = partition.batch.schema();
    let column = schema.index_of("concentration").expect("a column of observations");
    let before = partition.batch.column(column).as_primitive::<Float64Type>().clone();
    let after: Float64Array = (0..before.len())
        .map(|row| match random.u8(0..12) {
            0 => Some(0.0),
            1 => Some(-0.0),
            2 => None,
            3 => Some(f64::from_bits(0.3f64.to_bits() + 1)),
            _ if many => Some(f64::from(random.i32(-50_000..600_000)) / 10_000.0),
            _ => before.is_valid(row).then(|| before.value(row)),
        })
        .collect();
    let mut columns = partition.batch.columns().to_vec();
    columns[column] = Arc::new(after);
    let batch = RecordBatch::try_new(schema, columns).expect("the same types");
    Partition { stats: PartitionStats::of(&batch), batch, ..partition }
}

impl Alone {
    pub(super) fn new(seed: u64) -> Alone {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("generated");
        let options = GenerateOptions { days: 3, sites: 25, seed, ..GenerateOptions::default() };
        generate(&root, &options).expect("written");
        let dataset = Dataset::open(&root).expect("just written");
        let mut random = Rng::with_seed(seed);
        let store = Arc::new(Store::default());
        let mut partitions = Vec::new();
        for (day, date) in dataset.dates(DateRange::ALL).enumerate() {
            let parsed = parse_date(&dataset, date, LAYOUT).expect("no fault in it");
            let partition = with_odd_values(parsed.partition, day == 1, &mut random);
            partitions.push(PinnedPartition { id: partition.id, stats: Some(partition.stats.clone()) });
            store.insert(HeldPartition::new(&partition));
        }
        Alone::over(store, partitions)
    }

    /// A node over the data set as it is; of its three partitions the first so many are in memory, the others on disk.
    fn unchanged(dataset: &Dataset, cache: &Arc<Cache>, in_memory: usize) -> Alone {
        let store = Arc::new(Store::default());
        let mut partitions = Vec::new();
        for (day, date) in dataset.dates(DateRange::ALL).enumerate() {
            let partition = parse_date(dataset, date, LAYOUT).expect("no fault in it").partition;
            partitions.push(PinnedPartition { id: partition.id, stats: Some(partition.stats.clone()) });
            match PartitionOnDisk::new(cache, partition.id) {
                Some(file) if day >= in_memory => store.insert_on_disk(file),
                _ => store.insert(HeldPartition::new(&partition)),
            }
        }
        Alone::over(store, partitions)
    }

    fn over(store: Arc<Store>, partitions: Vec<PinnedPartition>) -> Alone {
        let engine = Engine::new(64 << 20, "observations", 2).expect("an engine");
        let hop = Arc::new(Hop {
            me: NodeId::from("alone"),
            store,
            remote: Arc::new(PeerLinks::default()),
            pool: Arc::new(InlinePool),
            clock: Arc::new(|| Duration::ZERO),
            work_clock: Arc::new(|| Duration::ZERO),
            schema: observations(),
            functions: engine.functions(),
        });
        Alone { hop, engine, partitions: Arc::new(partitions) }
    }

    /// The rows as text, sorted; or that it was refused.
    pub(super) async fn ask(&self, sql: &str, scan_path: ScanPath) -> Result<Vec<String>, String> {
        self.ask_reporting(sql, scan_path).await.map(|(rows, _)| rows)
    }

    /// The same with what its leaves report.
    pub(super) async fn ask_reporting(
        &self,
        sql: &str,
        scan_path: ScanPath,
    ) -> Result<(Vec<String>, Vec<LeafReport>), String> {
        let context = Arc::new(QueryContext {
            query: QueryId(1),
            team: None,
            client: 1,
            weight: 1,
            leader: NodeInstance { id: self.hop.me.clone(), incarnation: 1 },
            hop: Arc::clone(&self.hop),
            overview: Arc::new(OnlyHere(Arc::clone(&self.hop))),
            partitions: Arc::clone(&self.partitions),
            forwarding: Arc::from((forwarding::STRATEGIES[0].make)()),
            asynchronous: false,
            turn: 0,
            allow_partial: false,
            stop: Stop::default(),
            deadline: HOUR,
            sink: Arc::new(CoverageSink::default()),
            scan_path,
            plain_texts: false,
            meter: Arc::default(),
        });
        let plan = self.engine.plan(&context, &Ask::Sql(sql.to_owned()), None).await;
        let plan = plan.map_err(|error| error.to_string())?;
        let mut stream = plan.execute(false).map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|error| error.to_string())?.to_batch().map_err(|error| error.to_string())?;
            let options = FormatOptions::default().with_null("null");
            let columns: Vec<ArrayFormatter> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a printable type"))
                .collect();
            let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
            rows.extend((0..batch.num_rows()).map(row));
        }
        rows.sort();
        drop((stream, plan));
        Ok((rows, context.sink.leaves().into_values().collect()))
    }

    async fn check(&self, sql: &str, seed: u64) -> usize {
        let reference = self.ask(sql, ScanPath::Reference).await;
        for path in [ScanPath::Any, ScanPath::NoIndex] {
            let answer = self.ask(sql, path).await;
            match (&answer, &reference) {
                (Err(_), Err(_)) => {}
                _ => assert_eq!(answer, reference, "{path:?}, seed {seed}: {sql}"),
            }
        }
        reference.map_or(0, |rows| rows.len())
    }
}

/// One condition, now and then of a form that plain comparisons do not decide.
fn condition(random: &mut Rng) -> String {
    let number = |random: &mut Rng| match random.u8(0..6) {
        0 => "0".to_owned(),
        1 => "-0.0".to_owned(),
        2 => "0.30000000000000004".to_owned(),
        3 => random.i32(-5..60).to_string(),
        _ => format!("{:.1}", f64::from(random.i32(-50..600)) / 10.0),
    };
    let operator = ["=", "<", "<=", ">", ">=", "<>"][random.usize(..6)];
    let parameter = ["PM2.5", "OZONE", "NO2", "CO", "nothing"];
    match random.u8(0..14) {
        0 | 1 => format!("concentration BETWEEN {} AND {}", number(random), number(random)),
        2 | 3 => format!("concentration {operator} {}", number(random)),
        4 => format!("{} {operator} concentration", number(random)),
        5 | 6 => format!("parameter = '{}'", parameter[random.usize(..5)]),
        7 => format!("parameter IN ('{}', '{}')", parameter[random.usize(..5)], parameter[random.usize(..5)]),
        8 => format!(
            "(parameter = '{}' OR parameter = '{}')",
            parameter[random.usize(..5)],
            parameter[random.usize(..5)]
        ),
        9 => format!("parameter <> '{}'", parameter[random.usize(..5)]),
        10 => format!("aqi {operator} {}", random.i32(-2..120)),
        11 => format!("category {operator} {}", random.i32(0..4)),
        12 => format!("utc {operator} '2020-08-{:02}T{:02}:00:00'", random.u8(10..13), random.u8(0..24)),
        _ => [
            "concentration IS NULL",
            "concentration IS NOT NULL",
            "latitude > 30",
            "NOT (aqi > 40)",
            "length(unit) = 3",
        ][random.usize(..5)]
        .to_owned(),
    }
}

#[tokio::test]
async fn every_way_to_the_rows_gives_the_same_rows() {
    let (mut answers, mut rows) = (0, 0);
    for seed in 0..2 {
        let alone = Alone::new(seed);
        let mut random = Rng::with_seed(seed ^ 0x5eed);
        for _ in 0..60 {
            let sql = question(&mut random);
            rows += alone.check(&sql, seed).await;
            answers += 1;
        }
    }
    // Questions that match nothing would agree on anything.
    assert!(answers == 120 && rows > 10_000, "{answers} answers, {rows} rows");
}

#[tokio::test]
async fn a_plan_that_was_kept_reads_the_data_of_its_query() {
    let [mut one, mut other] = [3, 4].map(Alone::new);
    let statements = [
        "SELECT parameter, count(*), max(aqi) FROM observations GROUP BY parameter",
        "SELECT utc, concentration FROM observations WHERE concentration > (SELECT avg(concentration) FROM observations)",
        "SELECT o.utc FROM observations o JOIN observations p ON o.aqi = p.category WHERE p.concentration = 0.5",
        "SELECT count(*) FROM observations WHERE length(unit) = 3",
    ];
    let mut expected = Vec::new();
    for sql in statements {
        let answers = [one.ask(sql, ScanPath::Any).await, other.ask(sql, ScanPath::Any).await];
        assert!(answers[0].is_ok() && answers[0] != answers[1], "{sql}: {answers:?}");
        expected.push(answers);
    }
    // Each engine now plans for the other's data.
    std::mem::swap(&mut one.engine, &mut other.engine);
    for (sql, expected) in statements.into_iter().zip(expected) {
        let answers = [one.ask(sql, ScanPath::Any).await, other.ask(sql, ScanPath::Any).await];
        assert_eq!(answers, expected, "{sql}");
    }
    assert_eq!(one.engine.plan_figures().entries, statements.len() as u64);

    // The time of asking is never that of somebody else.
    let now = "SELECT now() FROM observations LIMIT 1";
    let first = one.ask(now, ScanPath::Any).await;
    assert!(first.is_ok() && first != one.ask(now, ScanPath::Any).await);
    for number in 0..300 {
        let sql = format!("SELECT max(aqi) + {number} FROM observations");
        one.ask(&sql, ScanPath::Any).await.expect("planned");
    }
    assert_eq!(one.engine.plan_figures().entries, PLANS_MAX as u64);
}

/// One question of any kind.
fn question(random: &mut Rng) -> String {
    const WANTED: [&str; 6] =
        ["count(*)", "COUNT(*)", "*", "utc, concentration", "concentration, parameter, utc", "max(aqi)"];
    let conditions: Vec<String> = (0..random.usize(0..4)).map(|_| condition(random)).collect();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("SELECT {} FROM observations{filter}", WANTED[random.usize(..WANTED.len())])
}

/// Three generated days with their cache.
struct Ingested {
    folder: tempfile::TempDir,
    dataset: Dataset,
    cache: Arc<Cache>,
}

impl Ingested {
    fn new(seed: u64) -> Ingested {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, cache) = (folder.path().join("generated"), folder.path().join("cache"));
        generate(&root, &GenerateOptions { days: 3, sites: 25, seed, ..GenerateOptions::default() }).expect("written");
        let dataset = Dataset::open(&root).expect("just written");
        let options = RunOptions { cache: cache.clone(), range: DateRange::ALL, layout: LAYOUT, force: false };
        run(&dataset, &options, &progress::Silent).expect("ingested");
        Ingested { folder, dataset, cache: Arc::new(Cache::open(&cache).expect("just made")) }
    }

    fn alone(&self, in_memory: usize) -> Alone {
        Alone::unchanged(&self.dataset, &self.cache, in_memory)
    }

    /// The file of the last day, and its name.
    fn last_file(&self) -> (PathBuf, &str) {
        let name = &self.cache.manifest().partitions[2].file;
        (self.folder.path().join("cache").join(name), name)
    }
}

#[tokio::test]
async fn partitions_that_lie_on_disk_give_the_same_rows() {
    let ingested = Ingested::new(9);
    let [in_memory, on_disk] = [3, 1].map(|days| ingested.alone(days));
    assert_eq!((in_memory.hop.store.ids_on_disk().len(), on_disk.hop.store.ids_on_disk().len()), (0, 2));
    assert_eq!(in_memory.hop.store.rows(), on_disk.hop.store.rows());

    let mut random = Rng::with_seed(9);
    let mut rows = 0;
    for _ in 0..40 {
        let sql = question(&mut random);
        for path in [ScanPath::Any, ScanPath::NoIndex, ScanPath::Reference] {
            let answer = on_disk.ask(&sql, path).await;
            assert_eq!(answer, in_memory.ask(&sql, path).await, "{path:?}: {sql}");
            rows += answer.map_or(0, |rows| rows.len());
        }
    }
    assert!(rows > 10_000, "{rows} rows");

    // A file that is gone, or not what it was, is an error that names it, never an answer without its rows: where it was
    // read before, and where it was not.
    let fresh = ingested.alone(1);
    let (path, name) = ingested.last_file();
    let healthy = std::fs::read(&path).expect("readable");
    let mut damaged = healthy.clone();
    damaged[4..healthy.len() / 2].iter_mut().for_each(|byte| *byte ^= 0x10);
    for bytes in [Some(damaged), Some(healthy[..99].to_vec()), None] {
        let how = bytes.as_ref().map(Vec::len);
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes).expect("written"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        for node in [&on_disk, &fresh] {
            let refused = node.ask("SELECT sum(latitude), max(concentration) FROM observations", ScanPath::Any).await;
            assert!(refused.as_ref().is_err_and(|why| why.contains(name)), "{how:?} bytes: {refused:?}");
        }
    }
}

#[tokio::test]
async fn of_days_on_disk_only_what_is_asked_for_is_read() {
    let ingested = Ingested::new(4);
    let on_disk = ingested.alone(0);
    let bytes = async |columns: &str, condition: &str| -> (usize, u64) {
        let sql = format!("SELECT {columns} FROM observations {condition}");
        let (rows, leaves) = on_disk.ask_reporting(&sql, ScanPath::Any).await.expect("answered");
        (rows.len(), leaves.iter().flat_map(|leaf| &leaf.work).map(|work| work.bytes_scanned).sum())
    };
    let (all_rows, everything) = bytes("*", "").await;
    let files: u64 = ingested.cache.manifest().partitions.iter().map(|entry| entry.file_bytes).sum();
    assert!(all_rows as u64 == on_disk.hop.store.rows() && everything < files, "{everything} of {files}");

    // What the bounds decide is not read at all; a number of rows is known.
    assert_eq!(bytes("count(*)", "").await.1, 0);
    assert_eq!(bytes("*", "WHERE parameter = 'XENON'").await, (0, 0));
    // A parameter's rows stand together: of most zones nothing is read, and of the others two columns.
    let (_, one_parameter) = bytes("count(*)", "WHERE parameter = 'PM2.5' AND concentration BETWEEN 5 AND 35").await;
    let (_, two_columns) = bytes("concentration, parameter", "").await;
    assert!(0 < one_parameter && one_parameter < two_columns, "{one_parameter} of {two_columns}");
    assert!(two_columns * 3 < everything, "{two_columns} of {everything}");
    // What no row meets is found out from the columns that are asked about.
    let between_two_values = "WHERE concentration > 5.12 AND concentration < 5.13";
    let (rows, for_rows) = bytes("*", between_two_values).await;
    assert_eq!((rows, for_rows), (0, bytes("count(*)", between_two_values).await.1));
    assert!(for_rows > 0, "no bounds rule that out");
    // A point is one zone of one day.
    let (rows, point) = bytes("*", "WHERE parameter = 'CO' AND utc = '2020-08-11T07:00:00' AND latitude > 0").await;
    assert!(rows > 0 && point * 3 < everything, "{rows} rows, {point} of {everything}");
    let figures = on_disk.hop.store.footers().figures();
    assert_eq!((figures.entries, figures.misses), (3, 3), "each file was read whole once: {figures:?}");
    assert!(figures.hits > figures.misses && figures.bytes > 0, "{figures:?}");
    for id in on_disk.hop.store.ids() {
        on_disk.hop.store.remove(&id);
    }
    let figures = on_disk.hop.store.footers().figures();
    assert_eq!((figures.entries, figures.bytes), (0, 0), "what is given up is forgotten: {figures:?}");
}

#[tokio::test]
async fn explain_names_the_way() {
    let alone = Alone::new(1);
    for (sql, path) in [
        ("SELECT count(*) FROM observations WHERE parameter = 'OZONE' AND concentration > 5", "path=index"),
        ("SELECT * FROM observations WHERE parameter = 'OZONE' AND concentration > 5", "path=comparisons"),
        ("SELECT count(*) FROM observations WHERE length(unit) = 3", "path=datafusion"),
    ] {
        let plan = alone.ask(&format!("EXPLAIN {sql}"), ScanPath::Any).await.expect("planned").join("\n");
        assert!(plan.contains(path), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn a_cache_is_counted_the_same_without_its_counts() {
    let ingested = Ingested::new(12);
    let alone = ingested.alone(3);
    let cache = ingested.folder.path().join("cache");
    let range = |parameter: Option<&str>, min, max| RangeFilter {
        parameter: parameter.map(str::to_owned),
        min,
        max,
        ..RangeFilter::default()
    };
    let cases = [
        (range(Some("pm2.5"), Some(5.0), Some(35.0)), "parameter = 'PM2.5' AND concentration BETWEEN 5 AND 35"),
        (range(Some("OZONE"), None, Some(20.0)), "parameter = 'OZONE' AND concentration <= 20"),
        (range(None, Some(8.1), None), "concentration >= 8.1"),
        (range(Some("NO2"), None, None), "parameter = 'NO2'"),
        (range(Some("XENON"), Some(0.0), None), "parameter = 'XENON' AND concentration >= 0"),
        (range(None, None, None), "true"),
    ];
    for has_counts in [true, false] {
        for (filter, condition) in &cases {
            let sql = format!("SELECT count(*) FROM observations WHERE {condition}");
            let expected = alone.ask(&sql, ScanPath::Reference).await.expect("answered");
            let counted = count_in_cache(&cache, filter).expect("counted");
            assert_eq!([counted.to_string()].as_slice(), expected, "{condition}, counts: {has_counts}");
        }
        let path = cache.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
        manifest.as_object_mut().expect("an object").remove("counts");
        std::fs::write(&path, manifest.to_string()).expect("written");
    }
}
