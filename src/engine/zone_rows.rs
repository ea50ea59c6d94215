//! The rows of a zone as a node keeps them, and as they leave it.
//!
//! What is known of a site (its place, names, agency) and of what it measures (parameter, unit) is the same in all its
//! rows of a day, and in the order of a partition those rows stand together. So these columns are kept once a *run* of
//! equal rows, beside the number of the row where the run ends; only time and measurements are kept once a row. Of the 67
//! bytes of a row in the table's types about 30 stay. A row that leaves gets all its columns back, by taking the value of
//! its run.
//!
//! Invariant: rows come out equal to those that went in, in the schema's types. A partition whose runs are short, as in
//! another order, or that has other columns, is kept as it is.

use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, UInt32Array,
    downcast_dictionary_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, take};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::error::ArrowError;

use super::plain::{plain_column, plain_schema};

/// Columns that depend on the site and what it measures. Where one of them changes within a site's day, a new run begins.
const BY_RUN: [&str; 8] =
    ["latitude", "longitude", "parameter", "unit", "site_name", "agency", "aqs_id", "full_aqs_id"];

/// Fewer rows a run than this on average are not worth it.
const ROWS_PER_RUN_MIN: usize = 3;

/// Some rows of a partition, without copying them.
#[derive(Debug, Clone)]
pub struct ZoneRows {
    kept: Arc<Kept>,
    start: usize,
    rows: usize,
}

/// The rows of a partition, shared by its zones.
#[derive(Debug)]
struct Kept {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// The row after the last of each run, ascending; empty if no column is kept by run.
    run_ends: Vec<u32>,
}

#[derive(Debug)]
enum Column {
    ByRow(ArrayRef),
    ByRun {
        values: ArrayRef,
        /// The same spelled out, once somebody asked for it.
        plain: OnceLock<ArrayRef>,
    },
}

/// One column of a zone, as a condition looks at it.
pub enum ColumnOfZone {
    /// A value for each row.
    Rows(ArrayRef),
    /// A value for each run, and the rows of each.
    Runs(ArrayRef, Vec<usize>),
}

impl ZoneRows {
    /// The rows of a batch as they are.
    pub fn plain(batch: &RecordBatch) -> ZoneRows {
        let columns = batch.columns().iter().map(|column| Column::ByRow(Arc::clone(column))).collect();
        let kept = Kept { schema: batch.schema(), columns, run_ends: Vec::new() };
        ZoneRows { kept: Arc::new(kept), start: 0, rows: batch.num_rows() }
    }

    /// The rows of a partition, by run where that pays.
    pub fn by_run(batch: &RecordBatch) -> ZoneRows {
        match runs_of(batch) {
            Some(kept) => ZoneRows { kept: Arc::new(kept), start: 0, rows: batch.num_rows() },
            None => ZoneRows::plain(batch),
        }
    }

    /// Some of these rows.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn slice(&self, start: usize, rows: usize) -> ZoneRows {
        assert!(start + rows <= self.rows, "rows {start} and {rows} more of {}", self.rows);
        ZoneRows { kept: Arc::clone(&self.kept), start: self.start + start, rows }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The table's schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.kept.schema
    }

    /// Every row and column, in the schema's types.
    pub fn to_batch(&self) -> Result<RecordBatch, ArrowError> {
        let all: Vec<usize> = (0..self.kept.columns.len()).collect();
        self.select(&all, None, false)
    }

    /// These columns of the rows that are `kept` (`None`: of all), texts spelled out if `plain`.
    pub fn select(
        &self,
        projection: &[usize],
        kept: Option<&BooleanBuffer>,
        plain: bool,
    ) -> Result<RecordBatch, ArrowError> {
        let count = kept.map_or(self.rows, BooleanBuffer::count_set_bits);
        let everything = count == self.rows;
        let mask = kept.filter(|_| !everything).map(|kept| BooleanArray::new(kept.clone(), None));
        let mut run_of_row = None;
        let columns = projection.iter().map(|column| match &self.kept.columns[*column] {
            Column::ByRow(values) => {
                let rows = values.slice(self.start, self.rows);
                let rows = match &mask {
                    Some(mask) => filter(&rows, mask)?,
                    None => rows,
                };
                if plain { plain_column(&rows) } else { Ok(rows) }
            }
            Column::ByRun { values, plain: spelled_out } => {
                let runs = run_of_row.get_or_insert_with(|| self.run_of_row(mask.as_ref().map(BooleanArray::values)));
                if !plain {
                    return take(values, runs, None);
                }
                let spelled_out = match spelled_out.get() {
                    Some(known) => known,
                    None => {
                        let made = plain_column(values)?;
                        spelled_out.get_or_init(|| made)
                    }
                };
                take(spelled_out, runs, None)
            }
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
        let schema = Arc::new(self.kept.schema.project(projection)?);
        let schema = if plain { plain_schema(&schema) } else { schema };
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(schema, columns, &options)
    }

    /// One column, to be compared.
    pub fn column(&self, column: usize) -> ColumnOfZone {
        match &self.kept.columns[column] {
            Column::ByRow(values) => ColumnOfZone::Rows(values.slice(self.start, self.rows)),
            Column::ByRun { values, .. } => {
                let (first, lengths) = self.runs();
                ColumnOfZone::Runs(values.slice(first, lengths.len()), lengths)
            }
        }
    }

    /// The first run that reaches into these rows, and of each run from there on the rows that are of these.
    fn runs(&self) -> (usize, Vec<usize>) {
        let ends = &self.kept.run_ends;
        let end = self.start + self.rows;
        let first = ends.partition_point(|run_end| *run_end as usize <= self.start);
        let mut lengths = Vec::new();
        let mut at = self.start;
        for run_end in &ends[first..] {
            if at >= end {
                break;
            }
            let until = (*run_end as usize).min(end);
            lengths.push(until - at);
            at = until;
        }
        (first, lengths)
    }

    /// For each row that is kept the number of its run.
    fn run_of_row(&self, kept: Option<&BooleanBuffer>) -> UInt32Array {
        let (first, lengths) = self.runs();
        let mut runs: Vec<u32> = Vec::with_capacity(self.rows);
        let mut at = 0;
        for (place, length) in lengths.into_iter().enumerate() {
            let count = kept.map_or(length, |kept| kept.slice(at, length).count_set_bits());
            runs.extend(std::iter::repeat_n((first + place) as u32, count));
            at += length;
        }
        UInt32Array::from(runs)
    }
}

/// Bits for runs as bits for rows.
pub fn expand(bits: &BooleanBuffer, lengths: &[usize]) -> BooleanBuffer {
    let mut rows = BooleanBufferBuilder::new(lengths.iter().sum());
    for (bit, length) in bits.iter().zip(lengths) {
        rows.append_n(*length, bit);
    }
    rows.finish()
}

/// The batch by run, if it has the columns for it and its runs are long enough.
fn runs_of(batch: &RecordBatch) -> Option<Kept> {
    let schema = batch.schema();
    let places = BY_RUN.iter().map(|name| schema.index_of(name).ok()).collect::<Option<Vec<usize>>>()?;
    let rows = batch.num_rows();
    u32::try_from(rows).ok()?;
    // Whether a row differs from the one before it.
    let mut begins = vec![false; rows];
    *begins.first_mut()? = true;
    for place in &places {
        mark_changes(batch.column(*place), &mut begins)?;
    }
    let run_starts: Vec<u32> = (0..rows as u32).filter(|row| begins[*row as usize]).collect();
    if run_starts.len() * ROWS_PER_RUN_MIN > rows {
        return None;
    }
    let run_ends: Vec<u32> = run_starts.iter().skip(1).copied().chain([rows as u32]).collect();
    let run_starts = UInt32Array::from(run_starts);
    // A decoder's buffers may be twice as large as what is in them; these stay for as long as the partition is held.
    let every_row = UInt32Array::from_iter_values(0..rows as u32);
    let columns = batch.columns().iter().enumerate().map(|(place, column)| {
        Some(match places.contains(&place) {
            true => Column::ByRun { values: take(column, &run_starts, None).ok()?, plain: OnceLock::new() },
            false => Column::ByRow(take(column, &every_row, None).ok()?),
        })
    });
    Some(Kept { schema, columns: columns.collect::<Option<Vec<_>>>()?, run_ends })
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

#[cfg(test)]
mod tests {
    use overlay_ingest::generate::{GenerateOptions, generate};
    use overlay_ingest::{Dataset, DateRange, Layout, parse_date};

    use super::super::plain::spell_out;
    use super::*;

    /// A generated day, in an order in which a site's rows stand together.
    fn day() -> RecordBatch {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("set");
        generate(&root, &GenerateOptions { days: 1, sites: 40, ..GenerateOptions::default() }).unwrap();
        let dataset = Dataset::open(&root).unwrap();
        let date = dataset.dates(DateRange::ALL).next().unwrap();
        let batch = parse_date(&dataset, date, Layout::default()).unwrap().partition.batch;
        let by = |name: &str| arrow::compute::SortColumn {
            values: Arc::clone(batch.column_by_name(name).unwrap()),
            options: None,
        };
        let order = arrow::compute::lexsort_to_indices(&[by("parameter"), by("full_aqs_id"), by("utc")], None).unwrap();
        arrow::compute::take_record_batch(&batch, &order).unwrap()
    }

    #[test]
    fn rows_come_out_as_they_went_in() {
        let batch = day();
        let kept = ZoneRows::by_run(&batch);
        assert!(!kept.kept.run_ends.is_empty(), "a site's rows stand together");
        assert!(kept.kept.run_ends.len() * ROWS_PER_RUN_MIN <= batch.num_rows());
        let plain = ZoneRows::plain(&batch);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let start = random.usize(0..=batch.num_rows());
            let rows = random.usize(0..=(batch.num_rows() - start).min(300));
            let [zone, other] = [&kept, &plain].map(|all| all.slice(start, rows));
            assert_eq!(zone.to_batch().unwrap(), batch.slice(start, rows));
            let projection: Vec<usize> = (0..batch.num_columns()).filter(|_| random.bool()).collect();
            let share = random.u8(0..5);
            let mask = BooleanBuffer::collect_bool(rows, |_| random.u8(0..4) < share);
            for kept in [None, Some(&mask)] {
                let expected = other.select(&projection, kept, false).unwrap();
                assert_eq!(zone.select(&projection, kept, false).unwrap(), expected, "{start} {rows}");
                assert_eq!(zone.select(&projection, kept, true).unwrap(), spell_out(&expected).unwrap());
            }
        }
    }

    #[test]
    fn short_runs_and_other_columns_stay_as_they_are() {
        let batch = day();
        let one_column = batch.project(&[2]).unwrap();
        let thinned = UInt32Array::from_iter_values((0..batch.num_rows() as u32).step_by(40));
        for other in [one_column, arrow::compute::take_record_batch(&batch, &thinned).unwrap(), batch.slice(0, 0)] {
            let kept = ZoneRows::by_run(&other);
            assert!(kept.kept.run_ends.is_empty());
            assert_eq!(kept.to_batch().unwrap(), other);
        }
    }
}
