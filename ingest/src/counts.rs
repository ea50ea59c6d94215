//! How often each concentration occurs, by day and parameter: enough to count the rows of a range without opening a
//! partition.
//!
//! One file of the cache, named by its manifest. For each day and each parameter of it: the distinct concentrations,
//! ascending, and for each the rows that have it or a lesser one. Measurements are given to a tenth, so a day of tens of
//! thousands of rows has about a thousand values, 12 bytes each. A day with more than one value for [`ROWS_PER_VALUE_MIN`]
//! rows is left out, so the file never takes more than 3 bytes a row; whoever does not find a day here reads its
//! partition.
//!
//! Invariant: what is told of a day are counts of exactly the partition under that id.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type};

use crate::date::Date;
use crate::partition::Partition;
use crate::partition_id::PartitionId;

/// Fewer rows a distinct value than this are not worth a place here.
const ROWS_PER_VALUE_MIN: usize = 4;

const MAGIC: &[u8; 8] = b"ovcount1";

/// The counts of one day, as bytes of the file; `None` if they would be too many.
pub(crate) fn encode_day(partition: &Partition) -> Option<Vec<u8>> {
    let groups = groups_of(&partition.batch)?;
    let mut bytes = Vec::new();
    for (parameter, rows, values) in groups {
        let number = |count: usize| u32::try_from(count).ok();
        bytes.extend_from_slice(&number(parameter.len())?.to_le_bytes());
        bytes.extend_from_slice(parameter.as_bytes());
        bytes.extend_from_slice(&number(rows)?.to_le_bytes());
        let distinct: Vec<(f64, usize)> = values.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect();
        bytes.extend_from_slice(&number(distinct.len())?.to_le_bytes());
        distinct.iter().for_each(|(value, _)| bytes.extend_from_slice(&value.to_le_bytes()));
        let mut rows_through = 0u32;
        for (_, rows) in distinct {
            rows_through += number(rows)?;
            bytes.extend_from_slice(&rows_through.to_le_bytes());
        }
    }
    let mut day = Vec::with_capacity(bytes.len() + 24);
    day.extend_from_slice(&partition.id.date.days().to_le_bytes());
    day.extend_from_slice(&partition.id.digest.to_le_bytes());
    day.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    day.extend_from_slice(&bytes);
    Some(day)
}

/// The file of these days; `None` if there is no day.
pub(crate) fn encode_file<'a>(days: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    days.for_each(|day| bytes.extend_from_slice(day));
    (bytes.len() > MAGIC.len()).then_some(bytes)
}

/// Per parameter, ascending: all its rows, and its concentrations that are not null, ascending.
fn groups_of(batch: &RecordBatch) -> Option<Vec<(&str, usize, Vec<f64>)>> {
    let parameters = batch.column_by_name("parameter")?.as_dictionary_opt::<Int32Type>()?;
    let texts = parameters.values().as_string_opt::<i32>()?;
    let concentrations = batch.column_by_name("concentration")?.as_primitive_opt::<Float64Type>()?;
    let mut groups: Vec<(usize, Vec<f64>)> = vec![(0, Vec::new()); texts.len()];
    for (row, key) in parameters.keys().values().iter().enumerate() {
        let (rows, values) = groups.get_mut(usize::try_from(*key).ok()?)?;
        *rows += 1;
        if concentrations.is_valid(row) {
            // Both zeros are one value.
            values.push(concentrations.value(row) + 0.0);
        }
    }
    let mut distinct = 0;
    for (_, values) in &mut groups {
        values.sort_unstable_by(f64::total_cmp);
        distinct += values.chunk_by(|a, b| a == b).count();
    }
    if distinct * ROWS_PER_VALUE_MIN > batch.num_rows().max(64) {
        return None;
    }
    Some(groups.into_iter().enumerate().map(|(key, (rows, values))| (texts.value(key), rows, values)).collect())
}

/// The counts of the days of a cache.
#[derive(Debug)]
pub struct Counts {
    bytes: Vec<u8>,
    /// Where each day's counts lie, sorted by id.
    days: Vec<(PartitionId, std::ops::Range<usize>)>,
}

/// The counts of one day.
#[derive(Debug, Clone, Copy)]
pub struct DayCounts<'a>(&'a [u8]);

impl Counts {
    /// Of a file whose digest was checked; `None` if it is not of this form.
    pub(crate) fn read(bytes: Vec<u8>) -> Option<Counts> {
        let mut days = Vec::new();
        let mut rest = Rest(bytes.strip_prefix(MAGIC)?);
        while !rest.0.is_empty() {
            let day = i32::from_le_bytes(rest.array()?);
            let date = Date::of_unix_seconds(i64::from(day) * 86_400)?;
            let digest = u128::from_le_bytes(rest.array()?);
            let length = rest.number()?;
            let start = bytes.len() - rest.0.len();
            rest.take(length)?;
            days.push((PartitionId { date, digest }, start..start + length));
        }
        days.sort_unstable_by_key(|(id, _)| *id);
        Some(Counts { bytes, days })
    }

    /// The counts of the partition under this id, if they are kept.
    pub fn day(&self, id: &PartitionId) -> Option<DayCounts<'_>> {
        let place = self.days.binary_search_by_key(id, |(id, _)| *id).ok()?;
        Some(DayCounts(&self.bytes[self.days[place].1.clone()]))
    }

    /// A day as [`encode_day`] gave it, to be written again.
    pub(crate) fn day_bytes(&self, id: &PartitionId) -> Option<&[u8]> {
        let place = self.days.binary_search_by_key(id, |(id, _)| *id).ok()?;
        let range = &self.days[place].1;
        self.bytes.get(range.start.checked_sub(24)?..range.end)
    }
}

impl DayCounts<'_> {
    /// Rows of the parameters that `wanted` says yes to, with a concentration from `min` to `max`, both included. `None` if
    /// the bytes are not of the form that they should have.
    pub fn rows(&self, wanted: impl Fn(&str) -> bool, min: f64, max: f64) -> Option<u64> {
        let mut rest = Rest(self.0);
        let mut rows = 0;
        while !rest.0.is_empty() {
            let length = rest.number()?;
            let parameter = std::str::from_utf8(rest.take(length)?).ok()?;
            let _all_rows = rest.number()?;
            let count = rest.number()?;
            let values = rest.take(count.checked_mul(8)?)?.as_chunks::<8>().0;
            let rows_through = rest.take(count.checked_mul(4)?)?.as_chunks::<4>().0;
            if !wanted(parameter) {
                continue;
            }
            let below = values.partition_point(|value| f64::from_le_bytes(*value) < min);
            let through = values.partition_point(|value| f64::from_le_bytes(*value) <= max);
            let rows_of = |values: usize| match values.checked_sub(1) {
                None => 0,
                Some(last) => u64::from(u32::from_le_bytes(rows_through[last])),
            };
            rows += rows_of(through).saturating_sub(rows_of(below));
        }
        Some(rows)
    }
}

/// Bytes that are left to be read; what is not there is `None`.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }
}
