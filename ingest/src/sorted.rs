//! The rows of a day in their one total order, as Arrow.
//!
//! The order is (parameter, full_aqs_id, utc), texts by their bytes, ties by source file and line. It depends on the
//! rows alone. A parameter is one run of rows, a site one run within it, and the hours ascend inside: so most columns
//! consist of runs, which makes files small, and a predicate on parameter or site is a range of rows.
//!
//! Rows are not compared. They come in the order of files and lines; one pass brings them into the order of time, and
//! one into that of site and parameter without disturbing rows that are equal in these: linear both, since there are
//! few distinct times, sites and parameters, which are numbered in their order.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int8Array, Int16Array, Int32Array, RecordBatch, StringArray,
    TimestampSecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::Int32Type;

use crate::dictionary::Interner;
use crate::row::{DayRows, MISSING, Row};
use crate::schema::observations;
use crate::series::Series;

const DAY_MINUTES: usize = 24 * 60;

pub(crate) fn sorted_batch(day: &DayRows) -> RecordBatch {
    let texts = &day.table.texts;
    let parameter = Column::of(day, &texts.parameter, |series| series.parameter);
    let full_aqs_id = Column::of(day, &texts.full_aqs_id, |series| series.full_aqs_id);

    let by_time = match day.rows.is_sorted_by_key(|row| row.minute) {
        true => Cow::Borrowed(&day.rows),
        false => Cow::Owned(pass(&day.rows, DAY_MINUTES, |row| row.minute.into())),
    };
    let (places, places_count) = places(day, &parameter, &full_aqs_id);
    let rows = pass(&by_time, places_count, |row| places[row.series as usize] as usize);

    let place = |coordinate: fn(&Series) -> f64| -> ArrayRef {
        let values: Vec<f64> = day.table.all().iter().map(coordinate).collect();
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| values[row.series as usize])))
    };
    let midnight = day.date().unix_seconds();
    let utc = rows.iter().map(|row| midnight + i64::from(row.minute) * 60);
    let concentration = |value: fn(&Row) -> f64| -> ArrayRef {
        let (values, nulls) = measured(&rows, value, f64::from(MISSING));
        Arc::new(Float64Array::new(values.into(), nulls))
    };
    let (aqi, no_aqi) = measured(&rows, |row| row.aqi, MISSING);
    let (category, no_category) = measured(&rows, |row| row.category, MISSING);
    let category = category.into_iter().map(|value| i8::try_from(value).expect("a category has 8 bits")).collect();
    let columns: Vec<ArrayRef> = vec![
        place(|series| series.latitude),
        place(|series| series.longitude),
        Arc::new(TimestampSecondArray::from_iter_values(utc).with_timezone("UTC")),
        parameter.array(&rows),
        concentration(|row| row.concentration),
        Column::of(day, &texts.unit, |series| series.unit).array(&rows),
        concentration(|row| row.raw_concentration),
        Arc::new(Int16Array::new(aqi.into(), no_aqi)),
        Arc::new(Int8Array::new(category, no_category)),
        Column::of(day, &texts.site_name, |series| series.site_name).array(&rows),
        Column::of(day, &texts.agency, |series| series.agency).array(&rows),
        Column::of(day, &texts.aqs_id, |series| series.aqs_id).array(&rows),
        full_aqs_id.array(&rows),
    ];
    RecordBatch::try_new(observations(), columns).expect("columns of equal length in the order of the schema")
}

/// For each series the place of its (parameter, full_aqs_id) among all of these, and how many there are.
fn places(day: &DayRows, parameter: &Column, full_aqs_id: &Column) -> (Vec<u32>, usize) {
    let all = day.table.all();
    let key = |series: usize| (parameter.keys[series], full_aqs_id.keys[series]);
    let mut sorted: Vec<usize> = (0..all.len()).collect();
    sorted.sort_unstable_by_key(|&series| key(series));
    let mut places = vec![0; all.len()];
    let mut count = 0;
    for same in sorted.chunk_by(|&a, &b| key(a) == key(b)) {
        same.iter().for_each(|&series| places[series] = count);
        count += 1;
    }
    (places, count as usize)
}

/// The rows in the order of a key, which is below `keys`; rows with equal keys stay in the order they have.
fn pass(rows: &[Row], keys: usize, key: impl Fn(&Row) -> usize) -> Vec<Row> {
    let mut next = vec![0u32; keys + 1];
    for row in rows {
        next[key(row) + 1] += 1;
    }
    // From here on: where the next row with this key belongs.
    let mut before = 0;
    for place in &mut next {
        before += *place;
        *place = before;
    }
    let mut sorted = vec![Row::default(); rows.len()];
    for row in rows {
        let place = &mut next[key(row)];
        sorted[*place as usize] = *row;
        *place += 1;
    }
    sorted
}

/// A measured column's values, 0 where they are missing, and where that is.
fn measured<T: Copy + Default + PartialEq>(
    rows: &[Row],
    value: impl Fn(&Row) -> T,
    missing: T,
) -> (Vec<T>, Option<NullBuffer>) {
    let mut values: Vec<T> = rows.iter().map(value).collect();
    let valid = BooleanBuffer::collect_bool(values.len(), |row| values[row] != missing);
    for value in values.iter_mut().filter(|value| **value == missing) {
        *value = T::default();
    }
    (values, Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0))
}

/// A text column: its distinct texts in order, and the place of each series' text among them.
struct Column {
    values: StringArray,
    keys: Vec<i32>,
}

impl Column {
    fn of(day: &DayRows, interner: &Interner, id: impl Fn(&Series) -> u32) -> Column {
        let (values, ranks) = interner.ranked();
        let keys = day.table.all().iter().map(|series| ranks[id(series) as usize]).collect();
        Column { values, keys }
    }

    fn array(self, rows: &[Row]) -> ArrayRef {
        let keys = Int32Array::from_iter_values(rows.iter().map(|row| self.keys[row.series as usize]));
        let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(self.values));
        Arc::new(array.expect("a key is a place among the values"))
    }
}
