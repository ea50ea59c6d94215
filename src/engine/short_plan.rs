//! The short way to a plan, for the questions that are asked most: columns, or the number of rows, where a
//! [`Conjunction`] holds.
//!
//! DataFusion's planner takes longer for such a question than all nodes take to answer it, and can only end at the same
//! leaf. So what is asked is recognised beforehand, its condition read and typed by DataFusion, and the leaf made at
//! once. Whatever is not recognised, or does not fit the table, gives `None` and goes the long way, which also finds the
//! words for what is wrong. `EXPLAIN` always goes the long way and ends at the same leaf; a test holds the answers of
//! both ways equal.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ToDFSchema};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use arrow::datatypes::SchemaRef;

use super::conjunction::Conjunction;
use super::filter::RangeFilter;
use super::leaf::OverlayScanExec;
use super::plain::plain_schema;
use super::predicate;
use super::reader::{LeafSpec, PinnedPartition, QueryContext};
use super::row_count::RowCountExec;
use super::sql_gate;

/// What is recognised of a question.
#[derive(Debug)]
pub struct ShortAsk {
    want: Want,
    condition: Option<Expr>,
}

#[derive(Debug)]
enum Want {
    /// Columns of the table, in the order asked for.
    Columns(Vec<usize>),
    /// The number of rows, as the one column `count(*)`.
    Count,
}

/// Recognises questions about one table.
pub struct ShortPlanner {
    schema: SchemaRef,
    df_schema: Arc<DFSchema>,
    /// The statements that ask for everything, as the parser reads them.
    all: Option<Statement>,
    counts: Vec<Statement>,
}

impl ShortPlanner {
    /// For the table that SQL calls `table`.
    pub fn new(table: &str, schema: &SchemaRef) -> Result<ShortPlanner> {
        let read = |columns: &str| sql_gate::parse(&format!("SELECT {columns} FROM {table}")).ok();
        Ok(ShortPlanner {
            schema: Arc::clone(schema),
            df_schema: Arc::new(Arc::clone(schema).to_dfschema()?),
            all: read("*"),
            counts: ["count(*)", "COUNT(*)"].into_iter().filter_map(read).collect(),
        })
    }

    /// A statement of the form `SELECT columns FROM table [WHERE condition]`.
    ///
    /// What is understood is taken out of the statement; what is left must be one of the statements that ask for
    /// everything, so that no clause can go unseen.
    pub fn read_sql(&self, statement: &Statement, state: &SessionState) -> Option<ShortAsk> {
        let mut rest = statement.clone();
        let select = select_of(&mut rest)?;
        let condition = select.selection.take();
        let want = if self.counts.contains(&rest) {
            Want::Count
        } else if self.all.as_ref() == Some(&rest) {
            Want::Columns((0..self.schema.fields().len()).collect())
        } else {
            let mut all = self.all.clone()?;
            let select = select_of(&mut rest)?;
            let names = std::mem::replace(&mut select.projection, select_of(&mut all)?.projection.clone());
            if self.all.as_ref() != Some(&rest) {
                return None;
            }
            Want::Columns(names.iter().map(|name| self.column(name)).collect::<Option<Vec<_>>>()?)
        };
        let condition = match condition {
            None => None,
            Some(expr) => {
                let named = ast::ExprWithAlias { expr, alias: None };
                Some(state.create_logical_expr_from_sql_expr(named, &self.df_schema).ok()?)
            }
        };
        Some(ShortAsk { want, condition })
    }

    fn column(&self, item: &ast::SelectItem) -> Option<usize> {
        match item {
            ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(name)) if name.quote_style.is_none() => {
                self.schema.index_of(&name.value).ok()
            }
            _ => None,
        }
    }

    /// A range query; `None` if it names a column that there is not, or one twice.
    pub fn read_range(&self, filter: &RangeFilter, partitions: &[PinnedPartition]) -> Option<ShortAsk> {
        let mut columns = Vec::new();
        for name in &filter.columns {
            let column = self.schema.index_of(name).ok()?;
            if columns.contains(&column) {
                return None;
            }
            columns.push(column);
        }
        if columns.is_empty() {
            columns.extend(0..self.schema.fields().len());
        }
        Some(ShortAsk { want: Want::Columns(columns), condition: filter.to_expr(partitions) })
    }

    /// The plan; nothing is sent yet.
    pub fn plan(
        &self,
        ask: &ShortAsk,
        context: &Arc<QueryContext>,
        state: &SessionState,
        limit: Option<u64>,
    ) -> Option<Arc<dyn ExecutionPlan>> {
        let (predicate, conjunction) = match &ask.condition {
            None => (None, Conjunction::default()),
            Some(condition) => {
                let predicate = self.to_physical(condition, state)?;
                let conjunction = Conjunction::of(&predicate, &self.schema)?;
                (Some(predicate), conjunction)
            }
        };
        let (columns, is_count) = match &ask.want {
            Want::Columns(columns) => (columns.clone(), false),
            Want::Count => (Vec::new(), true),
        };
        if is_count && limit.is_some() {
            return None;
        }
        let mut projection = columns.clone();
        projection.sort_unstable();
        projection.dedup();
        if projection.len() < columns.len() {
            return None;
        }
        let may_match = |partition: &&PinnedPartition| {
            partition.stats.as_ref().is_none_or(|stats| conjunction.may_match(stats, &self.schema))
        };
        let (keep, pruned): (Vec<&PinnedPartition>, Vec<&PinnedPartition>) =
            context.partitions.iter().partition(may_match);
        let mut schema = Arc::new(self.schema.project(&projection).ok()?);
        if context.plain_texts {
            schema = plain_schema(&schema);
        }
        let spec = LeafSpec {
            leaf: 0,
            partitions: keep.into_iter().cloned().collect(),
            schema,
            predicate: predicate.as_ref().map(predicate::encode).transpose().ok()?.unwrap_or_default(),
            projection: projection.clone(),
            limit,
        };
        let pruned = pruned.into_iter().map(|partition| partition.id).collect();
        let mut plan: Arc<dyn ExecutionPlan> =
            Arc::new(OverlayScanExec::new(Arc::clone(context), spec, predicate, pruned));
        if is_count {
            return Some(Arc::new(RowCountExec::new(plan)));
        }
        if projection != columns {
            let named = columns.iter().map(|column| {
                let name = self.schema.field(*column).name();
                let place = projection.iter().position(|other| other == column)?;
                Some(ProjectionExpr { expr: Arc::new(Column::new(name, place)), alias: name.clone() })
            });
            plan = Arc::new(ProjectionExec::try_new(named.collect::<Option<Vec<_>>>()?, plan).ok()?);
        }
        if let Some(limit) = limit {
            plan = Arc::new(GlobalLimitExec::new(plan, 0, Some(usize::try_from(limit).ok()?)));
        }
        Some(plan)
    }

    /// The condition over the table's own columns, with constants of the columns' types.
    fn to_physical(&self, condition: &Expr, state: &SessionState) -> Option<Arc<dyn PhysicalExpr>> {
        // Simplifying computes what is constant, so nothing is let in here that could be long in the computing.
        let mut is_plain = true;
        let walk = condition.apply(|expr| {
            is_plain &= matches!(
                expr,
                Expr::Column(_) | Expr::Literal(..) | Expr::BinaryExpr(_) | Expr::Between(_) | Expr::InList(_)
            );
            Ok(if is_plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        if !is_plain || walk.is_err() {
            return None;
        }
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&self.df_schema))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let typed = simplifier.coerce(condition.clone(), &self.df_schema).ok()?;
        let simple = simplifier.simplify(typed).ok()?;
        let planning = PhysicalPlanningContext::default();
        create_physical_expr(&simple, &self.df_schema, &ExecutionProps::new(), &planning).ok()
    }
}

/// The one `SELECT` of a query.
fn select_of(statement: &mut Statement) -> Option<&mut ast::Select> {
    let Statement::Statement(statement) = statement else { return None };
    let ast::Statement::Query(query) = statement.as_mut() else { return None };
    match query.body.as_mut() {
        ast::SetExpr::Select(select) => Some(select),
        _ => None,
    }
}
