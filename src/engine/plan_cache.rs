//! Optimised logical plans of SQL that was asked before, so that asking again costs neither parsing nor optimising.
//!
//! A plan is kept by the statement's text and the limit put on it. What it knows of the data is the table's schema, which
//! is one for all queries of a process; partitions, their statistics and holders come in with the table, which each query
//! puts into its own copy ([`over`]). So a kept plan is as right for the next manifest as for the one it was made over.
//! What depends on the moment of asking, as `now()`, is folded into a plan while it is optimised: such plans are not kept.
//!
//! Bounded: [`PLANS_MAX`] plans of texts that the gate lets in; the one that was not asked for longest goes first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::builder::LogicalTableSource;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource, Volatility};

use super::cache_figures::{CacheFigures, Lookups};

/// Plans that are kept. More serve more different statements; each takes some ten kilobytes, seldom more.
pub const PLANS_MAX: usize = 128;

/// What a plan is kept under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub sql: String,
    pub limit: Option<u64>,
}

/// The plans of one process, those asked last at the end.
#[derive(Debug, Default)]
pub struct PlanCache {
    plans: Mutex<VecDeque<(Asked, LogicalPlan)>>,
    lookups: Lookups,
}

impl PlanCache {
    /// The plan over this table, if it is kept.
    pub fn get(&self, asked: &Asked, table: &Arc<dyn TableSource>) -> Option<LogicalPlan> {
        let plan = self.find(asked).and_then(|kept| over(kept, table).ok());
        match plan {
            Some(_) => self.lookups.hit(),
            None => self.lookups.miss(),
        }
        plan
    }

    fn find(&self, asked: &Asked) -> Option<LogicalPlan> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let place = plans.iter().position(|(kept, _)| kept == asked)?;
        let found = plans.remove(place)?;
        let plan = found.1.clone();
        plans.push_back(found);
        Some(plan)
    }

    /// Keeps a plan that was optimised, if it may be kept; `before` is the same before that.
    pub fn keep(&self, asked: Asked, before: &LogicalPlan, optimised: &LogicalPlan, schema: &SchemaRef) {
        if matches!(optimised, LogicalPlan::Explain(_)) || !is_timeless(before) {
            return;
        }
        // A table without data: nothing of the query that the plan was made for stays behind.
        let empty: Arc<dyn TableSource> = Arc::new(LogicalTableSource::new(Arc::clone(schema)));
        let Ok(plan) = over(optimised.clone(), &empty) else { return };
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|(kept, _)| *kept != asked);
        if plans.len() == PLANS_MAX {
            plans.pop_front();
        }
        plans.push_back((asked, plan));
    }

    /// How it is used. What plans take in memory is not counted, only bounded.
    pub fn figures(&self) -> CacheFigures {
        let kept = self.plans.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.lookups.figures(kept as u64, 0)
    }
}

/// The plan with every scan reading from this table; there is only one that a statement can name.
fn over(plan: LogicalPlan, table: &Arc<dyn TableSource>) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::TableScan(mut scan) => {
                scan.source = Arc::clone(table);
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            other => Transformed::no(other),
        })
    });
    Ok(replaced?.data)
}

/// Whether every function gives the same for the same arguments whenever it is asked.
fn is_timeless(plan: &LogicalPlan) -> bool {
    let mut timeless = true;
    let walk = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(function) = expr {
                    timeless &= function.func.signature().volatility == Volatility::Immutable;
                }
                Ok(if timeless { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })
    });
    walk.is_ok() && timeless
}
