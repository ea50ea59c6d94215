//! How fast a result's reader takes its rows.
//!
//! Reading is what happens between a chunk being handed out and the next one being asked for the first time; the time
//! a reader waits for rows that do not exist yet is the producer's, and is left out. Chunks handed out at the same
//! instant (one message carries several) count as one.

use std::collections::VecDeque;
use std::time::Duration;

/// How many measurements count: enough to smooth a hiccup, few enough to follow a change within a few chunks.
const SAMPLES_MAX: usize = 8;

/// A running measurement. Empty at first.
#[derive(Debug, Default)]
pub(super) struct ReadingSpeed {
    samples: VecDeque<(u64, Duration)>,
    /// Rows handed out since the last measurement, and when the first of them was.
    in_hand: Option<(u64, Duration)>,
}

impl ReadingSpeed {
    /// The reader asks for a chunk it never asked for before: it is done with what it had.
    pub fn asked(&mut self, now: Duration) {
        if let Some((rows, since)) = self.in_hand
            && now > since
        {
            if self.samples.len() == SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back((rows, now - since));
            self.in_hand = None;
        }
    }

    /// The reader is given `rows` new rows.
    pub fn handed_out(&mut self, rows: u64, now: Duration) {
        let (so_far, since) = self.in_hand.unwrap_or((0, now));
        self.in_hand = Some((so_far.saturating_add(rows), since));
    }

    /// Rows per second over the recent measurements; none before the first.
    pub fn rows_per_s(&self) -> Option<f64> {
        let rows: u64 = self.samples.iter().map(|sample| sample.0).sum();
        let time: Duration = self.samples.iter().map(|sample| sample.1).sum();
        (!self.samples.is_empty()).then(|| rows as f64 / time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn waiting_for_rows_is_not_reading() {
        let mut speed = ReadingSpeed::default();
        speed.asked(ms(0));
        speed.handed_out(100, ms(50));
        assert_eq!(speed.rows_per_s(), None);
        speed.asked(ms(60));
        assert_eq!(speed.rows_per_s(), Some(10_000.0));
        speed.handed_out(100, ms(900));
        speed.asked(ms(910));
        assert_eq!(speed.rows_per_s(), Some(10_000.0));
    }

    #[test]
    fn chunks_of_one_message_count_together() {
        let mut speed = ReadingSpeed::default();
        for _ in 0..20 {
            speed.asked(ms(0));
            speed.handed_out(50, ms(0));
        }
        speed.asked(ms(10));
        assert_eq!(speed.rows_per_s(), Some(100_000.0));
    }

    #[test]
    fn old_measurements_are_forgotten() {
        let mut speed = ReadingSpeed::default();
        for i in 0..20 {
            let (start, took) = (ms(i * 1_000), if i < 12 { ms(500) } else { ms(1) });
            speed.asked(start);
            speed.handed_out(10, start);
            speed.asked(start + took);
        }
        assert_eq!(speed.samples.len(), SAMPLES_MAX);
        assert_eq!(speed.rows_per_s(), Some(10_000.0));
    }
}
