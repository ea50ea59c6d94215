//! What is known of a run while it goes on: counts, the last latencies, the first words of each kind of failure. Shared
//! between the generator, which writes, and the live view, which looks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use super::record::{Record, Status};

/// Latencies that are kept for the live view.
const LATENCIES_MAX: usize = 2000;
/// Different failures that are told.
const FAILURES_MAX: usize = 8;

/// What it shows.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub total: u64,
    pub ok: u64,
    pub refused: u64,
    /// Neither ok nor refused.
    pub failed: u64,
    pub rows: u64,
    /// Of the last requests that ended well, in milliseconds, oldest first.
    pub latencies_ms: VecDeque<f64>,
    /// How often what went wrong, by its status and words; beyond a number of different ones, only the known count.
    pub failures: BTreeMap<(&'static str, String), u64>,
}

impl Shown {
    fn count(&mut self, record: &Record) {
        self.total += 1;
        match record.status {
            Status::Ok => {
                self.ok += 1;
                self.rows += record.rows;
                if self.latencies_ms.len() == LATENCIES_MAX {
                    self.latencies_ms.pop_front();
                }
                self.latencies_ms.push_back(record.latency_ms());
            }
            Status::Refused => self.refused += 1,
            _ => self.failed += 1,
        }
    }
}

/// One run's.
#[derive(Debug, Default)]
pub struct Board(Mutex<Shown>);

impl Board {
    /// A request has ended; `why` it did not end well. Of one that belongs to the warm-up only that is told.
    pub fn add(&self, record: &Record, why: Option<&str>) {
        let mut shown = self.lock();
        if record.is_measured() {
            shown.count(record);
        }
        if let Some(why) = why {
            // Figures and particulars in the words would make each refusal a kind of its own.
            let what = why.split(';').next().unwrap_or_default();
            let words = what.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect::<String>();
            let is_full = shown.failures.len() >= FAILURES_MAX;
            let key = (record.status.name(), squeeze(&words));
            if !is_full || shown.failures.contains_key(&key) {
                *shown.failures.entry(key).or_insert(0) += 1;
            }
        }
    }

    /// How it stands.
    pub fn look(&self) -> Shown {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Several digits in a row as one mark.
fn squeeze(words: &str) -> String {
    let mut squeezed = String::with_capacity(words.len());
    for c in words.chars() {
        if c != '#' || !squeezed.ends_with('#') {
            squeezed.push(c);
        }
    }
    squeezed
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::ended;
    use super::*;

    #[test]
    fn a_board_is_bounded_and_groups_what_went_wrong() {
        let board = Board::default();
        let ok = ended("a", "q", 0, 5);
        let refused = Record { status: Status::Refused, ..ok.clone() };
        (0..5000).for_each(|_| board.add(&ok, None));
        board.add(&ended("a", "q", -1, 5), None);
        (0..300).for_each(|n| board.add(&refused, Some(&format!("{n} queries are waiting; try again in {n} ms"))));
        (0..50).for_each(|n| board.add(&refused, Some(&"x".repeat(n))));
        let shown = board.look();
        assert_eq!((shown.total, shown.ok, shown.refused, shown.rows), (5350, 5000, 350, 50_000));
        assert_eq!(shown.latencies_ms.len(), LATENCIES_MAX);
        assert_eq!(shown.failures.len(), FAILURES_MAX);
        assert_eq!(shown.failures[&("refused", "# queries are waiting".to_owned())], 300);
    }
}
