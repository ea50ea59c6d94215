//! How fast a result's reader takes its rows.
//!
//! Reading is what happens between a message being made and a chunk beyond it being asked for the first time. The time
//! a reader waits for rows that do not exist yet, or are being encoded, is the producer's, and is left out: a busy node
//! would take its own slowness for the reader's, and make smaller chunks, which cost it more. The chunks of one message
//! count as one.

use std::collections::VecDeque;
use std::time::Duration;

/// How many measurements count: enough to smooth a hiccup, few enough to follow a change within a few chunks.
const SAMPLES_MAX: usize = 8;

/// A running measurement. Empty at first.
#[derive(Debug, Default)]
pub(super) struct ReadingSpeed {
    samples: VecDeque<(u64, Duration)>,
    /// Rows handed out since the last measurement.
    in_hand: u64,
    /// Since when the reader can read them: when the last message with some of them was made.
    readable_since: Option<Duration>,
}

impl ReadingSpeed {
    /// A chunk is asked for that never was before: the reader is done with the messages made so far.
    pub fn asked(&mut self, now: Duration) {
        if let Some(since) = self.readable_since
            && now > since
        {
            if self.samples.len() == SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back((self.in_hand, now - since));
            (self.in_hand, self.readable_since) = (0, None);
        }
    }

    /// The reader is given `rows` new rows, with the next message that is made.
    pub fn handed_out(&mut self, rows: u64) {
        self.in_hand = self.in_hand.saturating_add(rows);
    }

    /// What was handed out is encoded: the reader can read it.
    pub fn made(&mut self, now: Duration) {
        if self.in_hand > 0 {
            self.readable_since = Some(now);
        }
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
        speed.handed_out(100);
        speed.made(ms(50));
        assert_eq!(speed.rows_per_s(), None);
        speed.asked(ms(60));
        assert_eq!(speed.rows_per_s(), Some(10_000.0));
        speed.handed_out(100);
        speed.made(ms(900));
        speed.asked(ms(910));
        assert_eq!(speed.rows_per_s(), Some(10_000.0));
    }

    #[test]
    fn chunks_of_one_message_count_together() {
        let mut speed = ReadingSpeed::default();
        for at in 0..20 {
            speed.asked(ms(at));
            speed.handed_out(50);
        }
        assert_eq!(speed.rows_per_s(), None, "nothing was made yet");
        speed.made(ms(20));
        speed.asked(ms(30));
        assert_eq!(speed.rows_per_s(), Some(100_000.0));
    }

    #[test]
    fn old_measurements_are_forgotten() {
        let mut speed = ReadingSpeed::default();
        for i in 0..20 {
            let (start, took) = (ms(i * 1_000), if i < 12 { ms(500) } else { ms(1) });
            speed.asked(start);
            speed.handed_out(10);
            speed.made(start);
            speed.asked(start + took);
        }
        assert_eq!(speed.samples.len(), SAMPLES_MAX);
        assert_eq!(speed.rows_per_s(), Some(10_000.0));
    }
}
