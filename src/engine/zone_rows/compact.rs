//! How a batch is kept: what by run, what in codes, what as it is.

use std::cell::OnceCell;
use std::sync::OnceLock;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, downcast_dictionary_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;

use super::super::coded::Coded;
use super::{Column, Kept};

/// Columns that depend on the site and what it measures. Where one of them changes within a site's day, a new run begins.
const BY_RUN: [&str; 8] =
    ["latitude", "longitude", "parameter", "unit", "site_name", "agency", "aqs_id", "full_aqs_id"];

/// Fewer rows a run than this on average are not worth it.
pub(super) const ROWS_PER_RUN_MIN: usize = 3;

/// The batch by run and in codes, as far as it has the columns for it, its runs are long enough and its values few.
pub(super) fn compact(batch: &RecordBatch) -> Result<Kept, ArrowError> {
    let (places, run_starts) = runs_of(batch).unwrap_or_else(|| (Vec::new(), UInt32Array::from(Vec::<u32>::new())));
    let run_ends = match run_starts.is_empty() {
        true => Vec::new(),
        false => run_starts.values().iter().skip(1).copied().chain([batch.num_rows() as u32]).collect(),
    };
    let every_row = OnceCell::new();
    let every_row = || every_row.get_or_init(|| UInt32Array::from_iter_values(0..batch.num_rows() as u32));
    let columns = batch.columns().iter().enumerate().map(|(place, column)| {
        if places.contains(&place) {
            return Ok(Column::ByRun { values: copied(column, &run_starts)?, plain: OnceLock::new() });
        }
        Ok(match Coded::of(column) {
            Some(coded) => Column::Coded(coded),
            None => Column::ByRow(copied(column, every_row())?),
        })
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Kept { schema: batch.schema(), columns, run_ends })
}

/// These rows of a column, in memory of their own, with their dictionary. A decoder's buffers may be twice as large as what
/// is in them, and these stay for as long as the partition is held.
fn copied(column: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef, ArrowError> {
    let taken = take(column, rows, None)?;
    let Some(dictionary) = taken.as_any_dictionary_opt() else { return Ok(taken) };
    let values = dictionary.values();
    let values = take(values, &UInt32Array::from_iter_values(0..values.len() as u32), None)?;
    Ok(dictionary.with_values(values))
}

/// The columns that are kept by run, and the first row of each run; `None` if it does not pay.
fn runs_of(batch: &RecordBatch) -> Option<(Vec<usize>, UInt32Array)> {
    let schema = batch.schema();
    let places = BY_RUN.iter().map(|name| schema.index_of(name).ok()).collect::<Option<Vec<usize>>>()?;
    let rows = u32::try_from(batch.num_rows()).ok()?;
    // Whether a row differs from the one before it.
    let mut begins = vec![false; batch.num_rows()];
    *begins.first_mut()? = true;
    for place in &places {
        mark_changes(batch.column(*place), &mut begins)?;
    }
    let run_starts: Vec<u32> = (0..rows).filter(|row| begins[*row as usize]).collect();
    if run_starts.len() * ROWS_PER_RUN_MIN > batch.num_rows() {
        return None;
    }
    Some((places, UInt32Array::from(run_starts)))
}

/// Marks the rows whose value differs from that of the row before; `None` for nulls and types that are not compared.
fn mark_changes(column: &ArrayRef, begins: &mut [bool]) -> Option<()> {
    if column.null_count() > 0 {
        return None;
    }
    fn mark<T: PartialEq>(values: &[T], begins: &mut [bool]) {
        for (pair, begin) in values.windows(2).zip(&mut begins[1..]) {
            *begin |= pair[0] != pair[1];
        }
    }
    if column.data_type() == &DataType::Float64 {
        // By their bits: both zeros stay what they are.
        let bits: Vec<u64> =
            column.as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect();
        mark(&bits, begins);
        return Some(());
    }
    downcast_dictionary_array!(
        column => {
            mark(column.keys().values(), begins);
            Some(())
        },
        _ => None
    )
}
