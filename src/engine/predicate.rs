//! Predicates: how they cross the wire, and how a node applies one to its zones.
//!
//! A predicate is a DataFusion physical expression over the whole table. DataFusion evaluates it, here as anywhere
//! else, and prunes with it over our statistics; but where it is a [`Conjunction`], plain comparisons do both.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion_proto::physical_plan::DefaultPhysicalExtensionCodec;
use datafusion_proto::physical_plan::from_proto::parse_physical_expr;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr;
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;

use super::conjunction::Conjunction;
use super::message::ScanPath;
use super::typed_zones::{ResolvedTerms, TypedZones};
use super::zone_rows::ZoneRows;
use crate::delivery::encoding::packed::RowsByRun;

/// The predicate in the form that crosses the wire.
pub fn encode(predicate: &Arc<dyn PhysicalExpr>) -> Result<Vec<u8>> {
    let node = serialize_physical_expr(predicate, &DefaultPhysicalExtensionCodec {})?;
    Ok(node.encode_to_vec())
}

/// The predicate back from the wire. Fails on damaged bytes, on a function that `functions` does not have, and on
/// columns that `schema` does not have.
pub fn decode(bytes: &[u8], functions: &TaskContext, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let node = PhysicalExprNode::decode(bytes)
        .map_err(|error| DataFusionError::Plan(format!("a predicate cannot be decoded: {error}")))?;
    parse_physical_expr(&node, functions, schema, &DefaultPhysicalExtensionCodec {})
}

/// A predicate and projection, ready to be applied to zones.
pub struct ZoneFilter {
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The same over only the columns that it asks about, which are these.
    predicate_of_columns: Option<(Arc<dyn PhysicalExpr>, Vec<usize>)>,
    /// The predicate as plain comparisons, where it is of that form and the path allows it.
    conjunction: Option<Conjunction>,
    /// Made when it is first asked for: plain comparisons do without.
    pruning: OnceLock<Option<PruningPredicate>>,
    schema: SchemaRef,
    projection: Vec<usize>,
    path: ScanPath,
}

impl ZoneFilter {
    /// Fails if the projection names a column that the table does not have.
    pub fn new(
        predicate: Option<Arc<dyn PhysicalExpr>>,
        projection: Vec<usize>,
        schema: &SchemaRef,
        path: ScanPath,
    ) -> Result<ZoneFilter> {
        if let Some(column) = projection.iter().find(|column| **column >= schema.fields().len()) {
            return Err(DataFusionError::Plan(format!("no column {column} in a table of {}", schema.fields().len())));
        }
        let conjunction = match (&predicate, path) {
            (_, ScanPath::Reference) => None,
            (None, _) => Some(Conjunction::default()),
            (Some(predicate), _) => Conjunction::of(predicate, schema),
        };
        let predicate_of_columns =
            predicate.as_ref().map(|predicate| over_own_columns(predicate, schema)).transpose()?;
        let pruning = OnceLock::new();
        Ok(ZoneFilter {
            predicate,
            predicate_of_columns,
            conjunction,
            pruning,
            schema: Arc::clone(schema),
            projection,
            path,
        })
    }

    /// For each container whether it may hold a matching row.
    pub fn may_match(&self, statistics: &dyn PruningStatistics) -> Vec<bool> {
        let pruning =
            self.pruning.get_or_init(|| self.predicate.as_ref().and_then(|predicate| pruning(predicate, &self.schema)));
        prune(pruning.as_ref(), statistics)
    }

    /// The predicate as it reads in this partition, if plain comparisons decide it there.
    pub fn resolve<'a>(&self, zones: &'a TypedZones) -> Option<ResolvedTerms<'a>> {
        zones.resolve(self.conjunction.as_ref()?)
    }

    /// The columns that the predicate asks about, by position, ascending; none without one.
    pub fn predicate_columns(&self) -> &[usize] {
        self.predicate_of_columns.as_ref().map_or(&[], |(_, columns)| columns)
    }

    /// The columns that are wanted, by position.
    pub fn projection(&self) -> &[usize] {
        &self.projection
    }

    /// Whether every row matches.
    pub fn takes_all(&self) -> bool {
        self.predicate.is_none()
    }

    /// Whether only the number of rows is wanted.
    pub fn counts_only(&self) -> bool {
        self.projection.is_empty()
    }

    /// Whether counts that were kept beside the rows may answer.
    pub fn may_use_index(&self) -> bool {
        self.path == ScanPath::Any
    }

    /// The rows of a zone that match, evaluated by DataFusion over the columns that it asks about.
    pub fn apply(&self, zone: &ZoneRows) -> Result<Matches> {
        let Some((predicate, columns)) = &self.predicate_of_columns else { return Ok(Matches::all(zone)) };
        let batch = zone.select(columns, None, false)?;
        let mask = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
        let mask = mask
            .as_boolean_opt()
            .ok_or_else(|| DataFusionError::Plan(format!("a predicate must be boolean, not {}", mask.data_type())))?;
        let mask = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
        Ok(Matches::of(mask.values().clone()))
    }

    /// The same by plain comparisons of the conditions that the zone's bounds left open. Where only their number is wanted,
    /// it is not said which rows they are.
    pub fn apply_typed(&self, zone: &ZoneRows, terms: &ResolvedTerms<'_>, open: &[usize]) -> Result<Matches> {
        if self.counts_only()
            && let Some(rows) = terms.count_by_comparing(zone, open)
        {
            return Ok(Matches { rows: rows as usize, kept: None });
        }
        match terms.mask(zone, open) {
            Some(mask) => Ok(Matches::of(mask)),
            None => self.apply(zone),
        }
    }

    /// The first `count` matching rows, projected; texts spelled out if `plain`.
    pub fn take(&self, zone: &ZoneRows, matches: &Matches, count: usize, plain: bool) -> Result<RecordBatch> {
        let all = zone.select(&self.projection, matches.kept.as_ref(), plain)?;
        Ok(if count < all.num_rows() { all.slice(0, count) } else { all })
    }

    /// All matching rows, projected, ready to be packed.
    pub fn take_by_run(&self, zone: &ZoneRows, matches: &Matches) -> Result<RowsByRun> {
        Ok(zone.select_by_run(&self.projection, matches.kept.as_ref())?)
    }

    /// Columns that the predicate or the projection touches, by position.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        let mut columns = self.projection.clone();
        if let Some(predicate) = &self.predicate {
            columns.extend(collect_columns(predicate).iter().map(|column| column.index()));
        }
        columns.sort_unstable();
        columns.dedup();
        columns.into_iter()
    }
}

/// The matching rows of one zone, before they are copied out.
pub struct Matches {
    /// Rows that match.
    pub rows: usize,
    /// Which; `None`: all, or nobody asks.
    kept: Option<BooleanBuffer>,
}

impl Matches {
    /// Every row.
    pub fn all(zone: &ZoneRows) -> Matches {
        Matches { rows: zone.len(), kept: None }
    }

    /// Those of one zone and of the next, as of one.
    pub fn joined(self, zone: &ZoneRows, next: Matches, next_zone: &ZoneRows) -> Matches {
        let rows = self.rows + next.rows;
        if self.kept.is_none() && next.kept.is_none() {
            return Matches { rows, kept: None };
        }
        let mut both = BooleanBufferBuilder::new(zone.len() + next_zone.len());
        for (kept, zone) in [(&self.kept, zone), (&next.kept, next_zone)] {
            match kept {
                Some(kept) => both.append_buffer(kept),
                None => both.append_n(zone.len(), true),
            }
        }
        Matches { rows, kept: Some(both.finish()) }
    }

    /// No row.
    pub fn none(zone: &ZoneRows) -> Matches {
        Matches::of(BooleanBuffer::new_unset(zone.len()))
    }

    fn of(mask: BooleanBuffer) -> Matches {
        Matches { rows: mask.count_set_bits(), kept: Some(mask) }
    }
}

/// A predicate over the table as one over only the columns that it asks about, with their places in the table.
fn over_own_columns(
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Result<(Arc<dyn PhysicalExpr>, Vec<usize>)> {
    let mut columns: Vec<usize> = collect_columns(predicate).iter().map(|column| column.index()).collect();
    columns.sort_unstable();
    columns.dedup();
    let own = reassign_expr_columns(Arc::clone(predicate), &schema.project(&columns)?)?;
    Ok((own, columns))
}

/// What can be pruned with, or nothing for a predicate that no statistics can decide.
pub fn pruning(predicate: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Option<PruningPredicate> {
    let pruning =
        PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(Arc::clone(predicate)).ok()?;
    (!pruning.always_true()).then_some(pruning)
}

/// For each container whether it may hold a matching row; a predicate that cannot be decided prunes nothing.
pub fn prune(pruning: Option<&PruningPredicate>, statistics: &dyn PruningStatistics) -> Vec<bool> {
    pruning
        .and_then(|pruning| pruning.prune(statistics).ok())
        .unwrap_or_else(|| vec![true; statistics.num_containers()])
}

#[cfg(test)]
mod tests {
    use datafusion::common::ToDFSchema;
    use datafusion::prelude::SessionContext;
    use overlay_ingest::schema::observations;
    use overlay_ingest::stats::Bounds;
    use overlay_ingest::{DateRange, PartitionStats};

    use super::*;
    use crate::engine::filter::RangeFilter;
    use crate::engine::reader::PinnedPartition;
    use crate::engine::statistics::PartitionBounds;

    fn physical(filter: &RangeFilter, partitions: &[PinnedPartition]) -> Arc<dyn PhysicalExpr> {
        let schema = Arc::clone(&observations()).to_dfschema().unwrap();
        let expr = filter.to_expr(partitions).unwrap();
        SessionContext::new().create_physical_expr(expr, &schema).unwrap()
    }

    fn partition(day: u8, parameters: &[&str], concentration: (f64, f64)) -> PinnedPartition {
        let date = overlay_ingest::Date::new(2020, 8, day).unwrap();
        let stats = PartitionStats {
            rows: 10,
            parameters: Some(parameters.iter().map(|name| (*name).to_owned()).collect()),
            utc: Some(Bounds { min: date.unix_seconds(), max: date.unix_seconds() + 82_800 }),
            concentration: Some(Bounds { min: concentration.0, max: concentration.1 }),
            ..PartitionStats::default()
        };
        PinnedPartition { id: overlay_ingest::PartitionId { date, digest: 0 }, stats: Some(stats) }
    }

    #[test]
    fn statistics_rule_partitions_out() {
        let mut partitions = vec![
            partition(10, &["CO", "PM2.5"], (0.0, 20.0)),
            partition(14, &["CO", "pm2.5"], (0.0, 90.0)),
            partition(15, &["CO"], (0.0, 90.0)),
        ];
        let check = |filter: &RangeFilter, partitions: &[PinnedPartition], expected: &[bool]| {
            let predicate = physical(filter, partitions);
            let pruning = pruning(&predicate, &observations()).expect("statistics can decide this");
            let bounds = PartitionBounds(partitions.iter().map(|partition| partition.stats.as_ref()).collect());
            assert_eq!(pruning.prune(&bounds).unwrap(), expected, "{predicate}");
        };
        let range = |min, max| RangeFilter { min: Some(min), max: Some(max), ..RangeFilter::default() };
        check(&range(30.0, 40.0), &partitions, &[false, true, true]);
        check(&range(20.0, 20.0), &partitions, &[true, true, true]);
        check(&range(95.0, 99.0), &partitions, &[false, false, false]);
        let parameter = RangeFilter { parameter: Some("Pm2.5".into()), ..RangeFilter::default() };
        check(&parameter, &partitions, &[true, true, false]);
        let day = |text: &str| text.parse().unwrap();
        let dates = DateRange { from: day("20200814"), to: day("20200814") };
        check(&RangeFilter { dates: Some(dates), ..RangeFilter::default() }, &partitions, &[false, true, false]);
        partitions[0].stats = None;
        check(&range(95.0, 99.0), &partitions, &[true, false, false]);
    }
}
