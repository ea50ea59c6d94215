//! How many rows of a zone have one of some parameters and a concentration in a range, without looking at a row.
//!
//! For each parameter the distinct concentrations, ascending, each with the number of rows up to it: a count is two
//! searches by halving. Measurements are given to a tenth, so a zone of thousands of rows has some hundred of them.
//! Where they are too many (above one for [`ROWS_PER_VALUE_MIN`] rows) there is no index, and the zone is scanned: so
//! the index never takes more than 3 bytes a row.

use arrow::array::{Array, ArrayRef, AsArray, downcast_dictionary_array};
use arrow::datatypes::{ArrowNativeType, Float64Type};

use super::conjunction::order_key;

/// Fewer rows a distinct value than this are not worth an index.
const ROWS_PER_VALUE_MIN: usize = 4;

/// The counts of one zone.
#[derive(Debug)]
pub struct CountIndex {
    /// By key, ascending.
    groups: Vec<Group>,
}

/// The rows of one key.
#[derive(Debug)]
struct Group {
    key: i64,
    /// With and without a number.
    rows: u32,
    /// Distinct numbers, by [`order_key`], ascending.
    values: Box<[i64]>,
    /// For each of them the rows that have it or a lesser one.
    rows_through: Box<[u32]>,
}

impl CountIndex {
    /// The index of a zone, from a dictionary of texts and a column of floats; `None` if it would be too large, or the
    /// columns are not of these types.
    pub fn of(texts: &ArrayRef, numbers: &ArrayRef) -> Option<CountIndex> {
        let numbers = numbers.as_primitive_opt::<Float64Type>()?;
        let keys = keys_of(texts)?;
        let mut pairs: Vec<(i64, Option<i64>)> = Vec::with_capacity(keys.len());
        for (row, key) in keys.into_iter().enumerate() {
            pairs.push((key, numbers.is_valid(row).then(|| order_key(numbers.value(row)))));
        }
        // Rows without a number come first in their group.
        pairs.sort_unstable();
        let mut distinct = pairs.clone();
        distinct.dedup();
        if distinct.len() * ROWS_PER_VALUE_MIN > pairs.len().max(64) {
            return None;
        }
        let groups = pairs.chunk_by(|a, b| a.0 == b.0).map(|group| {
            let numbers: Vec<i64> = group.iter().filter_map(|(_, number)| *number).collect();
            let (mut values, mut rows_through) = (Vec::new(), Vec::new());
            let mut rows = 0;
            for same in numbers.chunk_by(|a, b| a == b) {
                rows += same.len() as u32;
                values.push(same[0]);
                rows_through.push(rows);
            }
            Group {
                key: group[0].0,
                rows: group.len() as u32,
                values: values.into_boxed_slice(),
                rows_through: rows_through.into_boxed_slice(),
            }
        });
        Some(CountIndex { groups: groups.collect() })
    }

    /// Rows with one of the keys (ascending; `None`: any key) and a number in the range, both ends included (`None`: any
    /// number, or none).
    pub fn count(&self, keys: Option<&[i64]>, range: Option<(i64, i64)>) -> u64 {
        let groups = self.groups.iter().filter(|group| keys.is_none_or(|keys| keys.binary_search(&group.key).is_ok()));
        groups
            .map(|group| match range {
                None => u64::from(group.rows),
                Some((low, high)) if low <= high => {
                    let below = group.values.partition_point(|value| *value < low);
                    let through = group.values.partition_point(|value| *value <= high);
                    let rows_before = |count: usize| count.checked_sub(1).map_or(0, |last| group.rows_through[last]);
                    u64::from(rows_before(through) - rows_before(below))
                }
                Some(_) => 0,
            })
            .sum()
    }
}

/// The key of every row; `None` if there are nulls or it is no dictionary.
fn keys_of(texts: &ArrayRef) -> Option<Vec<i64>> {
    if texts.null_count() > 0 {
        return None;
    }
    downcast_dictionary_array!(
        texts => Some(texts.keys().values().iter().map(|key| key.as_usize() as i64).collect()),
        _ => None
    )
}
