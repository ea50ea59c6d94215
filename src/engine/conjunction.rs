//! Predicates that plain comparisons decide: conditions on single columns that all have to hold.
//!
//! Range queries, point queries and most filters that people write are of this form. For them a zone is decided from
//! the bounds of its columns, counted from its index, or compared value by value in a tight loop; see
//! [`super::typed_zones`]. Every other predicate is DataFusion's to evaluate, which stays the reference: a test holds
//! both equal on random rows and predicates.
//!
//! The argument for equal answers: DataFusion compares floats by their total order, but for the two zeros, which are
//! equal, and [`order_key`] maps that order to the order of integers, so that every comparison with a constant is a range
//! of integers; texts are compared for equality only; and a comparison with null is never true, so a row with a null in a
//! column that is asked about never matches.
//! What is not recognised gives `None`, never an approximation.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, InListExpr, Literal};
use overlay_ingest::PartitionStats;
use overlay_ingest::stats::Bounds;

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// The value lies between the two, both included, in the order of [`order_key`] or of the integers themselves.
    /// `low > high` means that no value does.
    Number { column: usize, low: i64, high: i64 },
    /// The text is one of these.
    Text { column: usize, any_of: Vec<String> },
}

impl Term {
    /// The column that it is about.
    pub fn column(&self) -> usize {
        match self {
            Term::Number { column, .. } | Term::Text { column, .. } => *column,
        }
    }
}

/// Conditions that all have to hold, at most one of each kind a column. None at all: every row matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conjunction {
    pub terms: Vec<Term>,
}

/// A float's place in the total order of floats, as an integer; both zeros have the same.
pub fn order_key(value: f64) -> i64 {
    // Adding 0.0 changes nothing but -0.0, to 0.0.
    let bits = (value + 0.0).to_bits() as i64;
    // Among negative floats more bits mean less, so theirs are turned around.
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The float of this place: the inverse of [`order_key`].
pub fn float_of_key(key: i64) -> f64 {
    f64::from_bits((key ^ (((key >> 63) as u64) >> 1) as i64) as u64)
}

impl Conjunction {
    /// The predicate in this form, or `None` if it is not of it.
    pub fn of(predicate: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Conjunction> {
        let mut conjunction = Conjunction::default();
        conjunction.add(predicate, schema)?;
        Some(conjunction)
    }

    fn add(&mut self, predicate: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<()> {
        if let Some(binary) = predicate.downcast_ref::<BinaryExpr>() {
            if *binary.op() == Operator::And {
                self.add(binary.left(), schema)?;
                return self.add(binary.right(), schema);
            }
            if *binary.op() == Operator::Or {
                let (left, right) = (Conjunction::of(binary.left(), schema)?, Conjunction::of(binary.right(), schema)?);
                let ([Term::Text { column, any_of }], [Term::Text { column: same, any_of: more }]) =
                    (left.terms.as_slice(), right.terms.as_slice())
                else {
                    return None;
                };
                return (column == same).then(|| self.insert_text(*column, [any_of.clone(), more.clone()].concat()));
            }
            if let Some(constant) = binary.right().downcast_ref::<Literal>() {
                return self.compare(binary.left(), *binary.op(), constant.value(), schema);
            }
            let constant = binary.left().downcast_ref::<Literal>()?;
            return self.compare(binary.right(), binary.op().swap()?, constant.value(), schema);
        }
        let list = predicate.downcast_ref::<InListExpr>().filter(|list| !list.negated())?;
        let column = text_column(list.expr(), schema)?;
        let texts = list.list().iter().map(|value| text_of(value.downcast_ref::<Literal>()?.value()));
        self.insert_text(column, texts.collect::<Option<Vec<String>>>()?);
        Some(())
    }

    fn compare(
        &mut self,
        of: &Arc<dyn PhysicalExpr>,
        operator: Operator,
        constant: &ScalarValue,
        schema: &Schema,
    ) -> Option<()> {
        if let Some(column) = text_column(of, schema) {
            if operator != Operator::Eq {
                return None;
            }
            self.insert_text(column, vec![text_of(constant)?]);
            return Some(());
        }
        let column = of.downcast_ref::<Column>()?.index();
        let value = number_of(constant, schema.fields().get(column)?.data_type())?;
        // One past either end of the integers is an empty range.
        let (low, high) = match operator {
            Operator::Eq => (value, value),
            Operator::GtEq => (value, i64::MAX),
            Operator::LtEq => (i64::MIN, value),
            Operator::Gt => value.checked_add(1).map_or((1, 0), |low| (low, i64::MAX)),
            Operator::Lt => value.checked_sub(1).map_or((1, 0), |high| (i64::MIN, high)),
            _ => return None,
        };
        self.insert_number(column, low, high);
        Some(())
    }

    /// Adds a condition on numbers.
    pub fn insert_number(&mut self, column: usize, low: i64, high: i64) {
        for term in &mut self.terms {
            if let Term::Number { column: same, low: known_low, high: known_high } = term
                && *same == column
            {
                *known_low = low.max(*known_low);
                *known_high = high.min(*known_high);
                return;
            }
        }
        self.terms.push(Term::Number { column, low, high });
    }

    /// Adds a condition on a text.
    pub fn insert_text(&mut self, column: usize, mut texts: Vec<String>) {
        texts.sort_unstable();
        texts.dedup();
        for term in &mut self.terms {
            if let Term::Text { column: same, any_of } = term
                && *same == column
            {
                any_of.retain(|text| texts.binary_search(text).is_ok());
                return;
            }
        }
        self.terms.push(Term::Text { column, any_of: texts });
    }

    /// Whether a partition of these statistics may hold a matching row. What is not known never rules it out.
    pub fn may_match(&self, stats: &PartitionStats, schema: &Schema) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Number { column, low, high } => {
                let bounds = bounds_of(stats, schema.field(*column).name());
                low <= high && bounds.is_none_or(|(least, greatest)| *low <= greatest && least <= *high)
            }
            Term::Text { column, any_of } => match (&stats.parameters, schema.field(*column).name().as_str()) {
                (Some(names), "parameter") => any_of.iter().any(|text| names.contains(text)),
                _ => !any_of.is_empty(),
            },
        })
    }
}

/// The bounds of a column of a partition, in the form of [`Term::Number`].
fn bounds_of(stats: &PartitionStats, column: &str) -> Option<(i64, i64)> {
    let integers = |bounds: Option<Bounds<i64>>| bounds.map(|b| (b.min, b.max));
    let floats = |bounds: Option<Bounds<f64>>| {
        // Statistics compare as floats do: a bound of NaN says nothing of the order here.
        let bounds = bounds.filter(|b| !b.min.is_nan() && !b.max.is_nan())?;
        Some((order_key(bounds.min), order_key(bounds.max)))
    };
    match column {
        "latitude" => floats(stats.latitude),
        "longitude" => floats(stats.longitude),
        "concentration" => floats(stats.concentration),
        "raw_concentration" => floats(stats.raw_concentration),
        "utc" => integers(stats.utc),
        "aqi" => integers(stats.aqi),
        "category" => integers(stats.category),
        _ => None,
    }
}

/// The text column that is compared, also through a cast of a dictionary to its texts.
fn text_column(of: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<usize> {
    let column = match of.downcast_ref::<CastExpr>() {
        Some(cast) if is_text(cast.cast_type()) => cast.expr().downcast_ref::<Column>()?,
        Some(_) => return None,
        None => of.downcast_ref::<Column>()?,
    };
    match schema.fields().get(column.index())?.data_type() {
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => Some(column.index()),
        _ => None,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn text_of(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Dictionary(_, value) => text_of(value),
        value => value.try_as_str().flatten().map(str::to_owned),
    }
}

/// The constant as a number, if it is of exactly the column's type.
fn number_of(value: &ScalarValue, column: &DataType) -> Option<i64> {
    match (value, column) {
        (ScalarValue::Float64(value), DataType::Float64) => value.map(order_key),
        (ScalarValue::Int64(value), DataType::Int64) => *value,
        (ScalarValue::Int16(value), DataType::Int16) => value.map(i64::from),
        (ScalarValue::Int8(value), DataType::Int8) => value.map(i64::from),
        (ScalarValue::TimestampSecond(value, _), DataType::Timestamp(TimeUnit::Second, _)) => *value,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_floats_are_in_their_total_order() {
        let values = [
            -f64::NAN,
            f64::NEG_INFINITY,
            f64::MIN,
            -5.0,
            -f64::MIN_POSITIVE,
            0.0,
            f64::MIN_POSITIVE,
            0.1,
            5.0,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        for (a, b) in values.iter().flat_map(|a| values.iter().map(move |b| (a, b))) {
            assert_eq!(order_key(*a).cmp(&order_key(*b)), a.total_cmp(b), "{a} {b}");
        }
        assert_eq!(order_key(-0.0), order_key(0.0));
        for value in values {
            assert_eq!(float_of_key(order_key(value)).to_bits(), value.to_bits(), "{value}");
        }
    }

    #[test]
    fn a_partition_is_ruled_out_only_by_what_is_known() {
        let schema = overlay_ingest::observations();
        let column = schema.index_of("concentration").unwrap();
        let mut stats = PartitionStats { rows: 1, ..PartitionStats::default() };
        let check = |stats: &PartitionStats, low: f64, high: f64, expected: bool| {
            let mut conjunction = Conjunction::default();
            conjunction.insert_number(column, order_key(low), order_key(high));
            assert_eq!(conjunction.may_match(stats, &schema), expected, "{low} {high}");
        };
        check(&stats, 5.0, 6.0, true);
        stats.concentration = Some(Bounds { min: 0.0, max: 5.0 });
        check(&stats, 5.0, 6.0, true);
        check(&stats, 5.1, 6.0, false);
        check(&stats, -0.0, -0.0, true);
        check(&stats, 3.0, 2.0, false);
        stats.concentration = Some(Bounds { min: f64::NAN, max: f64::NAN });
        check(&stats, 5.1, 6.0, true);
    }
}
