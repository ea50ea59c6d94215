//! Zones that leave in one block: those that one job looks at, as far as they follow each other.
//!
//! A block costs something however few rows it has, and what is the same over many rows is sent once a block. The answers
//! stay one a zone, each with its own counts, so that acceptance and retry know zones only.

use std::time::Duration;

use overlay_ingest::PartitionId;

use super::{Error, ScanJobs, ZoneLook, ZoneOutcome, column_bytes};
use crate::engine::message::{How, ZoneAnswer};
use crate::engine::predicate::Matches;
use crate::engine::zone_rows::ZoneRows;

/// The zones of one job so far.
pub(super) struct Together<'a> {
    jobs: &'a ScanJobs,
    asked: PartitionId,
    outcomes: Vec<ZoneOutcome>,
    open: Option<Span>,
}

/// Zones that follow each other, and which of their rows match.
struct Span {
    answers: Vec<ZoneAnswer>,
    rows: ZoneRows,
    matches: Matches,
}

impl ScanJobs {
    /// Looks at these zones of one partition; what they give goes out together.
    pub(super) fn scan_together(&self, looks: &[ZoneLook]) -> Vec<ZoneOutcome> {
        let Some(asked) = looks.first().map(|look| look.asked) else { return Vec::new() };
        let mut together = self.together(asked);
        for look in looks {
            let zone = look.zone;
            if self.stop.reason().is_some() {
                together.outcomes.push(ZoneOutcome::Skipped(asked));
                continue;
            }
            let start = (self.work_clock)();
            let matches = match self.matches(look) {
                Ok(matches) => matches,
                Err(error) => {
                    together.outcomes.push(ZoneOutcome::Failed(asked, format!("zone {zone}: {error}")));
                    continue;
                }
            };
            let entry = look.entry();
            let mut answer = self.answer(asked, entry, look.held.zones.len(), How::Scanned);
            answer.bytes_scanned = column_bytes(&entry.rows, self.filter.columns());
            answer.cpu = (self.work_clock)().saturating_sub(start);
            together.add(answer, &entry.rows, matches);
        }
        together.finish()
    }

    pub(super) fn together(&self, asked: PartitionId) -> Together<'_> {
        Together { jobs: self, asked, outcomes: Vec::new(), open: None }
    }

    fn close(&self, asked: PartitionId, span: Span) -> ZoneOutcome {
        let start = (self.work_clock)();
        let zone = span.answers.first().map_or(0, |answer| answer.zone);
        match self.pack(span) {
            Ok(mut answers) => {
                if let Some(first) = answers.first_mut() {
                    first.cpu += (self.work_clock)().saturating_sub(start);
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
        let block = by_run.block()?;
        if block.bytes().len() <= self.part_bytes_max {
            let count = answers.len() as u32;
            if let Some(first) = answers.first_mut() {
                first.payload = self.packed(block, count);
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

impl Together<'_> {
    /// The next zone, its rows and those that match.
    pub(super) fn add(&mut self, mut answer: ZoneAnswer, rows: &ZoneRows, matches: Matches) {
        answer.rows = matches.rows as u64;
        self.open = Some(match self.open.take() {
            None => Span { answers: vec![answer], rows: rows.clone(), matches },
            Some(before) => match before.rows.joined(rows) {
                Some(joined) => Span {
                    matches: before.matches.joined(&before.rows, matches, rows),
                    rows: joined,
                    answers: before.answers.into_iter().chain([answer]).collect(),
                },
                None => {
                    self.outcomes.push(self.jobs.close(self.asked, before));
                    Span { answers: vec![answer], rows: rows.clone(), matches }
                }
            },
        });
    }

    pub(super) fn finish(mut self) -> Vec<ZoneOutcome> {
        self.outcomes.extend(self.open.map(|span| self.jobs.close(self.asked, span)));
        self.outcomes
    }
}
