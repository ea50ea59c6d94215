//! An answer's batches in the spelling of the oracle: one text a row, so that answers compare as multisets.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampSecondType};

/// Every row of the batch as its values joined by `|`.
pub fn texts(batch: &RecordBatch) -> Vec<String> {
    let columns: Vec<Vec<String>> = batch.columns().iter().map(|column| values(column.as_ref())).collect();
    let row = |row: usize| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}

fn values(column: &dyn Array) -> Vec<String> {
    let shown = |row: usize, text: String| if column.is_null(row) { "null".to_owned() } else { text };
    let rows = 0..column.len();
    match column.data_type() {
        DataType::Float64 => {
            let numbers = column.as_primitive::<Float64Type>();
            rows.map(|row| shown(row, numbers.value(row).to_string())).collect()
        }
        DataType::Timestamp(_, _) => {
            let seconds = column.as_primitive::<TimestampSecondType>();
            rows.map(|row| shown(row, minute(seconds.value(row)))).collect()
        }
        integer if integer.is_integer() => {
            let wide = cast(column, &DataType::Int64).expect("an integer fits");
            let numbers = wide.as_primitive::<Int64Type>();
            rows.map(|row| shown(row, numbers.value(row).to_string())).collect()
        }
        _ => {
            let plain = cast(column, &DataType::Utf8).expect("whatever is left is text");
            let plain = plain.as_string::<i32>();
            rows.map(|row| shown(row, plain.value(row).to_owned())).collect()
        }
    }
}

/// `YYYY-MM-DDTHH:MM`, by counting days from 2020-01-01: all test data are of 2020.
fn minute(seconds: i64) -> String {
    const START: i64 = 1_577_836_800;
    let (mut day, of_day) = ((seconds - START).div_euclid(86_400), (seconds - START).rem_euclid(86_400));
    for (month, days) in [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
        if day < days {
            return format!("2020-{:02}-{:02}T{:02}:{:02}", month + 1, day + 1, of_day / 3600, of_day / 60 % 60);
        }
        day -= days;
    }
    panic!("{seconds} is not in 2020")
}

/// Fails with the first rows that differ; both must be sorted.
#[track_caller]
pub fn assert_same(found: &[String], expected: &[String], what: &str) {
    if found == expected {
        return;
    }
    let only = |these: &[String], those: &[String]| {
        let lacking = these.iter().filter(|row| those.binary_search(row).is_err());
        lacking.take(3).cloned().collect::<Vec<_>>()
    };
    panic!(
        "{what}: {} rows, expected {}; only in the answer {:?}; only in the oracle {:?}",
        found.len(),
        expected.len(),
        only(found, expected),
        only(expected, found),
    );
}
