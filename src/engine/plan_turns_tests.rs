use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{Partitioning, execute_stream};
use futures::{TryStreamExt, stream};

use super::*;
use crate::delivery::QueryId;
use crate::engine::share::Flow;

/// Every time a source is asked takes so long on the test's clock: all of it together is no reason to lend a turn.
const TICK: Duration = Duration::from_micros(10);

/// Gives batches of one row; each is asked for twice: the first time it is not there yet. Keeps how many turns were given
/// whenever it was asked, and whose batches were made in which order.
#[derive(Debug)]
struct Source {
    name: &'static str,
    batches: usize,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    pool: Mutex<Option<FairPool>>,
    clock: AtomicU32,
    turns_given: Mutex<Vec<usize>>,
    order: Mutex<Vec<&'static str>>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

impl Seen {
    /// With a pool of so many threads, whose clock only sources advance.
    fn with_threads(threads: usize) -> Arc<Seen> {
        let seen = Arc::new(Seen::default());
        *seen.pool.lock().expect("no panic") = Some(FairPool::new(threads, seen.clock()).expect("threads"));
        seen
    }

    fn clock(self: &Arc<Self>) -> Clock {
        let seen = Arc::clone(self);
        Arc::new(move || TICK * seen.clock.load(Ordering::Relaxed))
    }

    fn pool(&self) -> FairPool {
        self.pool.lock().expect("no panic").clone().expect("it was put there")
    }

    fn asked(&self) {
        self.clock.fetch_add(1, Ordering::Relaxed);
        self.turns_given.lock().expect("no panic").push(self.pool().load().0);
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

impl PartitionStream for Source {
    fn schema(&self) -> &SchemaRef {
        static SCHEMA: std::sync::LazyLock<SchemaRef> = std::sync::LazyLock::new(schema);
        &SCHEMA
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (name, seen, left) = (self.name, Arc::clone(&self.seen), AtomicUsize::new(self.batches));
        let mut is_there = false;
        let batches = stream::poll_fn(move |context| {
            seen.asked();
            is_there = !is_there;
            if is_there {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if left.load(Ordering::Relaxed) == 0 {
                return Poll::Ready(None);
            }
            let n = left.fetch_sub(1, Ordering::Relaxed) as i64;
            seen.order.lock().expect("no panic").push(name);
            Poll::Ready(Some(Ok(RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![n]))])?)))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema(), batches))
    }
}

fn source(name: &'static str, batches: usize, seen: &Arc<Seen>) -> Arc<dyn ExecutionPlan> {
    let source: Arc<dyn PartitionStream> = Arc::new(Source { name, batches, seen: Arc::clone(seen) });
    Arc::new(StreamingTableExec::try_new(schema(), vec![source], None, Vec::new(), false, None).expect("a plan"))
}

/// A source below an operator that asks it in the same task, and others that run in tasks of their own, two deep.
fn plan(name: &'static str, batches: usize, seen: &Arc<Seen>) -> Arc<dyn ExecutionPlan> {
    let passed_on = LocalLimitExec::new(source(name, batches, seen), usize::MAX);
    let spread = RepartitionExec::try_new(Arc::new(passed_on), Partitioning::RoundRobinBatch(2)).expect("a plan");
    let by_value = Partitioning::Hash(vec![col("n", &schema()).expect("a column")], 2);
    let spread = RepartitionExec::try_new(Arc::new(spread), by_value).expect("a plan");
    Arc::new(CoalescePartitionsExec::new(Arc::new(spread)))
}

fn taking(flow: &str, query: u128, seen: &Arc<Seen>) -> TakesTurns {
    let share = Share { flow: Flow(Some(flow.into())), client: 1, query: QueryId(query), weight: 1 };
    TakesTurns::new(seen.pool(), share, Arc::default(), seen.clock())
}

async fn rows(plan: Arc<dyn ExecutionPlan>) -> usize {
    let batches: Vec<RecordBatch> =
        execute_stream(plan, Arc::default()).expect("it starts").try_collect().await.expect("it ends well");
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_task_of_a_plan_computes_in_a_turn() {
    for threads in [1, 3] {
        let seen = Seen::with_threads(threads);
        let taking = taking("a", 1, &seen);
        let in_turns = in_turns(plan("a", 40, &seen), &taking).expect("a plan");
        assert!(in_turns.is::<CoalescePartitionsExec>(), "to others it is the plan that it was");
        assert_eq!(rows(in_turns).await, 40);
        let given = std::mem::take(&mut *seen.turns_given.lock().expect("no panic"));
        assert_eq!(given.len(), 82, "each batch and the end, twice");
        assert!(given.iter().all(|given| (1..=threads).contains(given)), "{given:?} of {threads}");
        // Tasks that DataFusion runs for the plan may end after it.
        while taking.pool.load() != (0, 0) {
            tokio::task::yield_now().await;
        }
        // Sources alone advance the clock, and nobody else's time is in a poll of one thread.
        let spent = taking.meter.take().cpu;
        assert!(spent >= 82 * TICK, "{spent:?}");
        assert!(threads > 1 || spent == 82 * TICK, "{spent:?} is counted twice");
    }
}

/// Five plans of one team and one of another, all alike: the one gets every second turn, not every sixth.
#[tokio::test]
async fn plans_compute_by_the_shares_of_their_teams() {
    let seen = Seen::with_threads(1);
    let plans = (1..=6).map(|query| {
        let (name, flow) = if query == 6 { ("alone", "b") } else { ("of five", "a") };
        let taking = taking(flow, query, &seen);
        rows(in_turns(source(name, 20, &seen), &taking).expect("a plan"))
    });
    let held = seen.pool().turn(&taking("held", 0, &seen).share).now_or_never().expect("the pool is idle");
    let mut all = futures::future::join_all(plans);
    assert!((&mut all).now_or_never().is_none(), "all wait for a turn");
    drop(held);
    assert_eq!(all.await, [20; 6]);
    let order = seen.order.lock().expect("no panic");
    let last = order.iter().rposition(|name| *name == "alone").expect("it made batches") + 1;
    assert!(last <= 80, "the last of twenty batches was the {last}th of 120");
}

/// A plan that is dropped while it computes, or waits for its turn, leaves none behind.
#[tokio::test]
async fn a_plan_that_is_dropped_gives_its_turn_back() {
    let seen = Seen::with_threads(1);
    let taking = taking("a", 1, &seen);
    for steps in 0..20 {
        let in_turns = in_turns(plan("a", 40, &seen), &taking).expect("a plan");
        let mut batches = execute_stream(in_turns, Arc::default()).expect("it starts");
        let held = taking.pool.turn(&taking.share).now_or_never().expect("all turns are back");
        assert!(batches.next().now_or_never().is_none(), "it waits for its turn");
        drop(held);
        for _ in 0..steps {
            tokio::task::yield_now().await;
            let _ = batches.next().now_or_never();
        }
        drop(batches);
        // Tasks that DataFusion runs for it hear of the end at their next pause.
        while taking.pool.load() != (0, 0) {
            tokio::task::yield_now().await;
        }
    }
}
