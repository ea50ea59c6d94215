//! How many rows of a zone have one of some parameters and a concentration in a range, without looking at a row.
//!
//! For each parameter the codes of its distinct concentrations ([`super::coded`]), ascending, each with the number of rows
//! up to it: a count is two searches by halving. Measurements are given to a tenth, so a zone of thousands of rows has some
//! hundred of them. Where a zone has too many (above one for [`ROWS_PER_VALUE_MIN`] rows), those parameters go without that
//! have too many themselves, and are scanned; so they are where the column has no codes. The index never takes more than 3
//! bytes a row.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, downcast_dictionary_array};
use arrow::datatypes::ArrowNativeType;

use super::zone_rows::{ColumnOfZone, ZoneRows};

/// Fewer rows a distinct value than this are not worth an index.
const ROWS_PER_VALUE_MIN: usize = 2;

/// The counts of one zone.
#[derive(Debug)]
pub struct CountIndex {
    /// By key, ascending.
    groups: Box<[Group]>,
}

/// The rows of one key.
#[derive(Debug)]
struct Group {
    key: i64,
    /// With and without a number.
    rows: u32,
    /// `None` where they would be too many.
    counts: Option<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// Codes of the distinct numbers, ascending.
    codes: Box<[u16]>,
    /// For each of them the rows that have it or a lesser one.
    rows_through: Box<[u32]>,
}

impl Counts {
    fn pay(&self, rows: u32) -> bool {
        self.codes.len() * ROWS_PER_VALUE_MIN <= rows as usize
    }
}

impl CountIndex {
    /// The index of a zone, from a column of texts and one of numbers; `None` if the columns are not of the form for it.
    pub fn of(zone: &ZoneRows, texts: usize, numbers: usize) -> Option<CountIndex> {
        let ColumnOfZone::Coded(numbers, place) = zone.column(numbers) else { return None };
        let none = numbers.value_count();
        let mut rows_of_code = vec![0u32; none + 1];
        let mut values = 0;
        let mut groups: Vec<Group> = Vec::new();
        let mut spans = spans_of_keys(zone, texts)?;
        spans.sort_unstable_by_key(|(key, span)| (*key, span.start));
        for same_key in spans.chunk_by(|a, b| a.0 == b.0) {
            for (_, span) in same_key {
                (place.start + span.start..place.start + span.end).for_each(|row| rows_of_code[numbers.code(row)] += 1);
            }
            let mut rows = 0;
            let (mut codes, mut rows_through) = (Vec::new(), Vec::new());
            for (code, count) in rows_of_code.iter().enumerate().filter(|(code, count)| *code < none && **count > 0) {
                rows += count;
                // A column has at most as many codes as 16 bits tell apart.
                codes.push(code as u16);
                rows_through.push(rows);
            }
            let rows = rows + rows_of_code[none];
            rows_of_code.fill(0);
            values += codes.len();
            let counts = Some(Counts { codes: codes.into(), rows_through: rows_through.into() });
            groups.push(Group { key: same_key[0].0, rows, counts });
        }
        if values * ROWS_PER_VALUE_MIN > zone.len() {
            for group in &mut groups {
                group.counts = group.counts.take().filter(|counts| counts.pay(group.rows));
            }
        }
        Some(CountIndex { groups: groups.into_boxed_slice() })
    }

    /// What the counts take.
    pub fn memory_bytes(&self) -> usize {
        let counts = self.groups.iter().filter_map(|group| group.counts.as_ref());
        let values = counts.map(|counts| size_of_val(&*counts.codes) + size_of_val(&*counts.rows_through));
        size_of_val(&*self.groups) + values.sum::<usize>()
    }

    /// Rows with one of the keys (ascending; `None`: any key) and a number with one of the codes (`None`: any number, or
    /// none). `None` if that was not counted.
    pub fn count(&self, keys: Option<&[i64]>, codes: Option<&Range<usize>>) -> Option<u64> {
        let groups = self.groups.iter().filter(|group| keys.is_none_or(|keys| keys.binary_search(&group.key).is_ok()));
        groups
            .map(|group| match codes {
                None => Some(u64::from(group.rows)),
                Some(wanted) => {
                    let counts = group.counts.as_ref()?;
                    let rows_before = |code: usize| {
                        let count = counts.codes.partition_point(|known| usize::from(*known) < code);
                        count.checked_sub(1).map_or(0, |last| counts.rows_through[last])
                    };
                    Some(u64::from(rows_before(wanted.end) - rows_before(wanted.start)))
                }
            })
            .sum()
    }
}

/// The key of each row or run, with the rows that have it; `None` if there are nulls or it is no dictionary.
fn spans_of_keys(zone: &ZoneRows, texts: usize) -> Option<Vec<(i64, Range<usize>)>> {
    let mut spans: Vec<(i64, Range<usize>)> = Vec::new();
    let mut add = |key: i64, rows: Range<usize>| match spans.last_mut() {
        Some((last, span)) if *last == key && span.end == rows.start => span.end = rows.end,
        _ => spans.push((key, rows)),
    };
    match zone.column(texts) {
        ColumnOfZone::Runs(values) => {
            keys_of(&values)?.into_iter().zip(zone.rows_of_runs()).for_each(|(key, rows)| add(key, rows))
        }
        ColumnOfZone::Rows(values) => {
            keys_of(&values)?.into_iter().enumerate().for_each(|(row, key)| add(key, row..row + 1))
        }
        ColumnOfZone::Coded(..) | ColumnOfZone::Nothing => return None,
    }
    Some(spans)
}

/// The key of every value; `None` if there are nulls or it is no dictionary.
fn keys_of(texts: &ArrayRef) -> Option<Vec<i64>> {
    if texts.null_count() > 0 {
        return None;
    }
    downcast_dictionary_array!(
        texts => Some(texts.keys().values().iter().map(|key| key.as_usize() as i64).collect()),
        _ => None
    )
}
