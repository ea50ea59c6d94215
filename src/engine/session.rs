//! Plans range queries and SQL over the leaf, and runs the plans.
//!
//! A session lives as long as its query. All sessions of a process share one runtime environment: a memory pool, no
//! spilling to disk, and an object-store registry with nothing in it, so that no path can be read.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider, TableProvider,
};
use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec, SymmetricHashJoinExec,
};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use overlay_ingest::{PartitionId, observations};

use super::by_distinct::{ExtractByDistinct, by_distinct};
use super::cache_figures::CacheFigures;
use super::filter::RangeFilter;
use super::leaf::OverlayScanExec;
use super::message::ScanPath;
use super::plan_cache::{Asked, PlanCache};
use super::plan_turns::{TakesTurns, in_turns};
use super::reader::QueryContext;
use super::short_plan::ShortPlanner;
use super::sql_gate::{self, SqlRefused};
use super::table::OverlayTable;
use crate::delivery::Arrived;

/// Fewer rows than this out of all leaves are not worth dividing among threads: handing them over and bringing the parts
/// together takes as long as what is done with them.
const ROWS_TO_DIVIDE_MIN: f64 = 500_000.0;

/// The same where a window makes them be sorted, which takes several times as long.
const ROWS_TO_SORT_DIVIDED_MIN: f64 = 100_000.0;

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Range(RangeFilter),
    Sql(String),
}

/// Why a query could not be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The client can mend it.
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Refused(#[from] SqlRefused),
    /// It cannot.
    #[error("planning failed: {0}")]
    Failed(String),
}

impl From<DataFusionError> for PlanError {
    fn from(error: DataFusionError) -> PlanError {
        let text = error.strip_backtrace();
        match error.find_root() {
            DataFusionError::Internal(_) | DataFusionError::ResourcesExhausted(_) => PlanError::Failed(text),
            _ => PlanError::Invalid(text),
        }
    }
}

/// What all sessions of a process share.
pub struct Engine {
    table: String,
    /// A session without a table, from which those of queries are made: its functions and rules are the same for all.
    state: SessionState,
    task: Arc<TaskContext>,
    short: ShortPlanner,
    plans: PlanCache,
}

/// A plan, ready to run.
pub struct QueryPlan {
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    /// It came the short way: nothing that it computes itself is worth a turn.
    is_short: bool,
    /// Rows of the unpruned partitions, cut at the limit, where that is the size of the answer; else `None`.
    pub rows_estimate: Option<u64>,
    /// The partitions that some leaf reads, after pruning.
    pub partitions: Vec<PartitionId>,
}

impl Engine {
    /// `memory_bytes_max` bounds what all plans of the process hold together; `table` is the name that SQL uses.
    pub fn new(memory_bytes_max: usize, table: &str, target_partitions: usize) -> Result<Engine> {
        let pool = FairSpillPool::new(memory_bytes_max);
        let consumers = std::num::NonZeroUsize::new(5).expect("5 is not 0");
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, consumers)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .with_object_store_registry(Arc::new(NoStores))
            .build_arc()?;
        let state = session_state(runtime, target_partitions);
        let task = Arc::new(TaskContext::from(&state));
        let short = ShortPlanner::new(table, &observations())?;
        Ok(Engine { table: table.to_owned(), state, task, short, plans: PlanCache::default() })
    }

    /// How the plans of SQL that are kept for when they are asked for again are used.
    pub fn plan_figures(&self) -> CacheFigures {
        self.plans.figures()
    }

    /// The functions that a predicate may name: those of every session.
    pub fn functions(&self) -> Arc<TaskContext> {
        Arc::clone(&self.task)
    }

    /// Plans the question over the partitions that `context` is pinned to. Nothing is sent yet.
    pub async fn plan(
        &self,
        context: &Arc<QueryContext>,
        ask: &Ask,
        limit: Option<u64>,
    ) -> Result<QueryPlan, PlanError> {
        // DataFusion counts rows in 64 bits with a sign; more than that is no limit.
        let limit = limit.filter(|limit| i64::try_from(*limit).is_ok());
        let statement = match ask {
            Ask::Range(_) => None,
            Ask::Sql(sql) => Some(sql_gate::parse(sql)?),
        };
        let short = self.plan_short(context, ask, statement.as_ref(), limit);
        let is_short = short.is_some();
        let (plan, task) = match short {
            Some(plan) => (plan, Arc::clone(&self.task)),
            None => self.plan_long(context, ask, statement, limit).await?,
        };
        let (mut rows_estimate, mut partitions) = (None, Vec::new());
        register_leaves(&plan, context, MayStop::default(), &mut |leaf| {
            rows_estimate = leaf.rows_estimate();
            partitions.extend(leaf.partitions());
        })?;
        if matches!(ask, Ask::Sql(_)) {
            rows_estimate = None;
        }
        let rows_estimate = rows_estimate.map(|rows| limit.map_or(rows, |limit| rows.min(limit)));
        Ok(QueryPlan { plan, task, is_short, rows_estimate, partitions })
    }

    /// See [`ShortPlanner`].
    fn plan_short(
        &self,
        context: &Arc<QueryContext>,
        ask: &Ask,
        statement: Option<&Statement>,
        limit: Option<u64>,
    ) -> Option<Arc<dyn ExecutionPlan>> {
        // The reference goes the long way, and so does a table with other columns, which only tests have.
        if context.scan_path == ScanPath::Reference || context.hop.schema != observations() {
            return None;
        }
        let short = match (ask, statement) {
            (Ask::Range(filter), _) => self.short.read_range(filter, &context.partitions)?,
            (Ask::Sql(_), statement) => self.short.read_sql(statement?, &self.state)?,
        };
        self.short.plan(&short, context, &self.state, limit)
    }

    /// Through all of DataFusion's planner.
    async fn plan_long(
        &self,
        context: &Arc<QueryContext>,
        ask: &Ask,
        statement: Option<Statement>,
        limit: Option<u64>,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>), PlanError> {
        let table = Arc::new(OverlayTable::try_new(Arc::clone(context))?);
        let session = self.session(Arc::clone(&table))?;
        let mut state = session.state();
        let source = provider_as_source(Arc::clone(&table) as Arc<dyn TableProvider>);
        let asked = match ask {
            Ask::Sql(sql) => Some(Asked { sql: sql.clone(), limit }),
            Ask::Range(_) => None,
        };
        let kept = asked.as_ref().and_then(|asked| self.plans.get(asked, &source));
        let optimised = match kept {
            Some(kept) => kept,
            None => {
                let logical = match (ask, statement) {
                    (Ask::Range(filter), _) => self.plan_range(context, Arc::clone(&table), filter)?,
                    (Ask::Sql(_), Some(statement)) => plan_sql(&session, statement).await?,
                    (Ask::Sql(_), None) => return Err(PlanError::Failed("a statement was not parsed".to_owned())),
                };
                let logical = limited(logical, limit)?;
                let optimised = state.optimize(&logical)?;
                if let Some(asked) = asked {
                    self.plans.keep(asked, &logical, &optimised, &context.hop.schema);
                }
                optimised
            }
        };
        let threads = state.config().target_partitions();
        state.config_mut().options_mut().execution.target_partitions = match table.rows_expected(&optimised) {
            Some(rows) if rows < rows_to_divide_min(&optimised) => 1,
            _ => threads,
        };
        // The session's own way would optimise it once more.
        let plan = state.query_planner().create_physical_plan(&optimised, &state).await?;
        Ok((plan, session.task_ctx()))
    }

    fn plan_range(
        &self,
        context: &QueryContext,
        table: Arc<OverlayTable>,
        filter: &RangeFilter,
    ) -> Result<LogicalPlan, PlanError> {
        let schema = table.schema();
        let mut builder = LogicalPlanBuilder::scan(self.table.as_str(), provider_as_source(table), None)?;
        if let Some(condition) = filter.to_expr(&context.partitions) {
            builder = builder.filter(condition)?;
        }
        if !filter.columns.is_empty() {
            for (index, name) in filter.columns.iter().enumerate() {
                if schema.index_of(name).is_err() {
                    return Err(PlanError::Invalid(format!("no column {name:?}; there are {}", column_names(&schema))));
                }
                if filter.columns[..index].contains(name) {
                    return Err(PlanError::Invalid(format!("column {name:?} is named twice")));
                }
            }
            builder = builder.project(filter.columns.iter().map(|name| col(name.as_str())))?;
        }
        Ok(builder.build()?)
    }

    /// A session of its own for a query, with this one table: only its catalog is new.
    fn session(&self, table: Arc<OverlayTable>) -> Result<SessionContext> {
        let names = &self.state.config_options().catalog;
        let (schema, catalog) = (Arc::new(MemorySchemaProvider::new()), Arc::new(MemoryCatalogProvider::new()));
        schema.register_table(self.table.clone(), table)?;
        catalog.register_schema(&names.default_schema, schema)?;
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        catalogs.register_catalog(names.default_catalog.clone(), catalog);
        let state = SessionStateBuilder::new_from_existing(self.state.clone()).with_catalog_list(catalogs).build();
        Ok(SessionContext::new_with_state(state))
    }
}

fn session_state(runtime: Arc<RuntimeEnv>, target_partitions: usize) -> SessionState {
    let mut config = SessionConfig::new()
        .with_target_partitions(target_partitions)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(true);
    let options = config.options_mut();
    options.execution.enable_recursive_ctes = false;
    // See the notes on engines: a partition polled alone would drain its siblings.
    options.execution.enable_file_stream_work_stealing = false;
    // An answer from statistics would be one without coverage; so they may be exact.
    let rules = PhysicalOptimizer::new().rules.into_iter().filter(|rule| rule.name() != "aggregate_statistics");
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_physical_optimizer_rules(rules.collect());
    // Table functions make rows out of nothing (generate_series, range).
    state.table_functions().get_or_insert_default().clear();
    let functions = by_distinct(state.scalar_functions().take().unwrap_or_default());
    if let Some(extract) = ExtractByDistinct::of(&functions) {
        // The first planner that knows what to do does it.
        state.expr_planners().get_or_insert_default().insert(0, Arc::new(extract));
    }
    state.with_scalar_functions(functions).build()
}

fn rows_to_divide_min(plan: &LogicalPlan) -> f64 {
    let sorts = plan.exists(|node| Ok(matches!(node, LogicalPlan::Window(_))));
    if sorts.unwrap_or(false) { ROWS_TO_SORT_DIVIDED_MIN } else { ROWS_TO_DIVIDE_MIN }
}

async fn plan_sql(session: &SessionContext, statement: Statement) -> Result<LogicalPlan, PlanError> {
    let logical = session.state().statement_to_plan(statement).await?;
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&logical)?;
    sql_gate::check_plan(&logical)?;
    Ok(logical)
}

/// The plan with no more rows than the limit.
fn limited(logical: LogicalPlan, limit: Option<u64>) -> Result<LogicalPlan> {
    match (limit, &logical) {
        // EXPLAIN has a plan of its own kind, which must stay the root.
        (Some(limit), plan) if !matches!(plan, LogicalPlan::Explain(_)) => {
            let fetch = usize::try_from(limit).unwrap_or(usize::MAX);
            LogicalPlanBuilder::from(logical).limit(0, Some(fetch))?.build()
        }
        _ => Ok(logical),
    }
}

fn column_names(schema: &SchemaRef) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

impl QueryPlan {
    /// The schema of the answer.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// Whether it computes nothing: it is nothing but a leaf, and rows leave it as they come.
    pub fn passes_rows_on(&self) -> bool {
        self.plan.is::<OverlayScanExec>()
    }

    /// Lets what the plan computes be computed in turns, and told to their meter, where it is more than passing rows on.
    /// Gives whether that is so; if not, whoever reads the plan is to meter it.
    pub fn take_turns(&mut self, taking: &TakesTurns) -> Result<bool> {
        if self.is_short || self.passes_rows_on() {
            return Ok(false);
        }
        self.plan = in_turns(Arc::clone(&self.plan), taking)?;
        Ok(true)
    }

    /// Starts the plan on the current runtime. A plan that is nothing but a leaf gives its rows as they came; if they are
    /// wanted `packed`, because they go on so, this node's own are packed where they are scanned.
    pub fn execute(&self, packed: bool) -> Result<BoxStream<'static, Result<Arrived>>> {
        if let Some(leaf) = self.plan.downcast_ref::<OverlayScanExec>() {
            return Ok(leaf.arrivals(packed));
        }
        let batches = execute_stream(Arc::clone(&self.plan), Arc::clone(&self.task))?;
        Ok(batches.map_ok(Arrived::from).boxed())
    }
}

/// Whether what is below may end early: for a limit, unless something between reads all of it first; for a join,
/// always, because one side may show that the other is not needed.
#[derive(Clone, Copy, Default)]
struct MayStop {
    limit: bool,
    join: bool,
}

/// Tells the coverage sink about every leaf of the final plan.
fn register_leaves(
    plan: &Arc<dyn ExecutionPlan>,
    context: &QueryContext,
    mut may_stop: MayStop,
    each: &mut dyn FnMut(&OverlayScanExec),
) -> Result<()> {
    if let Some(leaf) = plan.downcast_ref::<OverlayScanExec>() {
        let may = may_stop.limit || may_stop.join || leaf.fetch().is_some();
        context.sink.planned(leaf.leaf(), may, leaf.pruned());
        each(leaf);
    }
    if plan.is::<SortExec>() {
        may_stop.limit = false;
    } else {
        may_stop.limit |= plan.fetch().is_some();
    }
    may_stop.join |= plan.is::<HashJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<SymmetricHashJoinExec>()
        || plan.is::<CrossJoinExec>();
    for child in plan.children() {
        register_leaves(child, context, may_stop, each)?;
    }
    Ok(())
}

/// A registry without stores: `SELECT * FROM '/etc/passwd.csv'` finds nothing.
#[derive(Debug)]
struct NoStores;

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &url::Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &url::Url) -> Result<Arc<dyn ObjectStore>> {
        Err(DataFusionError::Plan(format!("no files or object stores can be read here, so not {url}")))
    }
}
