//! What the planner is told of a leaf before it runs: how many rows it will give, and between which values they lie.
//!
//! Of a leaf without a predicate this is exact: the manifest has counted. With one it is a guess, and only decides what
//! costs how much: which side of a join is kept in memory, whether work is worth dividing. No answer is ever taken from
//! it, exact or not, because it would be an answer without coverage: [`super::session`] leaves out the rule that does.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use overlay_ingest::PartitionStats;
use overlay_ingest::stats::Bounds;

use super::conjunction::{Conjunction, Term, float_of_key};
use super::reader::PinnedPartition;

/// The share of rows that a condition of which nothing is known lets through; what DataFusion assumes.
const UNKNOWN_SHARE: f64 = 0.2;
/// Of a range of measurements. They crowd near the least of them, so where a range lies between their bounds says little.
const RANGE_SHARE: f64 = 0.33;
/// Of one measurement.
const EQUAL_SHARE: f64 = 0.02;
/// Of one site's name or number: a day has some hundreds.
const SITE_SHARE: f64 = 0.002;

/// What a leaf asks.
pub enum Asked<'a> {
    Everything,
    Rows(&'a Conjunction),
    /// A predicate that only DataFusion can read.
    SomeRows,
}

/// The rows that these partitions will give; `None` if one was never counted.
pub fn rows_expected(partitions: &[PinnedPartition], asked: &Asked<'_>, schema: &Schema) -> Option<f64> {
    let of = |partition: &PinnedPartition| {
        let stats = partition.stats.as_ref()?;
        let share = match asked {
            Asked::Everything => 1.0,
            Asked::SomeRows => UNKNOWN_SHARE,
            Asked::Rows(conjunction) if !conjunction.may_match(stats, schema) => 0.0,
            Asked::Rows(conjunction) => conjunction.terms.iter().map(|term| share(term, stats, schema)).product(),
        };
        Some(stats.rows as f64 * share)
    };
    partitions.iter().map(of).sum()
}

/// Rows and bounds of a leaf over these partitions; `projection` are its columns of the table.
pub fn leaf_statistics(
    partitions: &[PinnedPartition],
    asked: &Asked<'_>,
    schema: &Schema,
    projection: &[usize],
    limit: Option<u64>,
) -> Statistics {
    let unknown = || Statistics {
        num_rows: Precision::Absent,
        total_byte_size: Precision::Absent,
        column_statistics: vec![ColumnStatistics::new_unknown(); projection.len()],
    };
    let Some(rows) = rows_expected(partitions, asked, schema) else { return unknown() };
    let Some(stats) = partitions.iter().map(|partition| partition.stats.as_ref()).collect::<Option<Vec<_>>>() else {
        return unknown();
    };
    let rows = limit.map_or(rows, |limit| rows.min(limit as f64)).ceil() as usize;
    let is_exact = matches!(asked, Asked::Everything);
    let width = projection.iter().map(|column| schema.field(*column).data_type().primitive_width().unwrap_or(4));
    let bytes = rows.saturating_mul(width.sum::<usize>().max(1));
    let told = |column: &usize| {
        let known = column_statistics(schema, *column, &stats);
        if is_exact && limit.is_none() { known } else { known.to_inexact() }
    };
    Statistics {
        num_rows: if is_exact { Precision::Exact(rows) } else { Precision::Inexact(rows) },
        total_byte_size: Precision::Inexact(bytes),
        column_statistics: projection.iter().map(told).collect(),
    }
}

/// The share of a partition's rows that meet a condition.
fn share(term: &Term, stats: &PartitionStats, schema: &Schema) -> f64 {
    match term {
        Term::Text { column, any_of } => match (schema.field(*column).name().as_str(), &stats.parameters) {
            ("parameter", Some(names)) => {
                any_of.iter().filter(|text| names.contains(text)).count() as f64 / names.len().max(1) as f64
            }
            _ => (any_of.len() as f64 * SITE_SHARE).min(1.0),
        },
        Term::Number { column, low, high } => match schema.field(*column).name().as_str() {
            // The hours of a day have about as many rows each.
            "utc" => stats.utc.map_or(UNKNOWN_SHARE, |hours| {
                let rows_of = |seconds: i64| seconds as f64 / 3600.0 + 1.0;
                let (low, high) = (hours.min.max(*low), hours.max.min(*high));
                (rows_of(high.saturating_sub(low).max(0)) / rows_of(hours.max - hours.min)).min(1.0)
            }),
            "latitude" => of_span(stats.latitude, *low, *high),
            "longitude" => of_span(stats.longitude, *low, *high),
            _ if low == high => EQUAL_SHARE,
            _ => RANGE_SHARE,
        },
    }
}

/// The part of a span of degrees that lies in a range.
fn of_span(span: Option<Bounds<f64>>, low: i64, high: i64) -> f64 {
    let Some(span) = span else { return UNKNOWN_SHARE };
    let (low, high) = (span.min.max(float_of_key(low)), span.max.min(float_of_key(high)));
    match span.max - span.min {
        width if width > 0.0 => ((high - low) / width).clamp(SITE_SHARE, 1.0),
        _ => 1.0,
    }
}

fn column_statistics(schema: &Schema, column: usize, stats: &[&PartitionStats]) -> ColumnStatistics {
    let field = schema.field(column);
    let unknown = ColumnStatistics::new_unknown();
    let floats = |of: fn(&PartitionStats) -> Option<Bounds<f64>>| {
        let bounds = stats.iter().map(|stats| of(stats)).collect::<Option<Vec<_>>>()?;
        let (least, greatest) =
            (bounds.iter().map(|b| b.min).reduce(f64::min)?, bounds.iter().map(|b| b.max).reduce(f64::max)?);
        Some((ScalarValue::Float64(Some(least)), ScalarValue::Float64(Some(greatest))))
    };
    let integers = |of: fn(&PartitionStats) -> Option<Bounds<i64>>| {
        let bounds = stats.iter().map(|stats| of(stats)).collect::<Option<Vec<_>>>()?;
        let value = |value: i64| -> Option<ScalarValue> {
            Some(match field.data_type() {
                DataType::Int8 => ScalarValue::Int8(Some(i8::try_from(value).ok()?)),
                DataType::Int16 => ScalarValue::Int16(Some(i16::try_from(value).ok()?)),
                DataType::Timestamp(_, zone) => ScalarValue::TimestampSecond(Some(value), zone.clone()),
                _ => return None,
            })
        };
        value(bounds.iter().map(|b| b.min).min()?).zip(value(bounds.iter().map(|b| b.max).max()?))
    };
    let bounds = match field.name().as_str() {
        "latitude" => floats(|stats| stats.latitude),
        "longitude" => floats(|stats| stats.longitude),
        "concentration" => floats(|stats| stats.concentration),
        "raw_concentration" => floats(|stats| stats.raw_concentration),
        "utc" => integers(|stats| stats.utc),
        "aqi" => integers(|stats| stats.aqi),
        "category" => integers(|stats| stats.category),
        "parameter" => {
            let lists = stats.iter().map(|stats| stats.parameters.as_deref()).collect::<Option<Vec<_>>>();
            let distinct = lists.map(|lists| lists.iter().flat_map(|list| list.iter()).collect::<BTreeSet<_>>().len());
            let distinct_count = distinct.map_or(Precision::Absent, Precision::Inexact);
            return ColumnStatistics { distinct_count, ..unknown };
        }
        _ => None,
    };
    match bounds {
        // A day without a value has no bounds either, and then nothing is said of the column.
        Some((least, greatest)) => {
            ColumnStatistics { min_value: Precision::Exact(least), max_value: Precision::Exact(greatest), ..unknown }
        }
        None => unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use overlay_ingest::{Date, PartitionId, observations};

    use super::*;
    use crate::engine::conjunction::order_key;

    fn day(day: u8, rows: u64) -> PinnedPartition {
        let date = Date::new(2020, 8, day).unwrap();
        let stats = PartitionStats {
            rows,
            parameters: Some(["CO", "OZONE", "PM2.5", "SO2"].map(str::to_owned).into_iter().collect::<Arc<[String]>>()),
            utc: Some(Bounds { min: date.unix_seconds() + 3600, max: date.unix_seconds() + 82_800 }),
            latitude: Some(Bounds { min: 30.0, max: 50.0 }),
            concentration: Some(Bounds { min: f64::from(day) - 30.0, max: 7294.0 }),
            aqi: Some(Bounds { min: 0, max: 500 }),
            ..PartitionStats::default()
        };
        PinnedPartition { id: PartitionId { date, digest: 0 }, stats: Some(stats) }
    }

    fn column(name: &str) -> usize {
        observations().index_of(name).unwrap()
    }

    #[test]
    fn everything_is_told_exactly() {
        let days = [day(10, 100), day(14, 20)];
        let (schema, all) = (observations(), Asked::Everything);
        let projection = ["concentration", "aqi", "parameter", "utc", "full_aqs_id"].map(column);
        let told = leaf_statistics(&days, &all, &schema, &projection, None);
        assert_eq!(told.num_rows, Precision::Exact(120));
        let float = |value| Precision::Exact(ScalarValue::Float64(Some(value)));
        assert_eq!(told.column_statistics[0].min_value, float(-20.0));
        assert_eq!(told.column_statistics[0].max_value, float(7294.0));
        assert_eq!(told.column_statistics[1].max_value, Precision::Exact(ScalarValue::Int16(Some(500))));
        assert_eq!(told.column_statistics[2].distinct_count, Precision::Inexact(4));
        assert_eq!(told.column_statistics[4], ColumnStatistics::new_unknown());
        for (column, field) in told.column_statistics.iter().zip(projection.map(|column| schema.field(column).clone()))
        {
            for bound in [&column.min_value, &column.max_value].into_iter().filter_map(|bound| bound.get_value()) {
                assert_eq!(&bound.data_type(), field.data_type(), "{}", field.name());
            }
        }
        assert_eq!(leaf_statistics(&days, &all, &schema, &[4], Some(7)).num_rows, Precision::Exact(7));
        assert_eq!(leaf_statistics(&days, &all, &schema, &[4], Some(700)).num_rows, Precision::Exact(120));
        assert_eq!(leaf_statistics(&[], &all, &schema, &[4], None).num_rows, Precision::Exact(0));
        let uncounted = PinnedPartition { stats: None, ..day(15, 1) };
        assert_eq!(leaf_statistics(&[day(10, 1), uncounted], &all, &schema, &[4], None).num_rows, Precision::Absent);
    }

    #[test]
    fn a_predicate_makes_it_a_guess_that_says_which_is_less() {
        let (days, schema) = ([day(10, 1000), day(14, 1000)], observations());
        let expected = |conjunction: &Conjunction| {
            let told = leaf_statistics(&days, &Asked::Rows(conjunction), &schema, &[4], None);
            assert!(matches!(told.num_rows, Precision::Inexact(_)), "{told:?}");
            *told.num_rows.get_value().unwrap()
        };
        let mut conjunction = Conjunction::default();
        conjunction.insert_text(column("parameter"), vec!["CO".into(), "PM2.5".into(), "XENON".into()]);
        assert_eq!(expected(&conjunction), 1000);
        let start = Date::new(2020, 8, 10).unwrap().unix_seconds();
        conjunction.insert_number(column("utc"), start, start + 86_399);
        assert_eq!(expected(&conjunction), 500, "the other day is not read");
        conjunction.insert_number(column("utc"), start + 7200, start + 7200 + 3600 * 10);
        assert!((200..260).contains(&expected(&conjunction)), "{}", expected(&conjunction));
        conjunction.insert_number(column("latitude"), order_key(35.0), order_key(40.0));
        assert!((50..65).contains(&expected(&conjunction)), "{}", expected(&conjunction));
        conjunction.insert_text(column("full_aqs_id"), vec!["840060670012".into()]);
        assert_eq!(expected(&conjunction), 1);
        let told = leaf_statistics(&days, &Asked::SomeRows, &schema, &[4], None);
        assert_eq!(told.num_rows, Precision::Inexact(400));
        assert!(matches!(told.column_statistics[0].min_value, Precision::Inexact(_)));
    }
}
