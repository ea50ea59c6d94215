//! The rows of a zone that leave it: which, of which runs, and their columns.

use std::cell::OnceCell;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::error::ArrowError;

use super::super::coded::Coded;
use super::super::plain::plain_column;
use super::{Column, ZoneRows};
use crate::delivery::encoding::packed::Placed;

/// The rows of a zone that leave it, and what several columns need to know of them.
pub(super) struct Picked<'a> {
    zone: &'a ZoneRows,
    pub count: usize,
    /// Which rows; `None`: all.
    mask: Option<&'a BooleanBuffer>,
    /// Their places in the partition, if not all leave.
    places: OnceCell<UInt32Array>,
    runs: OnceCell<UInt32Array>,
}

impl<'a> Picked<'a> {
    pub fn new(zone: &'a ZoneRows, kept: Option<&'a BooleanBuffer>) -> Picked<'a> {
        let count = kept.map_or(zone.rows, BooleanBuffer::count_set_bits);
        let mask = kept.filter(|_| count < zone.rows);
        Picked { zone, count, mask, places: OnceCell::new(), runs: OnceCell::new() }
    }

    pub fn column(&self, column: &Column, plain: bool) -> Result<ArrayRef, ArrowError> {
        let zone = self.zone;
        match column {
            Column::NotRead => Err(ArrowError::ComputeError("a column that was not read".to_owned())),
            Column::ByRow(values) => {
                let rows = match self.mask {
                    Some(mask) => take(values, self.places(mask), None)?,
                    None => values.slice(zone.start, zone.rows),
                };
                if plain { plain_column(&rows) } else { Ok(rows) }
            }
            Column::Coded(coded) => Ok(match self.mask {
                Some(mask) => coded.take(self.places(mask).values()),
                None => coded.slice(zone.start..zone.start + zone.rows),
            }),
            Column::ByRun { values, plain: spelled_out } => {
                let runs = self.runs.get_or_init(|| self.run_of_row());
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
        }
    }

    /// The rows of a column in codes, as they are.
    pub fn placed(&self, coded: &Coded) -> Placed {
        let zone = self.zone;
        let places = match self.mask {
            Some(mask) => coded.codes_at(self.places(mask).values()),
            None => coded.codes(zone.start..zone.start + zone.rows),
        };
        Placed { table: coded.table(), places }
    }

    fn places(&self, mask: &BooleanBuffer) -> &UInt32Array {
        self.places.get_or_init(|| {
            let mut places = Vec::with_capacity(self.count);
            places.extend(mask.set_indices().map(|place| (self.zone.start + place) as u32));
            UInt32Array::from(places)
        })
    }

    /// The runs of which some row leaves, and how many.
    pub fn runs_left(&self) -> (Vec<u32>, Vec<u32>) {
        let runs = self.zone.runs();
        let Some(mask) = self.mask else {
            return (
                runs.map(|run| run as u32).collect(),
                self.zone.rows_of_runs().map(|rows| rows.len() as u32).collect(),
            );
        };
        let (mut left, mut counts) = (Vec::new(), Vec::new());
        let mut places = self.places(mask).values().as_ref();
        let ends = &self.zone.kept.run_ends;
        let mut run = runs.start;
        while let Some(first) = places.first() {
            // The next run of which some leaves is the next one, or far away.
            if ends[run] <= *first {
                run += 1;
            }
            if ends[run] <= *first {
                run += ends[run..].partition_point(|end| *end <= *first);
            }
            let count = places.iter().take_while(|place| **place < ends[run]).count();
            left.push(run as u32);
            counts.push(count as u32);
            places = &places[count..];
        }
        (left, counts)
    }

    /// For each row that leaves the number of its run.
    fn run_of_row(&self) -> UInt32Array {
        let mut runs: Vec<u32> = Vec::with_capacity(self.count);
        let numbered = (self.zone.runs().start as u32..).zip(self.zone.rows_of_runs());
        match self.mask {
            None => numbered.for_each(|(run, rows)| runs.extend(std::iter::repeat_n(run, rows.len()))),
            Some(mask) => {
                let mut places = self.places(mask).values().iter().peekable();
                for (run, rows) in numbered {
                    let end = (self.zone.start + rows.end) as u32;
                    while places.next_if(|place| **place < end).is_some() {
                        runs.push(run);
                    }
                }
            }
        }
        UInt32Array::from(runs)
    }
}
