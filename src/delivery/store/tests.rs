use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::delivery::chunking;
use crate::delivery::spool::{Payload, SpoolFile};

const ROOMY: StoreLimits =
    StoreLimits { bytes_max: 1 << 30, ttl: Duration::from_secs(300), idle: Duration::from_secs(30) };

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Rows that take about as much on disk as in memory: the numbers lie far apart.
fn rows(count: i64) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let numbers = Int64Array::from_iter_values((0..count).map(|n| n.wrapping_mul(0x1e37_79b9_7f4a_7c15)));
    RecordBatch::try_new(schema, vec![Arc::new(numbers)]).expect("one column")
}

fn cost(count: i64) -> u64 {
    crate::delivery::rows::Rows::default().cost(&rows(count).into())
}

fn params() -> ChunkingParams {
    let strategy = chunking::by_name("fixed").expect("in the table").into();
    ChunkingParams { strategy, estimate: 0, limit: None, base: 10, chunk_rows_max: 10 }
}

fn open(store: &mut ResultStore, id: u128, now: Duration) -> Result<(), StoreError> {
    store.open(QueryId(id), rows(0).schema(), params(), now)
}

/// A store with room for `results` results of 100 rows each, and nothing more.
fn store_for(results: u64) -> ResultStore {
    ResultStore::new(StoreLimits { bytes_max: results * (RESULT_BYTES + cost(100)), ..ROOMY })
}

fn fill(store: &mut ResultStore, id: u128, now: Duration) -> Result<(), StoreError> {
    open(store, id, now)?;
    store.append(QueryId(id), rows(100))
}

fn gone(store: &mut ResultStore, id: u128) -> Option<Gone> {
    store.get(QueryId(id)).err()
}

#[test]
fn finished_results_make_room_acknowledged_first_then_unread_then_half_read() {
    let mut store = store_for(4);
    for id in 0..4 {
        fill(&mut store, id, s(0)).expect("there is room");
        if id < 2 {
            store.finish(QueryId(id), s(1));
        }
    }
    // 0 is being read, 1 is acknowledged to the end and was read later, 2 was finished last and never read, 3 runs.
    store.finish(QueryId(2), s(6));
    store.ask(QueryId(0), 0, s(5));
    store.ask(QueryId(1), 9, s(6));
    store.acknowledge_through(QueryId(1), 9, s(6));
    let acknowledged = store.counters().bytes;
    assert_eq!(acknowledged, 4 * RESULT_BYTES + 3 * cost(100));

    fill(&mut store, 4, s(7)).expect("1 makes room");
    assert_eq!((gone(&mut store, 1), gone(&mut store, 2)), (Some(Gone::Evicted), None));
    fill(&mut store, 5, s(7)).expect("2 makes room");
    assert_eq!((gone(&mut store, 2), gone(&mut store, 0)), (Some(Gone::Evicted), None));
    fill(&mut store, 6, s(7)).expect("0 makes room");
    assert_eq!(store.ask(QueryId(0), 0, s(8)), ChunkState::Gone(Gone::Evicted));

    let refused = open(&mut store, 7, s(8)).expect_err("all run");
    assert!(matches!(refused, StoreError::OverBudget { needed_bytes: RESULT_BYTES, .. }), "{refused}");
    assert_eq!(store.counters().evictions, 3);
    assert_eq!(store.counters().bytes_peak, store.limits.bytes_max);
}

#[test]
fn nobody_is_evicted_in_vain() {
    let mut store = store_for(2);
    fill(&mut store, 0, s(0)).expect("there is room");
    store.finish(QueryId(0), s(0));
    open(&mut store, 1, s(0)).expect("there is room");
    assert_eq!(store.append(QueryId(1), rows(100)), Ok(()));
    let refused = store.append(QueryId(1), rows(400)).expect_err("more than the store can hold");
    assert!(matches!(refused, StoreError::OverBudget { .. }));
    assert_eq!(gone(&mut store, 0), None);
    assert!(store.fail(QueryId(1), "result too large", s(1)));
    assert_eq!(store.ask(QueryId(1), 0, s(1)), ChunkState::Failed("result too large".into()));
    assert_eq!(store.counters().bytes, 2 * RESULT_BYTES + cost(100));
}

#[test]
fn a_read_result_lives_for_its_ttl_after_the_last_read() {
    let mut store = ResultStore::new(ROOMY);
    fill(&mut store, 0, s(0)).expect("there is room");
    store.finish(QueryId(0), s(10));
    store.ask(QueryId(0), 0, s(20));
    store.ask(QueryId(0), 99, s(100));
    assert_eq!(store.expire(s(319)), []);
    store.ask(QueryId(0), 0, s(319));
    assert_eq!(store.expire(s(618)), []);
    assert_eq!(store.expire(s(619)), [(QueryId(0), Why::Ttl)]);
    assert_eq!(store.ask(QueryId(0), 0, s(620)), ChunkState::Gone(Gone::Expired));
    assert_eq!(store.counters().bytes, 0);
}

#[test]
fn what_nobody_attends_is_abandoned() {
    let mut store = ResultStore::new(ROOMY);
    for id in 0..4 {
        fill(&mut store, id, s(0)).expect("there is room");
    }
    store.finish(QueryId(1), s(10));
    assert!(store.touch(QueryId(2), s(20)));
    store.fail(QueryId(3), "broken", s(10));
    assert_eq!(store.expire(s(29)), []);
    assert_eq!(store.expire(s(30)), [(QueryId(0), Why::Idle)]);
    assert_eq!(store.expire(s(40)), [(QueryId(1), Why::Idle)]);
    assert_eq!(store.expire(s(60)), [(QueryId(2), Why::Idle)]);
    assert_eq!(store.append(QueryId(2), rows(1)), Err(StoreError::Gone(Gone::Abandoned)));
    assert_eq!(store.ask(QueryId(3), 0, s(60)), ChunkState::Failed("broken".into()));
    assert_eq!(store.expire(s(310)), [(QueryId(3), Why::Ttl)]);
    assert!(!store.touch(QueryId(2), s(61)));
}

#[test]
fn a_cancelled_result_is_freed_at_once() {
    let mut store = ResultStore::new(ROOMY);
    fill(&mut store, 0, s(0)).expect("there is room");
    assert!(store.cancel(QueryId(0)));
    assert!(!store.cancel(QueryId(0)));
    assert_eq!(store.counters().bytes, 0);
    assert_eq!(store.ask(QueryId(0), 0, s(0)), ChunkState::Gone(Gone::Cancelled));
    assert_eq!(store.append(QueryId(0), rows(1)), Err(StoreError::Gone(Gone::Cancelled)));
    assert_eq!(store.ask(QueryId(1), 0, s(0)), ChunkState::Gone(Gone::Unknown));
}

#[test]
fn only_the_newest_reasons_are_remembered() {
    let mut store = ResultStore::new(ROOMY);
    for id in 0..=TOMBSTONES_MAX as u128 {
        open(&mut store, id, s(0)).expect("there is room");
        store.cancel(QueryId(id));
    }
    assert_eq!(gone(&mut store, 0), Some(Gone::Unknown));
    assert_eq!(gone(&mut store, 1), Some(Gone::Cancelled));
}

/// A file that is only counted.
struct Counted(Arc<SpoolSpace>, u64);

impl SpoolFile for Counted {
    fn read(&self, _: u64, _: usize) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.give_back(self.1);
    }
}

/// Rows of a batch for the disk: enough that what it costs to remember where they are does not count.
const BATCH: i64 = 2_000;

/// A store with room for so many batches in memory, and the space of so many on disk.
fn with_disk(in_memory: u64, on_disk: u64) -> ResultStore {
    // What a batch takes in memory, by which the store judges, is a little more than its block on disk.
    let disk = Arc::new(SpoolSpace::new(on_disk * cost(BATCH)));
    let bytes_max = in_memory * cost(BATCH) + 20 * (RESULT_BYTES + SPOOLED_BYTES);
    ResultStore::with_disk(StoreLimits { bytes_max, ..ROOMY }, disk)
}

/// Keeps a batch where the store says, as a node does.
fn keep(store: &mut ResultStore, id: u128) -> Result<Place, StoreError> {
    let place = store.place(QueryId(id), &rows(BATCH).into())?;
    let payload = Payload::of(&rows(BATCH).into()).expect("it is encoded");
    let length = payload.bytes().len() as u64;
    if place == Place::Disk && store.disk.take(length) {
        let file = Arc::new(Counted(Arc::clone(&store.disk), length));
        store.append_spooled(QueryId(id), payload.written(file, 0))?;
        return Ok(Place::Disk);
    }
    store.append(QueryId(id), rows(BATCH))?;
    Ok(Place::Memory)
}

#[test]
fn a_giant_leaves_as_much_memory_as_it_takes_and_small_results_stay_out_of_the_disk() {
    let mut store = with_disk(40, 1_000);
    let keep_all = |store: &mut ResultStore, id: u128, batches: u32| {
        open(store, id, s(0)).expect("there is room");
        (0..batches).filter(|_| keep(store, id).expect("there is space") == Place::Disk).count()
    };
    let (giant, small) = (keep_all(&mut store, 0, 100), keep_all(&mut store, 1, 5));
    assert!((75..=85).contains(&giant), "{giant} of 100 batches on disk");
    assert_eq!(small, 0);
    let second = keep_all(&mut store, 2, 100);
    assert!((85..=95).contains(&second), "{second} of 100 batches on disk");
    assert_eq!(keep_all(&mut store, 3, 3), 0, "there is still room for a small one");
    assert_eq!(store.counters().evictions, 0);
    assert!(store.counters().disk_bytes > 0);
    for (id, end) in [(0, 0), (1, 1), (3, 0), (2, 2)] {
        match end {
            0 => assert!(store.cancel(QueryId(id))),
            1 => assert!(store.fail(QueryId(id), "broken", s(1)) && store.cancel(QueryId(id))),
            _ => {
                assert!(store.finish(QueryId(id), s(1)));
                assert_eq!(store.expire(s(100)), [(QueryId(id), Why::Idle)]);
            }
        }
    }
    assert_eq!((store.counters().bytes, store.counters().disk_bytes), (0, 0));
}

#[test]
fn with_the_disk_full_memory_is_used_up_then_finished_results_go_and_then_the_query_fails() {
    let mut store = with_disk(10, 10);
    open(&mut store, 0, s(0)).expect("there is room");
    let mut places = Vec::new();
    let refused = loop {
        match keep(&mut store, 0) {
            Ok(place) => places.push(place),
            Err(refused) => break refused,
        }
    };
    let on_disk = places.iter().filter(|place| **place == Place::Disk).count();
    assert_eq!(on_disk, 10, "{places:?}");
    assert!(places.len() - on_disk >= 10, "{places:?}");
    assert!(matches!(refused, StoreError::OverBudget { disk_bytes_max: 1.., .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("limits.result_bytes_max") && text.contains("limits.result_disk_bytes_max"), "{text}");
    assert_eq!(store.counters().evictions, 0);
    // Once it has ended it makes room for the next.
    store.finish(QueryId(0), s(1));
    open(&mut store, 1, s(2)).expect("there is room for its books");
    for batch in 0..15 {
        keep(&mut store, 1).unwrap_or_else(|error| panic!("batch {batch}: {error}"));
    }
    assert_eq!((gone(&mut store, 0), store.counters().evictions), (Some(Gone::Evicted), 1));
}

#[test]
fn random_operations_give_all_space_on_disk_back() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut store = with_disk(random.u64(1..10), random.u64(0..20));
        for step in 0..300 {
            let (id, now) = (random.u128(0..8), s(step));
            match random.u8(0..9) {
                0 | 1 if store.get(QueryId(id)).is_err() => drop(open(&mut store, id, now)),
                2..=4 => drop(keep(&mut store, id)),
                5 => drop(store.finish(QueryId(id), now)),
                6 => drop(store.fail(QueryId(id), "broken", now)),
                7 if random.bool() => drop(store.cancel(QueryId(id))),
                8 => {
                    store.ask(QueryId(id), random.u64(0..30), now);
                    store.acknowledge_through(QueryId(id), random.u64(0..30), now);
                }
                _ => {}
            }
            let of_results: u64 = store.results.values().map(|held| held.result.disk_bytes()).sum();
            assert_eq!(store.counters().disk_bytes, of_results, "step {step}, seed {seed}");
            assert!(store.counters().bytes <= store.limits.bytes_max, "step {step}, seed {seed}");
        }
        for id in 0..8 {
            store.cancel(QueryId(id));
        }
        assert_eq!((store.counters().bytes, store.counters().disk_bytes), (0, 0), "seed {seed}");
    }
}

/// Against a model that knows only row counts: 100-row batches, chunks of 10, so ten chunks a batch.
#[test]
fn random_operations_keep_the_account() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut store = store_for(random.u64(2..8));
        let mut model: BTreeMap<u128, (u64, bool)> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for step in 0..400 {
            now += Duration::from_millis(random.u64(0..4_000));
            let id = random.u128(0..10);
            match random.u8(0..8) {
                0 | 1 if !model.contains_key(&id) && open(&mut store, id, now).is_ok() => {
                    model.insert(id, (0, false));
                }
                2 | 3 if store.append(QueryId(id), rows(100)).is_ok() => {
                    let (batches, ended) = model.get_mut(&id).expect("an id that was never opened took rows");
                    assert!(!*ended, "rows after the end, seed {seed}");
                    *batches += 1;
                }
                4 if store.finish(QueryId(id), now) => model.get_mut(&id).expect("held").1 = true,
                5 => drop(store.ask(QueryId(id), random.u64(0..30), now)),
                6 if random.bool() => drop(store.cancel(QueryId(id))),
                7 => drop(store.expire(now)),
                _ => {}
            }
            // What the store let go on its own must have ended, or been cancelled or overdue.
            model.retain(|id, (_, ended)| match store.get(QueryId(*id)) {
                Ok(_) => true,
                Err(Gone::Evicted) => {
                    assert!(*ended, "a running result was evicted, seed {seed}");
                    false
                }
                Err(_) => false,
            });
            let expected: u64 = model.values().map(|(batches, _)| RESULT_BYTES + batches * cost(100)).sum();
            let counters = store.counters();
            assert_eq!(counters.bytes, expected, "step {step}, seed {seed}");
            assert_eq!(counters.results, model.len(), "step {step}, seed {seed}");
            assert!(counters.bytes_peak <= store.limits.bytes_max, "seed {seed}");
        }
        for id in 0..10 {
            store.cancel(QueryId(id));
        }
        assert_eq!((store.counters().bytes, store.counters().results), (0, 0), "seed {seed}");
    }
}
