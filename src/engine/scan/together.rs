//! Zones that leave in one block: those that one job looks at, as far as they follow each other.
//!
//! A block costs something however few rows it has, and what is the same over many rows is sent once a block. The answers
//! stay one a zone, each with its own counts, so that acceptance and retry know zones only.

use std::time::Duration;

use overlay_ingest::PartitionId;

use super::{Look, ScanJobs, ZoneOutcome, column_bytes, packed};
use crate::engine::message::{How, ZoneAnswer};
use crate::engine::predicate::Matches;
use crate::engine::store::HeldPartition;
use crate::engine::zone_rows::ZoneRows;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Zones that follow each other, and which of their rows match.
struct Span {
    answers: Vec<ZoneAnswer>,
    rows: ZoneRows,
    matches: Matches,
}

impl ScanJobs {
    /// Looks at these zones; what they give goes out together.
    pub(super) fn scan_together(
        &self,
        asked: PartitionId,
        held: &HeldPartition,
        zones: &[(u32, Look)],
    ) -> Vec<ZoneOutcome> {
        let mut outcomes = Vec::new();
        let mut open: Option<Span> = None;
        for (zone, look) in zones {
            if self.stop.reason().is_some() {
                outcomes.push(ZoneOutcome::Skipped(asked));
                continue;
            }
            let start = (self.clock)();
            let matches = match self.matches(held, *zone, look) {
                Ok(matches) => matches,
                Err(error) => {
                    outcomes.push(ZoneOutcome::Failed(asked, format!("zone {zone}: {error}")));
                    continue;
                }
            };
            let rows = &held.zones[*zone as usize].rows;
            let mut answer = self.answer(asked, held, *zone, How::Scanned, rows.len() as u64);
            answer.bytes_scanned = column_bytes(rows, self.filter.columns());
            answer.rows = matches.rows as u64;
            answer.cpu = (self.clock)().saturating_sub(start);
            open = Some(match open.take() {
                None => Span { answers: vec![answer], rows: rows.clone(), matches },
                Some(before) => match before.rows.joined(rows) {
                    Some(joined) => Span {
                        matches: before.matches.joined(&before.rows, matches, rows),
                        rows: joined,
                        answers: before.answers.into_iter().chain([answer]).collect(),
                    },
                    None => {
                        outcomes.push(self.close(asked, before));
                        Span { answers: vec![answer], rows: rows.clone(), matches }
                    }
                },
            });
        }
        outcomes.extend(open.map(|span| self.close(asked, span)));
        outcomes
    }

    fn close(&self, asked: PartitionId, span: Span) -> ZoneOutcome {
        let start = (self.clock)();
        let zone = span.answers.first().map_or(0, |answer| answer.zone);
        match self.pack(span) {
            Ok(mut answers) => {
                if let Some(first) = answers.first_mut() {
                    first.cpu += (self.clock)().saturating_sub(start);
                }
                let took: Duration = answers.iter().map(|answer| answer.cpu).sum();
                ZoneOutcome::Answered(answers, took)
            }
            Err(error) => ZoneOutcome::Failed(asked, format!("zone {zone} and after: {error}")),
        }
    }

    /// The answers with their rows: in one block, or each in parts if that were too large.
    fn pack(&self, span: Span) -> Result<Vec<ZoneAnswer>, Error> {
        let Span { mut answers, rows, matches } = span;
        if matches.rows == 0 {
            return Ok(answers);
        }
        let by_run = self.filter.take_by_run(&rows, &matches)?;
        let block = by_run.pack()?;
        if block.len() <= self.part_bytes_max {
            let count = answers.len() as u32;
            if let Some(first) = answers.first_mut() {
                first.payload = packed(block, count);
            }
            return Ok(answers);
        }
        let all = self.filter.take(&rows, &matches, matches.rows, false)?;
        let mut at = 0;
        let mut parts = Vec::new();
        for answer in answers {
            let count = answer.rows as usize;
            match count {
                0 => parts.push(answer),
                _ => parts.extend(self.in_parts(answer, &all.slice(at, count))?),
            }
            at += count;
        }
        Ok(parts)
    }
}
