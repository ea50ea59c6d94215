//! `OverlayScanExec`: the only way to read observations.
//!
//! The plan node names partitions, columns, a predicate and a limit; never data. It runs on any node that can reach
//! the holders: partitions in the own store are scanned there, others by `Scan`.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use overlay_ingest::PartitionId;

use super::conjunction::{Conjunction, Term};
use super::estimate::{Asked, leaf_statistics};
use super::message::ScanPath;
use super::reader::{LeafSpec, QueryContext, Reader};
use crate::delivery::Arrived;

/// A scan of the table wherever it lies.
#[derive(Debug)]
pub struct OverlayScanExec {
    context: Arc<QueryContext>,
    spec: LeafSpec,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Partitions that the statistics ruled out.
    pruned: Vec<PartitionId>,
    properties: Arc<PlanProperties>,
    /// Made when the planner first asks.
    statistics: OnceLock<Arc<Statistics>>,
    metrics: ExecutionPlanMetricsSet,
}

impl OverlayScanExec {
    /// `spec.predicate` is the encoded form of `predicate`.
    pub fn new(
        context: Arc<QueryContext>,
        spec: LeafSpec,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        pruned: Vec<PartitionId>,
    ) -> OverlayScanExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&spec.schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        let (properties, statistics) = (Arc::new(properties), OnceLock::new());
        OverlayScanExec { context, spec, predicate, pruned, properties, statistics, metrics }
    }

    /// The rows with the bytes that they came in; for a plan that is nothing but this leaf. `packed`: those of this node
    /// in blocks as well.
    pub fn arrivals(&self, packed: bool) -> BoxStream<'static, Result<Arrived>> {
        let reader = Reader::new(Arc::clone(&self.context), self.spec.clone());
        read(if packed { reader.packing() } else { reader }).boxed()
    }

    /// Which scan of the plan this is.
    pub fn leaf(&self) -> u32 {
        self.spec.leaf
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.spec.partitions.iter().map(|partition| partition.id)
    }

    /// The partitions that the statistics ruled out.
    pub fn pruned(&self) -> &[PartitionId] {
        &self.pruned
    }

    /// How a zone that its bounds leave open is decided.
    fn path_name(&self, predicate: &Arc<dyn PhysicalExpr>) -> &'static str {
        let schema = &self.context.hop.schema;
        let reference = self.context.scan_path == ScanPath::Reference;
        match Conjunction::of(predicate, schema).filter(|_| !reference) {
            None => "datafusion",
            Some(conjunction) => {
                let name = |term: &Term| match term {
                    Term::Number { column, .. } | Term::Text { column, .. } => schema.field(*column).name().clone(),
                };
                let names: Vec<String> = conjunction.terms.iter().map(name).collect();
                let is_counted = names.iter().all(|name| ["parameter", "concentration"].contains(&name.as_str()));
                let may_count = self.context.scan_path == ScanPath::Any && self.spec.projection.is_empty();
                if is_counted && may_count { "index" } else { "comparisons" }
            }
        }
    }

    /// Rows of the partitions that are read, where all are known.
    pub fn rows_estimate(&self) -> Option<u64> {
        self.spec.partitions.iter().map(|partition| partition.stats.as_ref().map(|stats| stats.rows)).sum()
    }
}

fn read(reader: Reader) -> impl Stream<Item = Result<Arrived>> + Send + 'static {
    stream::unfold(reader, |mut reader| async move {
        let arrived = reader.next().await?;
        Some((arrived.map_err(|error| DataFusionError::External(Box::new(error))), reader))
    })
}

impl DisplayAs for OverlayScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.spec.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>();
        let partitions = self.spec.partitions.len();
        write!(
            f,
            "OverlayScanExec: leaf={}, partitions={partitions} of {}, columns=[{}]",
            self.spec.leaf,
            partitions + self.pruned.len(),
            columns.join(", ")
        )?;
        if let Some(predicate) = &self.predicate {
            write!(f, ", predicate={predicate}, path={}", self.path_name(predicate))?;
        }
        if let Some(limit) = self.spec.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for OverlayScanExec {
    fn name(&self) -> &str {
        "OverlayScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        match &self.predicate {
            Some(predicate) => f(predicate),
            None => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("a scan has no children".into())) }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!("a scan has one partition, not {partition}")));
        }
        let reader = Reader::new(Arc::clone(&self.context), self.spec.clone());
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batches = read(reader).inspect_ok(move |arrived| metrics.record_output(arrived.rows()));
        let batches = batches.map(|arrived| Ok(arrived?.to_batch()?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let told = self.statistics.get_or_init(|| {
            let schema = &self.context.hop.schema;
            let conjunction = self.predicate.as_ref().map(|predicate| Conjunction::of(predicate, schema));
            let asked = match &conjunction {
                None => Asked::Everything,
                Some(Some(conjunction)) => Asked::Rows(conjunction),
                Some(None) => Asked::SomeRows,
            };
            let LeafSpec { partitions, projection, limit, .. } = &self.spec;
            Arc::new(leaf_statistics(partitions, &asked, schema, projection, *limit))
        });
        Ok(Arc::clone(told))
    }

    fn fetch(&self) -> Option<usize> {
        self.spec.limit.and_then(|limit| usize::try_from(limit).ok())
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.spec.schema)
    }
}
