//! Exactly once, over random graphs with cycles, replicas and links that fail: each row of each partition is in the
//! answer once, or the reader says which partitions are missing, and then every way that the retry rules allow was
//! tried. No sockets, threads or clocks: one seed is one history.
//!
//! `OVERLAY_SEED=n` replays one seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use fastrand::Rng;
use futures::StreamExt;
use overlay::delivery::QueryId;
use overlay::engine::coverage::Outcome;
use overlay::engine::message::{NodeInstance, ScanMessage, ScanPath, ScanRequest};
use overlay::engine::reader::{ReadError, Reader};
use overlay::engine::scan::Output;
use overlay::engine::session::Engine;
use overlay::engine::stop::Stop;
use overlay::routing::assignment::{Tried, assign};
use overlay_ingest::PartitionId;

use crate::cluster::PATIENCE;
use crate::faults::{Fault, decoded};
use crate::world::{HOUR, Trouble, World, make};

const SEEDS: u64 = 600;

fn values(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn sorted(rows: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut rows: Vec<i64> = rows.into_iter().collect();
    rows.sort_unstable();
    rows
}

fn is_unique(sorted: &[i64]) -> bool {
    sorted.windows(2).all(|pair| pair[0] < pair[1])
}

/// What came of one seed, for the count at the end.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum End {
    Complete,
    Limited,
    Missing,
    Partial,
    Caught,
}

async fn check(seed: u64, engine: &Engine) -> End {
    let (world, _wires) = make(seed, engine, Trouble::ByChance);
    let mut random = Rng::with_seed(seed ^ 0x5eed);
    let all = sorted(world.rows.values().flatten().copied());
    let limit = (random.u8(0..4) == 0).then(|| random.u64(0..all.len() as u64 + 20));
    let allow_partial = random.u8(0..3) == 0;
    let context = world.context(allow_partial);
    let mut reader = Reader::new(Arc::clone(&context), world.leaf(limit));
    let (mut rows, mut error) = (Vec::new(), None);
    while let Some(batch) = reader.next().await {
        match batch {
            Ok(arrived) => rows.extend(values(&arrived.to_batch().expect("readable"))),
            Err(failed) => error = Some(failed),
        }
    }
    let rows = sorted(rows);
    assert!(is_unique(&rows), "a row came twice");
    let faults = world.seen.faults.lock().unwrap().clone();
    let strangers: Vec<&i64> = rows.iter().filter(|row| all.binary_search(row).is_err()).collect();
    assert!(strangers.is_empty(), "rows came that are none: {strangers:?}; limit {limit:?}, {faults:?}");
    match error {
        Some(ReadError::Missing(gaps)) => {
            assert!(!allow_partial, "a gap that is allowed is no error");
            gaps.iter().for_each(|(id, _)| world.check_exhausted(id, limit));
            End::Missing
        }
        Some(ReadError::Violation(violation)) => {
            assert!(faults.contains("duplicate"), "nothing was sent twice: {violation}");
            End::Caught
        }
        Some(error) => panic!("{error}"),
        None => {
            let leaves = context.sink.leaves();
            let outcomes = &leaves[&0].outcomes;
            assert_eq!(outcomes.len(), world.rows.len(), "every partition has its outcome");
            let missing: Vec<PartitionId> = outcomes
                .iter()
                .filter(|(_, outcome)| matches!(outcome, Outcome::Missing(_)))
                .map(|(id, _)| *id)
                .collect();
            let satisfied = limit.is_some_and(|limit| rows.len() as u64 >= limit);
            if missing.is_empty() {
                let wanted = limit.map_or(all.len(), |limit| all.len().min(limit as usize));
                assert_eq!(rows.len(), wanted, "complete, with {limit:?} of {}", all.len());
                return if satisfied { End::Limited } else { End::Complete };
            }
            assert!(allow_partial && !satisfied, "a gap was passed over");
            missing.iter().for_each(|id| world.check_exhausted(id, limit));
            let others = world.rows.iter().filter(|(id, _)| !missing.contains(id)).flat_map(|(_, rows)| rows);
            assert_eq!(rows, sorted(others.copied()), "exactly the rows of the partitions that are not missing");
            End::Partial
        }
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    let one: Option<u64> = std::env::var("OVERLAY_SEED").ok().map(|seed| seed.parse().expect("a number"));
    (0..SEEDS).filter(move |_| one.is_none()).chain(one)
}

fn engine() -> Engine {
    Engine::new(1 << 20, "rows", 1).expect("an engine")
}

/// Says which seed it was if what is done under it panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with OVERLAY_SEED={}", self.0);
        }
    }
}

#[tokio::test]
async fn every_row_comes_once_or_its_partition_is_named() {
    let engine = engine();
    let mut ends: BTreeMap<End, usize> = BTreeMap::new();
    for seed in seeds() {
        let _named = Named(seed);
        *ends.entry(check(seed, &engine).await).or_default() += 1;
    }
    // The seeds are worth something only if each kind of end is among them.
    let is_replay = std::env::var("OVERLAY_SEED").is_ok();
    assert!(is_replay || (ends.len() == 5 && ends.values().all(|count| *count >= 10)), "{ends:?}");
    println!("{ends:?}");
}

#[tokio::test]
async fn without_faults_every_answer_is_complete() {
    let engine = engine();
    for seed in seeds() {
        let _named = Named(seed);
        let (world, _wires) = make(seed, &engine, Trouble::ByChance);
        let faults = |world: &World| world.seen.faults.lock().unwrap().iter().any(|fault| *fault != "none");
        let mut reader = Reader::new(world.context(false), world.leaf(None));
        let (mut rows, mut failed) = (Vec::new(), false);
        while let Some(batch) = reader.next().await {
            match batch {
                Ok(arrived) => rows.extend(values(&arrived.to_batch().expect("readable"))),
                Err(_) => failed = true,
            }
        }
        if !faults(&world) && world.liars.is_empty() {
            assert!(!failed);
            assert_eq!(sorted(rows), sorted(world.rows.values().flatten().copied()));
        }
    }
}

/// A reader that only puts zones one after the other and asks again for what failed: what acceptance is there for.
async fn read_naively(world: &World) -> Vec<i64> {
    let mut rows = Vec::new();
    let mut wanted: Vec<PartitionId> = world.rows.keys().copied().collect();
    let mut tried = Tried::default();
    for attempt in 0..3 {
        let assignment = assign(&world.snapshot, &wanted, &*world.forwarding, true, 1, &tried);
        tried.record(&assignment.orders);
        let request = ScanRequest {
            query: QueryId(1),
            attempt,
            leaf: 0,
            team: None,
            client: 1,
            weight: 1,
            time_left: HOUR,
            hops: Vec::new(),
            leader: NodeInstance { id: world.reader.clone(), incarnation: 1 },
            orders: assignment.orders,
            zones: BTreeMap::new(),
            in_flight: 9,
            projection: vec![0],
            predicate: Vec::new(),
            limit: None,
            scan_path: ScanPath::Any,
        };
        let schema = world.hops[&world.reader].schema.project(&request.projection).expect("columns of the table");
        let schema = Arc::new(schema);
        let mut messages = world.hops[&world.reader].run(request, Stop::default(), Output::ForPeer);
        wanted.clear();
        while let Some(message) = messages.next().await {
            match message {
                ScanMessage::Zones(answers) => {
                    rows.extend(answers.iter().flat_map(|answer| decoded(answer, &schema)).flat_map(|b| values(&b)));
                }
                ScanMessage::Failed(failure) => wanted.extend(failure.partitions),
                ScanMessage::Done { .. } => {}
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    sorted(rows)
}

#[tokio::test]
async fn a_reader_without_acceptance_is_found_out() {
    let engine = engine();
    let (mut doubled, mut lost) = (0, 0);
    for seed in 0..SEEDS / 4 {
        let (world, _wires) = make(seed, &engine, Trouble::ByChance);
        let rows = read_naively(&world).await;
        let all = sorted(world.rows.values().flatten().copied());
        doubled += usize::from(!is_unique(&rows));
        lost += usize::from(all.iter().any(|row| rows.binary_search(row).is_err()));
    }
    assert!(doubled > 0 && lost > 0, "doubled {doubled}, lost {lost}");
}

/// Two replicas of everything, and one link cut in mid-stream that nobody needs: the answer is whole, row for row. The same
/// history read without acceptance is not.
#[tokio::test]
async fn one_cut_link_costs_no_row_where_there_are_two_replicas() {
    let engine = engine();
    let (mut cut, mut naively_wrong) = (0, 0);
    for seed in seeds() {
        let _named = Named(seed);
        let (world, _wires) = make(seed, &engine, Trouble::OneCut);
        let all = sorted(world.rows.values().flatten().copied());
        let mut reader = Reader::new(world.context(false), world.leaf(None));
        let mut rows = Vec::new();
        while let Some(batch) = reader.next().await {
            rows.extend(values(&batch.expect("nothing is lost").to_batch().expect("readable")));
        }
        assert_eq!(sorted(rows), all);
        cut += u64::from(world.was_cut());
        let (world, _wires) = make(seed, &engine, Trouble::OneCut);
        naively_wrong += u64::from(read_naively(&world).await != all);
    }
    println!("{cut} cut in mid-stream, {naively_wrong} wrong without acceptance");
    let is_replay = std::env::var("OVERLAY_SEED").is_ok();
    assert!(is_replay || (cut > SEEDS / 3 && naively_wrong > SEEDS / 10), "{cut} cut, {naively_wrong} wrong");
}

#[tokio::test]
async fn rows_that_are_damaged_each_time_are_not_asked_for_for_ever() {
    let engine = engine();
    let mut missing = 0;
    for seed in 0..60 {
        let _named = Named(seed);
        let (world, _wires) = make(seed, &engine, Trouble::Always(Fault::DamageAll));
        // The limit has each hop skip what comes after the rows that are damaged on their way.
        let mut reader = Reader::new(world.context(false), world.leaf(Some(5)));
        let end = async {
            while let Some(batch) = reader.next().await {
                missing += usize::from(matches!(batch, Err(ReadError::Missing(_))));
            }
        };
        tokio::time::timeout(PATIENCE, end).await.expect("it gives up");
    }
    assert!(missing > 0, "no seed lost anything");
}
