//! Plans take turns: what the operators of a plan compute, they compute in turns of their query's.
//!
//! DataFusion polls an operator on whatever task it likes: joins and aggregates in the task that asks for rows, what is
//! repartitioned in tasks of its own. So each operator stands behind a [`TurnsExec`]. The one that is polled first in a
//! task waits for a turn, computes in it, and hands it back with the rows, or as soon as it has to wait for some; those
//! below it see that their thread is in a turn and pass the poll on. So a plan computes no more than its share while
//! others want the cores, wherever DataFusion runs it, and all that it takes is charged.
//!
//! An operator that does not yield (a join with few rows in and many out) keeps its turn for as long as it computes;
//! [`super::fair_pool`] lends the others one for it meanwhile. That one must not go to another task of the same plan, and
//! so on until every thread for plans computes for it: a plan has no more turns at a time than the pool has threads.
//!
//! Invariant: no turn is held by a stream that is not being polled.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::executor::{Clock, ScanPool};
use super::fair_pool::{FairPool, Turn};
use super::meter::{Meter, Spent};
use super::share::Share;

/// Whose turns a plan takes, and who is told what was computed in them.
#[derive(Clone)]
pub struct TakesTurns {
    pub pool: FairPool,
    pub share: Share,
    pub meter: Arc<Meter>,
    /// Tells what was computed; see [`Clock`].
    work_clock: Clock,
    /// One permit for each turn that the plan may have at the same time.
    at_once: Arc<Semaphore>,
}

impl TakesTurns {
    /// For one plan.
    pub fn new(pool: FairPool, share: Share, meter: Arc<Meter>, work_clock: Clock) -> TakesTurns {
        let at_once = Arc::new(Semaphore::new(pool.width()));
        TakesTurns { pool, share, meter, work_clock, at_once }
    }

    /// A turn, with the plan's permit to have one more. None once the semaphore is closed.
    async fn next(self) -> Option<(Turn, OwnedSemaphorePermit)> {
        let permit = self.at_once.acquire_owned().await.ok()?;
        Some((self.pool.long_turn(&self.share).await, permit))
    }
}

impl fmt::Debug for TakesTurns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakesTurns").field("share", &self.share).finish_non_exhaustive()
    }
}

/// The plan with each of its operators in turns. It gives the same rows.
pub fn in_turns(plan: Arc<dyn ExecutionPlan>, taking: &TakesTurns) -> Result<Arc<dyn ExecutionPlan>> {
    let children: Result<Vec<_>> =
        plan.children().into_iter().map(|child| in_turns(Arc::clone(child), taking)).collect();
    let input = replace_children_if_necessary(plan, children?)?;
    Ok(Arc::new(TurnsExec { input, taking: taking.clone() }))
}

thread_local! {
    /// Whether this thread computes in a turn now.
    static IS_IN_TURN: Cell<bool> = const { Cell::new(false) };
}

/// An operator that computes in turns; to everybody else it is that operator.
#[derive(Debug)]
struct TurnsExec {
    input: Arc<dyn ExecutionPlan>,
    taking: TakesTurns,
}

impl DisplayAs for TurnsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnsExec")
    }
}

impl ExecutionPlan for TurnsExec {
    fn name(&self) -> &str {
        "TurnsExec"
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(&*self.input)
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[Arc<dyn ExecutionPlan>; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(TurnsExec { input, taking: self.taking.clone() })),
            Err(children) => Err(DataFusionError::Internal(format!("turns have one child, not {}", children.len()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        Ok(Box::pin(InTurns { rows, taking: self.taking.clone(), awaited: None }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.input.metrics()
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema())))
    }

    fn fetch(&self) -> Option<usize> {
        self.input.fetch()
    }
}

/// The rows of an operator.
struct InTurns {
    rows: SendableRecordBatchStream,
    taking: TakesTurns,
    /// The turn that is waited for. None while nobody asks for rows.
    awaited: Option<BoxFuture<'static, Option<(Turn, OwnedSemaphorePermit)>>>,
}

impl Stream for InTurns {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if IS_IN_TURN.get() {
            // Who asked before from a task of its own does not any more.
            self.awaited = None;
            return self.rows.poll_next_unpin(context);
        }
        let mut awaited = self.awaited.take().unwrap_or_else(|| self.taking.clone().next().boxed());
        let Poll::Ready(given) = awaited.as_mut().poll(context) else {
            self.awaited = Some(awaited);
            return Poll::Pending;
        };
        let _turn_and_permit = given.expect("the semaphore of a plan is never closed");
        let begun = (self.taking.work_clock)();
        let polled = {
            let _until_it_is_dropped = InTurn::begin();
            self.rows.poll_next_unpin(context)
        };
        let cpu = (self.taking.work_clock)().saturating_sub(begun);
        self.taking.meter.add(Spent { cpu, ..Spent::default() });
        polled
    }
}

impl RecordBatchStream for InTurns {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// This thread is in a turn until this is dropped, be it by a panic.
struct InTurn;

impl InTurn {
    fn begin() -> InTurn {
        IS_IN_TURN.set(true);
        InTurn
    }
}

impl Drop for InTurn {
    fn drop(&mut self) {
        IS_IN_TURN.set(false);
    }
}

#[cfg(test)]
#[path = "plan_turns_tests.rs"]
mod tests;
