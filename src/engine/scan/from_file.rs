//! Zones that are read from their partition's file: those that its bounds leave open, of these first the columns that the
//! predicate asks about, and the others only of zones with a row that matches.
//!
//! What was read is looked at as zones in memory are, and dropped. All columns of a zone are decoded whole: its pages end
//! where it ends, and a page is decompressed as one.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use overlay_ingest::PartitionId;

use super::{Error, ScanJobs, ZoneOutcome};
use crate::engine::message::{How, ZoneAnswer};
use crate::engine::on_disk::{OpenPartition, PartitionOnDisk};
use crate::engine::predicate::Matches;
use crate::engine::store::Zone;
use crate::engine::typed_zones::{TypedZones, Verdict};
use crate::engine::zone_rows::ZoneRows;

/// Zones of which some columns were read, one after the other.
struct Read {
    zones: Vec<Zone>,
    /// By column of the table.
    columns: Vec<Option<ArrayRef>>,
    file_bytes: u64,
}

impl ScanJobs {
    /// Reads these zones as far as needed, and looks at them.
    pub(super) fn scan_file(&self, asked: PartitionId, on_disk: &PartitionOnDisk, zones: &[u32]) -> Vec<ZoneOutcome> {
        let start = (self.work_clock)();
        let mut outcomes = match self.read_and_scan(asked, on_disk, zones) {
            Ok(outcomes) => outcomes,
            Err(error) => return vec![ZoneOutcome::Failed(asked, error.to_string())],
        };
        let answered = |outcome: &ZoneOutcome| match outcome {
            ZoneOutcome::Answered(_, took) => *took,
            ZoneOutcome::Skipped(_) | ZoneOutcome::Failed(..) => Duration::ZERO,
        };
        let counted: Duration = outcomes.iter().map(answered).sum();
        let reading = (self.work_clock)().saturating_sub(start).saturating_sub(counted);
        // The first zone bears the cost of having them all.
        let first = outcomes.iter_mut().find_map(|outcome| match outcome {
            ZoneOutcome::Answered(answers, took) => answers.first_mut().zip(Some(took)),
            ZoneOutcome::Skipped(_) | ZoneOutcome::Failed(..) => None,
        });
        if let Some((first, took)) = first {
            first.cpu += reading;
            *took += reading;
        }
        outcomes
    }

    fn read_and_scan(
        &self,
        asked: PartitionId,
        on_disk: &PartitionOnDisk,
        wanted: &[u32],
    ) -> Result<Vec<ZoneOutcome>, Error> {
        let opened = on_disk.open()?;
        let zone_count = opened.zone_count();
        let (mut outcomes, mut told, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for (zone, may_match) in self.may_match(&opened, wanted) {
            if zone as usize >= zone_count {
                let why = format!("no zone {zone} in a partition of {zone_count}");
                outcomes.push(ZoneOutcome::Failed(asked, why));
                continue;
            }
            let rows = opened.file.rows_of(zone as usize);
            let matched = match () {
                _ if rows == 0 || !may_match => 0,
                _ if self.filter.takes_all() && self.may_tell_counts() => rows,
                _ => {
                    open.push(zone as usize);
                    continue;
                }
            };
            let nothing = ZoneRows::of_columns(opened.map.schema(), Vec::new(), rows);
            let zone = Zone { partition: on_disk.id(), index: zone, rows: nothing };
            let answer = self.answer(asked, &zone, zone_count, How::ZoneMap);
            told.push(ZoneAnswer { rows: matched as u64, ..answer });
        }
        if !told.is_empty() {
            outcomes.push(ZoneOutcome::Answered(told, Duration::ZERO));
        }
        if !open.is_empty() {
            let read = Read::new(on_disk.id(), &opened, &open, self.filter.predicate_columns())?;
            outcomes.extend(self.look(asked, &opened, &read)?);
        }
        Ok(outcomes)
    }

    /// Whether a row of each zone may match, by the bounds in the file.
    fn may_match(&self, opened: &OpenPartition, wanted: &[u32]) -> Vec<(u32, bool)> {
        let (Some(first), Some(last)) = (wanted.iter().min(), wanted.iter().max()) else { return Vec::new() };
        let map = opened.map.slice(*first as usize, (last - first) as usize + 1);
        let may_match = self.filter.may_match(&map);
        let of = |zone: &u32| may_match.get((zone - first) as usize).copied().unwrap_or(true);
        wanted.iter().map(|zone| (*zone, of(zone))).collect()
    }

    /// Looks at zones of which the predicate's columns were read; reads the others where rows leave.
    fn look(&self, asked: PartitionId, opened: &OpenPartition, read: &Read) -> Result<Vec<ZoneOutcome>, Error> {
        let matches = self.matches_read(&read.zones)?;
        if self.stop.reason().is_some() {
            return Ok(vec![ZoneOutcome::Skipped(asked)]);
        }
        let leaves = |matches: &Matches| matches.rows > 0 && !self.filter.counts_only();
        let left: Vec<usize> = (0..matches.len()).filter(|place| leaves(&matches[*place])).collect();
        let completed = match left.is_empty() {
            true => None,
            false => Some(read.completed(opened, &left, self.filter.projection())?),
        };
        let (with_rows, without): (Vec<_>, Vec<_>) =
            read.zones.iter().zip(matches).partition(|(_, matches)| leaves(matches));
        let with_rows = completed.iter().flat_map(|read| &read.zones).zip(with_rows.into_iter().map(|(_, own)| own));
        let mut file_bytes = read.file_bytes + completed.as_ref().map_or(0, |read| read.file_bytes);

        let mut outcomes = Vec::new();
        let mut together = self.together(asked);
        for (zone, matches) in without.into_iter().chain(with_rows) {
            let mut answer = self.answer(asked, zone, opened.zone_count(), How::Scanned);
            // What was read is none of the zones' own either.
            answer.bytes_scanned = std::mem::take(&mut file_bytes);
            if self.shares_blocks() {
                together.add(answer, &zone.rows, matches);
                continue;
            }
            outcomes.push(match self.hand_out(answer, &zone.rows, &matches) {
                Ok(Some(answers)) => ZoneOutcome::Answered(answers, Duration::ZERO),
                Ok(None) => ZoneOutcome::Skipped(asked),
                Err(error) => ZoneOutcome::Failed(asked, format!("zone {}: {error}", zone.index)),
            });
        }
        outcomes.extend(together.finish());
        Ok(outcomes)
    }

    /// Which rows match, in each of the zones that were read together.
    fn matches_read(&self, zones: &[Zone]) -> datafusion::error::Result<Vec<Matches>> {
        let typed = TypedZones::of(zones);
        let terms = self.filter.resolve(&typed);
        let matches = zones.iter().enumerate().map(|(place, zone)| match &terms {
            None => self.filter.apply(&zone.rows),
            Some(terms) => match terms.verdict(place) {
                Verdict::NoRow => Ok(Matches::none(&zone.rows)),
                Verdict::EveryRow => Ok(Matches::all(&zone.rows)),
                Verdict::Open(open) => self.filter.apply_typed(&zone.rows, terms, &open),
            },
        });
        matches.collect()
    }
}

impl Read {
    /// These columns of these zones; both ascending.
    fn new(id: PartitionId, opened: &OpenPartition, zones: &[usize], columns: &[usize]) -> Result<Read, Error> {
        let piece = opened.file.read(zones, columns)?;
        let mut by_column = vec![None; opened.map.schema().fields().len()];
        for (column, values) in columns.iter().zip(piece.batch.columns()) {
            by_column[*column] = Some(Arc::clone(values));
        }
        Ok(Read::of(id, opened, zones, by_column, piece.file_bytes))
    }

    fn of(
        id: PartitionId,
        opened: &OpenPartition,
        zones: &[usize],
        columns: Vec<Option<ArrayRef>>,
        file_bytes: u64,
    ) -> Read {
        let rows_of = |zone: &usize| opened.file.rows_of(*zone);
        let rows = zones.iter().map(rows_of).sum();
        let all = ZoneRows::of_columns(opened.map.schema(), columns.clone(), rows);
        let mut start = 0;
        let zones = zones.iter().map(|zone| {
            let rows = all.slice(start, rows_of(zone));
            start += rows.len();
            Zone { partition: id, index: *zone as u32, rows }
        });
        Read { zones: zones.collect(), columns, file_bytes }
    }

    /// The zones at these places with the columns that are wanted, of which those that are missing are read now.
    fn completed(&self, opened: &OpenPartition, places: &[usize], wanted: &[usize]) -> Result<Read, Error> {
        let Some(id) = self.zones.first().map(|zone| zone.partition) else { return Err("no zone was read".into()) };
        let zones: Vec<usize> = places.iter().map(|place| self.zones[*place].index as usize).collect();
        let mut missing: Vec<usize> = wanted.iter().copied().filter(|column| self.columns[*column].is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        let piece = opened.file.read(&zones, &missing)?;
        let mut columns = vec![None; self.columns.len()];
        for (column, values) in missing.iter().zip(piece.batch.columns()) {
            columns[*column] = Some(Arc::clone(values));
        }
        for column in wanted {
            if let Some(values) = &self.columns[*column] {
                columns[*column] = Some(self.of_places(values, places)?);
            }
        }
        Ok(Read::of(id, opened, &zones, columns, piece.file_bytes))
    }

    /// The values of the zones at these places.
    fn of_places(&self, values: &ArrayRef, places: &[usize]) -> Result<ArrayRef, Error> {
        if places.len() == self.zones.len() {
            return Ok(Arc::clone(values));
        }
        let mut start = 0;
        let spans: Vec<ArrayRef> = (self.zones.iter())
            .map(|zone| {
                let span = values.slice(start, zone.rows.len());
                start += zone.rows.len();
                span
            })
            .collect();
        let spans: Vec<&dyn Array> = places.iter().map(|place| spans[*place].as_ref()).collect();
        Ok(concat(&spans)?)
    }
}
