//! The table `observations` as DataFusion sees it: prunes partitions, takes filters, columns and limit, and gives a
//! leaf.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ToDFSchema};
use datafusion::error::Result;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{PhysicalExpr, conjunction, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;

use super::conjunction::Conjunction;
use super::estimate::{Asked, rows_expected};
use super::leaf::OverlayScanExec;
use super::predicate;
use super::reader::{LeafSpec, PinnedPartition, QueryContext};
use super::statistics::PartitionBounds;

/// The table within one query.
#[derive(Debug)]
pub struct OverlayTable {
    context: Arc<QueryContext>,
    schema: SchemaRef,
    df_schema: DFSchema,
    leaves: AtomicU32,
}

impl OverlayTable {
    /// A table over the partitions that the query is pinned to.
    pub fn try_new(context: Arc<QueryContext>) -> Result<OverlayTable> {
        let schema = Arc::clone(&context.hop.schema);
        let df_schema = Arc::clone(&schema).to_dfschema()?;
        Ok(OverlayTable { context, schema, df_schema, leaves: AtomicU32::new(0) })
    }

    /// Whether every node can evaluate the filter: it depends on the row alone, and survives the wire.
    fn is_pushable(&self, filter: &Expr) -> bool {
        let mut row_wise = !filter.is_volatile();
        let walk = filter.apply(|expr| {
            row_wise &= !matches!(
                expr,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::Placeholder(_)
                    | Expr::ScalarVariable(..)
                    | Expr::AggregateFunction(_)
                    | Expr::WindowFunction(_)
            );
            Ok(if row_wise { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        row_wise && walk.is_ok() && self.survives_the_wire(filter)
    }

    fn to_physical(&self, filter: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        // The optimizer asks with names such as `observations.utc`; the table's own schema knows `utc`.
        let filter = &unnormalize_col(filter.clone());
        create_physical_expr(filter, &self.df_schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
    }

    fn survives_the_wire(&self, filter: &Expr) -> bool {
        let Ok(physical) = self.to_physical(filter) else {
            return false;
        };
        predicate::encode(&physical)
            .and_then(|bytes| predicate::decode(&bytes, &self.context.hop.functions, &self.schema))
            .is_ok()
    }

    /// The rows that all scans of a plan will give together, at a guess; `None` where nobody has counted.
    pub fn rows_expected(&self, plan: &LogicalPlan) -> Option<f64> {
        let mut expected = Some(0.0);
        let walk = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let filters = scan.filters.iter().map(|filter| self.to_physical(filter)).collect::<Result<Vec<_>>>()?;
                let read = Conjunction::of(&conjunction(filters.iter().cloned()), &self.schema);
                let asked = match &read {
                    _ if filters.is_empty() => Asked::Everything,
                    Some(read) => Asked::Rows(read),
                    None => Asked::SomeRows,
                };
                let rows = rows_expected(&self.context.partitions, &asked, &self.schema);
                let rows = rows.map(|rows| scan.fetch.map_or(rows, |fetch| rows.min(fetch as f64)));
                expected = expected.zip(rows).map(|(before, rows)| before + rows);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walk.ok().and(expected)
    }

    /// Splits the pinned partitions into those that may match and those that cannot.
    fn prune(&self, predicate: Option<&Arc<dyn PhysicalExpr>>) -> (Vec<PinnedPartition>, Vec<PinnedPartition>) {
        let all = self.context.partitions.iter();
        let Some(predicate) = predicate else { return (all.cloned().collect(), Vec::new()) };
        let bounds = PartitionBounds(all.clone().map(|partition| partition.stats.as_ref()).collect());
        let pruning = predicate::pruning(predicate, &self.schema);
        let may_match = predicate::prune(pruning.as_ref(), &bounds);
        let (keep, drop): (Vec<_>, Vec<_>) = all.zip(may_match).partition(|(_, may_match)| *may_match);
        let ids =
            |list: Vec<(&PinnedPartition, bool)>| list.into_iter().map(|(partition, _)| partition.clone()).collect();
        (ids(keep), ids(drop))
    }
}

#[async_trait]
impl TableProvider for OverlayTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match self.is_pushable(filter) {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filters = filters
            .iter()
            .map(|filter| state.create_physical_expr(filter.clone(), &self.df_schema))
            .collect::<Result<Vec<_>>>()?;
        let predicate = (!filters.is_empty()).then(|| conjunction(filters));
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let (partitions, pruned) = self.prune(predicate.as_ref());
        let spec = LeafSpec {
            leaf: self.leaves.fetch_add(1, Ordering::Relaxed),
            partitions,
            schema: Arc::new(self.schema.project(&projection)?),
            projection,
            predicate: predicate.as_ref().map(predicate::encode).transpose()?.unwrap_or_default(),
            limit: limit.map(|limit| limit as u64),
        };
        let pruned = pruned.into_iter().map(|partition| partition.id).collect();
        Ok(Arc::new(OverlayScanExec::new(Arc::clone(&self.context), spec, predicate, pruned)))
    }
}
