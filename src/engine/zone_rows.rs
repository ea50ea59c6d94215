//! The rows of a zone as a node keeps them, and as they leave it.
//!
//! What is known of a site (its place, names, agency) and of what it measures (parameter, unit) is the same in all its
//! rows of a day, and in the order of a partition those rows stand together. So these columns are kept once a *run* of
//! equal rows, beside the number of the row where the run ends; time and measurements are kept once a row, as small codes
//! ([`super::coded`]). Of the 67 bytes of a row in the table's types about 12 stay. A row that leaves gets all its columns
//! back, by taking the value of its run and of its code.
//!
//! Invariant: rows come out equal to those that went in, in the schema's types. Columns for which it does not pay, as runs
//! in another order or codes of many values, are kept as they are.

mod compact;
mod picked;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::coded::Coded;
use super::plain::plain_schema;
use crate::delivery::encoding::packed::{self, RowsByRun};

use compact::compact;
use picked::Picked;

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
    /// Nobody asks for it: of a partition that lies in a file only some columns are read.
    NotRead,
    ByRow(ArrayRef),
    Coded(Coded),
    ByRun {
        values: ArrayRef,
        /// The same spelled out, once somebody asked for it.
        plain: OnceLock<ArrayRef>,
    },
}

/// One column of a zone, as a condition looks at it.
pub enum ColumnOfZone<'a> {
    /// It was not read.
    Nothing,
    /// A value for each row.
    Rows(ArrayRef),
    /// A code for each row; the zone's rows are these of the column.
    Coded(&'a Coded, Range<usize>),
    /// A value for each run; see [`ZoneRows::runs`].
    Runs(ArrayRef),
}

impl ColumnOfZone<'_> {
    /// The values of the rows or runs; `None` where there are codes, or nothing.
    pub fn into_values(self) -> Option<ArrayRef> {
        match self {
            ColumnOfZone::Rows(values) | ColumnOfZone::Runs(values) => Some(values),
            ColumnOfZone::Coded(..) | ColumnOfZone::Nothing => None,
        }
    }
}

impl ZoneRows {
    /// The rows of a batch as they are.
    pub fn plain(batch: &RecordBatch) -> ZoneRows {
        let columns = batch.columns().iter().map(|column| Column::ByRow(Arc::clone(column))).collect();
        ZoneRows::of(Kept { schema: batch.schema(), columns, run_ends: Vec::new() }, batch.num_rows())
    }

    /// Rows of which only some columns were read, each of them with so many values. To ask for another is an error.
    pub fn of_columns(schema: &SchemaRef, columns: Vec<Option<ArrayRef>>, rows: usize) -> ZoneRows {
        let columns = columns.into_iter().map(|column| column.map_or(Column::NotRead, Column::ByRow)).collect();
        ZoneRows::of(Kept { schema: Arc::clone(schema), columns, run_ends: Vec::new() }, rows)
    }

    /// The rows of a partition in fewer bytes, where that pays.
    pub fn compact(batch: &RecordBatch) -> ZoneRows {
        match compact(batch) {
            Ok(kept) => ZoneRows::of(kept, batch.num_rows()),
            // Of a type that cannot be copied row by row: it stays as it came.
            Err(_) => ZoneRows::plain(batch),
        }
    }

    fn of(kept: Kept, rows: usize) -> ZoneRows {
        ZoneRows { kept: Arc::new(kept), start: 0, rows }
    }

    /// Some of these rows.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn slice(&self, start: usize, rows: usize) -> ZoneRows {
        assert!(start + rows <= self.rows, "rows {start} and {rows} more of {}", self.rows);
        ZoneRows { kept: Arc::clone(&self.kept), start: self.start + start, rows }
    }

    /// What the rows of the whole partition take, dictionaries included; those that several columns share count for each.
    pub fn memory_bytes(&self) -> usize {
        let columns = self.kept.columns.iter().map(|column| match column {
            Column::ByRow(values) | Column::ByRun { values, .. } => values.get_buffer_memory_size(),
            Column::Coded(coded) => coded.memory_bytes(),
            Column::NotRead => 0,
        });
        columns.sum::<usize>() + size_of_val(self.kept.run_ends.as_slice())
    }

    /// These rows and the next ones as one, if they follow each other in a partition.
    pub fn joined(&self, next: &ZoneRows) -> Option<ZoneRows> {
        let follows = Arc::ptr_eq(&self.kept, &next.kept) && self.start + self.rows == next.start;
        follows.then(|| ZoneRows { rows: self.rows + next.rows, ..self.clone() })
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
        let picked = Picked::new(self, kept);
        let columns = projection.iter().map(|column| picked.column(&self.kept.columns[*column], plain));
        let columns = columns.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
        let schema = Arc::new(self.kept.schema.project(projection)?);
        let schema = if plain { plain_schema(&schema) } else { schema };
        let options = RecordBatchOptions::new().with_row_count(Some(picked.count));
        RecordBatch::try_new_with_options(schema, columns, &options)
    }

    /// The same rows on their way to another node: what was kept by run stays by run, and what was kept in codes stays so.
    pub fn select_by_run(&self, projection: &[usize], kept: Option<&BooleanBuffer>) -> Result<RowsByRun, ArrowError> {
        let picked = Picked::new(self, kept);
        let is_by_run = |column: &usize| matches!(self.kept.columns[*column], Column::ByRun { .. });
        let (places, runs) = match projection.iter().any(is_by_run) {
            true => picked.runs_left(),
            false => (Vec::new(), Vec::new()),
        };
        let places = UInt32Array::from(places);
        let columns = projection.iter().map(|column| match &self.kept.columns[*column] {
            Column::ByRun { values, .. } => Ok(packed::Column::ByRun(take(values, &places, None)?)),
            Column::Coded(coded) => Ok(packed::Column::ByPlace(picked.placed(coded))),
            by_row => Ok(packed::Column::ByRow(picked.column(by_row, false)?)),
        });
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
        Ok(RowsByRun { schema: Arc::new(self.kept.schema.project(projection)?), rows: picked.count, runs, columns })
    }

    /// One column, to be compared.
    pub fn column(&self, column: usize) -> ColumnOfZone<'_> {
        match &self.kept.columns[column] {
            Column::NotRead => ColumnOfZone::Nothing,
            Column::ByRow(values) => ColumnOfZone::Rows(values.slice(self.start, self.rows)),
            Column::Coded(coded) => ColumnOfZone::Coded(coded, self.start..self.start + self.rows),
            Column::ByRun { values, .. } => {
                let runs = self.runs();
                ColumnOfZone::Runs(values.slice(runs.start, runs.len()))
            }
        }
    }

    /// The runs that reach into these rows.
    fn runs(&self) -> Range<usize> {
        let ends = &self.kept.run_ends;
        let end = self.start + self.rows;
        let first = ends.partition_point(|run_end| *run_end as usize <= self.start);
        // The last one ends with the zone or after it.
        let whole = ends[first..].partition_point(|run_end| (*run_end as usize) < end);
        if self.rows == 0 { first..first } else { first..(first + whole + 1).min(ends.len()) }
    }

    /// Of each run that reaches into these rows the rows, counted from the first of these.
    pub fn rows_of_runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut at = 0;
        self.kept.run_ends[self.runs()].iter().map(move |run_end| {
            let rows = at..(*run_end as usize - self.start).min(self.rows);
            at = rows.end;
            rows
        })
    }
}

#[cfg(test)]
mod tests {
    use overlay_ingest::generate::{GenerateOptions, generate};
    use overlay_ingest::{Dataset, DateRange, Layout, parse_date};

    use super::super::plain::spell_out;
    use super::*;
    use crate::delivery::encoding::packed::Packed;

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
        let kept = ZoneRows::compact(&batch);
        assert!(!kept.kept.run_ends.is_empty(), "a site's rows stand together");
        assert!(kept.kept.run_ends.len() * compact::ROWS_PER_RUN_MIN <= batch.num_rows());
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
                let by_run = zone.select_by_run(&projection, kept).unwrap();
                let block = Packed::open(by_run.pack().unwrap().into(), &expected.schema()).unwrap();
                assert_eq!(block.to_batch().unwrap(), expected, "{start} {rows}");
            }
        }
    }

    #[test]
    fn short_runs_and_other_columns_stay_as_they_are() {
        let batch = day();
        let one_column = batch.project(&[2]).unwrap();
        let thinned = UInt32Array::from_iter_values((0..batch.num_rows() as u32).step_by(40));
        for other in [one_column, arrow::compute::take_record_batch(&batch, &thinned).unwrap(), batch.slice(0, 0)] {
            let kept = ZoneRows::compact(&other);
            assert!(kept.kept.run_ends.is_empty());
            assert_eq!(kept.to_batch().unwrap(), other);
        }
    }
}
