//! The filter query of the earlier systems: a parameter, a range, dates, a box, columns.

use datafusion::functions::string::expr_fn::lower;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::scalar::ScalarValue;
use overlay_ingest::DateRange;

use super::reader::PinnedPartition;

/// A box on the map, edges included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundingBox {
    pub south: f64,
    pub west: f64,
    pub north: f64,
    pub east: f64,
}

/// Conditions that all have to hold; bounds are inclusive, and a missing concentration matches no bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RangeFilter {
    /// Compared without regard to letter case.
    pub parameter: Option<String>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// UTC dates, both whole days.
    pub dates: Option<DateRange>,
    pub bbox: Option<BoundingBox>,
    /// The columns wanted, in this order; empty means all.
    pub columns: Vec<String>,
}

impl RangeFilter {
    /// The conditions as one expression, or `None` when every row matches.
    pub fn to_expr(&self, partitions: &[PinnedPartition]) -> Option<Expr> {
        let mut conditions = Vec::new();
        if let Some(parameter) = &self.parameter {
            conditions.push(same_parameter(parameter, partitions));
        }
        if let Some(min) = self.min {
            conditions.push(col("concentration").gt_eq(lit(min)));
        }
        if let Some(max) = self.max {
            conditions.push(col("concentration").lt_eq(lit(max)));
        }
        if let Some(dates) = self.dates {
            let second = |seconds| lit(ScalarValue::TimestampSecond(Some(seconds), Some("UTC".into())));
            conditions.push(col("utc").gt_eq(second(dates.from.unix_seconds())));
            conditions.push(col("utc").lt(second(dates.to.next().unix_seconds())));
        }
        if let Some(bbox) = self.bbox {
            conditions.push(col("latitude").between(lit(bbox.south), lit(bbox.north)));
            conditions.push(col("longitude").between(lit(bbox.west), lit(bbox.east)));
        }
        conditions.into_iter().reduce(Expr::and)
    }
}

/// Where every partition says which parameters it has, the spellings that occur are compared with, which statistics
/// can decide; else every value is brought to lower case, which they cannot.
fn same_parameter(parameter: &str, partitions: &[PinnedPartition]) -> Expr {
    let wanted = parameter.to_lowercase();
    let mut spellings = Vec::new();
    for partition in partitions {
        let Some(names) = partition.stats.as_ref().and_then(|stats| stats.parameters.as_ref()) else {
            return lower(col("parameter")).eq(lit(wanted));
        };
        spellings.extend(names.iter().filter(|name| name.to_lowercase() == wanted));
    }
    spellings.sort_unstable();
    spellings.dedup();
    let condition = spellings.iter().map(|name| col("parameter").eq(lit(name.as_str()))).reduce(Expr::or);
    // No partition has it: a value that occurs nowhere, so that all are pruned and the answer still has coverage.
    condition.unwrap_or_else(|| col("parameter").eq(lit(parameter)))
}
