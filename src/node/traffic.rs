//! How many rows and bytes leave this node, lately: to the next node of a scan's route, and to clients.
//!
//! Counted in seconds of the clock passed in, over the last [`WINDOW_S`] of them: a figure for people, so it follows a
//! change within seconds and does not jump from one message to the next.

use std::collections::VecDeque;
use std::time::Duration;

/// Over how many seconds. Higher is steadier, lower is quicker.
const WINDOW_S: u64 = 10;

/// The last seconds in which something left; at most [`WINDOW_S`] of them.
#[derive(Debug, Default)]
pub struct Traffic(VecDeque<Second>);

#[derive(Debug, Clone, Copy)]
struct Second {
    number: u64,
    rows: u64,
    bytes: u64,
}

impl Traffic {
    /// So much left just now.
    pub fn add(&mut self, rows: u64, bytes: u64, now: Duration) {
        let number = now.as_secs();
        match self.0.back_mut() {
            // A clock that is read by several may seem to go back by a little.
            Some(last) if last.number >= number => {
                last.rows = last.rows.saturating_add(rows);
                last.bytes = last.bytes.saturating_add(bytes);
            }
            _ => {
                self.0.push_back(Second { number, rows, bytes });
                if self.0.len() as u64 > WINDOW_S {
                    self.0.pop_front();
                }
            }
        }
    }

    /// Rows and bytes a second, since the start if that is not so long ago.
    pub fn per_second(&self, now: Duration) -> (f64, f64) {
        let first = now.as_secs().saturating_sub(WINDOW_S - 1);
        let recent = || self.0.iter().filter(|second| second.number >= first);
        let over = now.saturating_sub(Duration::from_secs(first)).as_secs_f64().max(1.0);
        let (rows, bytes) = recent().fold((0, 0), |(rows, bytes): (u64, u64), second| {
            (rows.saturating_add(second.rows), bytes.saturating_add(second.bytes))
        });
        (rows as f64 / over, bytes as f64 / over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_left_in_the_last_seconds_counts() {
        let mut traffic = Traffic::default();
        assert_eq!(traffic.per_second(ms(500)), (0.0, 0.0));
        traffic.add(10, 100, ms(500));
        assert_eq!(traffic.per_second(ms(500)), (10.0, 100.0), "not more than within a second");
        assert_eq!(traffic.per_second(ms(2_000)), (5.0, 50.0));
        for second in 20..40 {
            traffic.add(6, 60, ms(second * 1_000));
            traffic.add(4, 40, ms(second * 1_000 + 999));
        }
        assert_eq!(traffic.0.len() as u64, WINDOW_S);
        assert_eq!(traffic.per_second(ms(40_000)), (10.0, 100.0), "nine whole seconds and the one that begins");
        assert_eq!(traffic.per_second(ms(45_000)), (40.0 / 9.0, 400.0 / 9.0));
        assert_eq!(traffic.per_second(ms(60_000)), (0.0, 0.0));
    }
}
