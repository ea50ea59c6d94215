//! What a run says at its end, for people and as JSON. Numbers are those of the run's range, also for days that were
//! up to date and not read again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::dataset::{Dataset, Refusal};
use crate::date::DateRange;
use crate::manifest::SourceEntry;
use crate::rejects::Reason;
use crate::run::Outcome;

/// Paths of refused or ignored files printed to people; JSON has them all.
const PATHS_SHOWN: usize = 20;

/// A team and its days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    pub name: String,
    pub range: DateRange,
}

/// The end of a run. Its JSON form is `{"files": {path: ...}, "totals": {...}, "ignored": [path]}`.
#[derive(Debug, Clone, Serialize)]
pub struct Receipt {
    pub files: BTreeMap<String, FileReport>,
    pub totals: Totals,
    pub ignored: Vec<String>,
    #[serde(skip)]
    dataset: String,
    #[serde(skip)]
    cache: PathBuf,
    #[serde(skip)]
    teams: Vec<Team>,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    pub rows_in: u64,
    pub ok: u64,
    pub rejected: u64,
    pub reasons: BTreeMap<Reason, u64>,
    pub refused: Option<Refusal>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Totals {
    /// CSV files, refused ones included.
    pub files: u64,
    /// Lines that are not blank: `ok + rejected`.
    pub rows_in: u64,
    pub ok: u64,
    pub rejected: u64,
    pub reasons: BTreeMap<Reason, u64>,
    pub refused: u64,
    pub ignored: u64,
    pub partitions: u64,
    /// Partitions that were read again in this run.
    pub redone: u64,
    /// Rows in and bytes of the partitions that were read again: what `seconds` were spent on.
    pub rows_read: u64,
    pub csv_bytes_read: u64,
    pub csv_bytes: u64,
    pub parquet_bytes: u64,
    pub seconds: f64,
    /// Rows of each team's days.
    pub teams: BTreeMap<String, u64>,
    /// The rejects of the whole cache, also of days outside the range; none if it has none.
    pub rejects_file: Option<PathBuf>,
}

impl Receipt {
    /// Of a run over `range` that took so many seconds.
    pub fn of(
        dataset: &Dataset,
        cache: &Path,
        outcome: &Outcome,
        range: DateRange,
        teams: &[Team],
        seconds: f64,
    ) -> Receipt {
        let manifest = &outcome.manifest;
        let partitions: Vec<_> = manifest.partitions(range).collect();
        let sources = partitions.iter().flat_map(|entry| &entry.sources).chain(&manifest.refused);
        let files: BTreeMap<_, _> = sources.map(|source| (source.path.clone(), FileReport::of(source))).collect();
        let sum = |number: fn(&FileReport) -> u64| files.values().map(number).sum();
        let mut reasons = BTreeMap::new();
        for (&reason, rows) in files.values().flat_map(|file| &file.reasons) {
            *reasons.entry(reason).or_default() += rows;
        }
        let rows_in =
            |days: DateRange| partitions.iter().filter(|entry| days.contains(entry.id.date)).map(|e| e.rows).sum();
        let redone = || partitions.iter().filter(|entry| outcome.redone.contains(&entry.id.date));
        let totals = Totals {
            files: files.len() as u64,
            rows_in: sum(|file| file.rows_in),
            ok: sum(|file| file.ok),
            rejected: sum(|file| file.rejected),
            reasons,
            refused: sum(|file| u64::from(file.refused.is_some())),
            ignored: dataset.ignored().len() as u64,
            partitions: partitions.len() as u64,
            redone: outcome.redone.len() as u64,
            rows_read: redone().flat_map(|entry| &entry.sources).map(|source| source.rows_in).sum(),
            csv_bytes_read: redone().map(|entry| entry.csv_bytes).sum(),
            csv_bytes: partitions.iter().map(|entry| entry.csv_bytes).sum(),
            parquet_bytes: partitions.iter().map(|entry| entry.file_bytes).sum(),
            seconds,
            teams: teams.iter().map(|team| (team.name.clone(), rows_in(team.range))).collect(),
            rejects_file: manifest.rejects.as_ref().map(|rejects| cache.join(&rejects.file)),
        };
        Receipt {
            files,
            totals,
            ignored: dataset.ignored().to_vec(),
            dataset: dataset.name.clone(),
            cache: cache.to_owned(),
            teams: teams.to_vec(),
        }
    }

    fn refused(&self) -> impl Iterator<Item = (&String, Refusal)> {
        self.files.iter().filter_map(|(path, file)| Some((path, file.refused?)))
    }
}

impl FileReport {
    fn of(source: &SourceEntry) -> FileReport {
        FileReport {
            rows_in: source.rows_in,
            ok: source.ok,
            rejected: source.rejected,
            reasons: source.reasons.clone(),
            refused: source.refused,
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        writeln!(f, "{} -> {}\n", self.dataset, self.cache.display())?;
        writeln!(f, "  files       {:>11}   {} of CSV", count(totals.files), megabytes(totals.csv_bytes))?;
        let (ok, rejected) = (count(totals.ok), count(totals.rejected));
        writeln!(f, "  rows in     {:>11} = {ok} ok + {rejected} rejected", count(totals.rows_in))?;
        let (redone, bytes) = (totals.redone, megabytes(totals.parquet_bytes));
        let up_to_date = totals.partitions.saturating_sub(redone);
        write!(f, "  partitions  {:>11}   {bytes} of Parquet; ", count(totals.partitions))?;
        writeln!(f, "{redone} written, {up_to_date} up to date")?;
        let per_second = |number: u64| (number as f64 / totals.seconds.max(1e-9)) as u64;
        let (rows, bytes) = (per_second(totals.rows_read), per_second(totals.csv_bytes_read));
        let rate = match totals.redone {
            0 => "nothing had to be read".to_owned(),
            _ => format!("{} rows/s, {}/s", count(rows), megabytes(bytes)),
        };
        writeln!(f, "  time        {:>9.2} s   {rate}", totals.seconds)?;
        let width = self.teams.iter().map(|team| team.name.chars().count()).max().unwrap_or(0).max(10);
        for (index, team) in self.teams.iter().enumerate() {
            let rows = count(totals.teams.get(&team.name).copied().unwrap_or(0));
            let gap = if index == 0 { "\n" } else { "" };
            writeln!(f, "{gap}  {:width$}  {rows:>11} rows   {} to {}", team.name, team.range.from, team.range.to)?;
        }
        self.fmt_rejects(f)
    }
}

impl Receipt {
    fn fmt_rejects(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.totals.reasons.is_empty() {
            writeln!(f, "\nrejected rows")?;
        }
        for (reason, rows) in &self.totals.reasons {
            writeln!(f, "  {:<20}  {:>11}", reason.to_string(), count(*rows))?;
        }
        if let Some(path) = &self.totals.rejects_file {
            writeln!(f, "\nrejects file: {}", path.display())?;
        }
        let refused: Vec<String> =
            self.refused().map(|(path, refusal)| format!("{:<20}  {path}", refusal.name())).collect();
        list(f, "refused files", &refused)?;
        list(f, "ignored files", &self.ignored)
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}: {}", lines.len())?;
    for line in lines.iter().take(PATHS_SHOWN) {
        writeln!(f, "  {line}")?;
    }
    match lines.len().saturating_sub(PATHS_SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more (--json lists all)"),
    }
}

/// With a comma between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_167_525, "1,167,525")] {
            assert_eq!(count(number), text);
        }
    }
}
