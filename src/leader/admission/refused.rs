//! Refusals, and when it is worth coming back.

use std::time::Duration;

/// How long to stay away when nothing is known yet about how long queries take.
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(1);
/// Sooner would only be refused again; later would leave the node idle.
const RETRY_AFTER: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);

/// Why a query is not even queued, or not any more. `RESOURCE_EXHAUSTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot start now and there is no place to wait.
    #[error("{queued} queries are waiting and {active} running; try again in {} ms", retry_after.as_millis())]
    QueueFull {
        /// Queries waiting: all places.
        queued: usize,
        /// Queries running.
        active: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// It waited, but its team or client has more than its share of a full queue, and a query of another needed the place.
    #[error(
        "{queued} queries are waiting and {active} running, and others have fewer of them; try again in {} ms",
        retry_after.as_millis()
    )]
    Displaced {
        /// Queries waiting: all places.
        queued: usize,
        /// Queries running.
        active: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// It would still be waiting at its deadline, or so late before it that it could not end. More time may help, and so may waiting a while.
    #[error(
        "it may take {} ms until it ends, but {} ms are left until the deadline",
        needed.as_millis(), left.as_millis()
    )]
    DeadlineCannotBeMet {
        /// The wait to be expected, with a margin, and what it then takes.
        needed: Duration,
        /// The time that is left; zero if the deadline has passed.
        left: Duration,
        /// When a query with as much time is likely to find a shorter wait.
        retry_after: Duration,
    },
    /// It waited, and before its turn came so little of its time was left that it would not have ended.
    #[error("{} ms are left until the deadline, and queries of this team take {} ms at least", left.as_millis(), least.as_millis())]
    TooLate {
        /// The time that was left.
        left: Duration,
        /// What it was taken to need.
        least: Duration,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
}

impl Refused {
    /// When it is worth asking again. Clients add jitter of their own.
    pub fn retry_after(&self) -> Duration {
        match self {
            Refused::QueueFull { retry_after, .. }
            | Refused::Displaced { retry_after, .. }
            | Refused::TooLate { retry_after, .. }
            | Refused::DeadlineCannotBeMet { retry_after, .. } => *retry_after,
        }
    }
}

/// When a query with so little time left is likely to fit: once the wait is shorter by so much.
pub(super) fn until_it_fits(needed: Duration, left: Duration) -> Duration {
    clamped(needed.saturating_sub(left))
}

/// Spreads those that are sent away over the time in which places become free, one after the other, so that they do not
/// all come back at once. Nothing is reserved for them.
#[derive(Default)]
pub(super) struct Hints {
    /// Up to when places have been hinted at.
    hinted: Duration,
    /// How often the hints went beyond what is worth hinting at.
    beyond: u32,
}

impl Hints {
    /// When a place is likely to be free that nobody was told of yet: of n running queries one ends every n-th part of a
    /// service time.
    pub fn next(&mut self, service_average: Option<Duration>, active: usize, now: Duration) -> Duration {
        let next_end = service_average.map_or(RETRY_AFTER_UNKNOWN, |service| service / active.max(1) as u32);
        self.hinted = self.hinted.max(now).saturating_add(next_end);
        let (first, last) = (*RETRY_AFTER.start(), *RETRY_AFTER.end());
        let hint = self.hinted.saturating_sub(now).max(next_end);
        if hint <= last || next_end > last {
            return clamped(hint);
        }
        // More are away than places become free in that time. The later half is dealt out in steps of the golden ratio,
        // which fill any span evenly however many there are.
        self.hinted = now.saturating_add(last);
        self.beyond = self.beyond.wrapping_add(2_654_435_769);
        let part = f64::from(self.beyond) / f64::from(u32::MAX);
        ((first + last) / 2 + (last - first).mul_f64(part / 2.0)).min(last)
    }
}

fn clamped(hint: Duration) -> Duration {
    hint.clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn those_sent_away_come_back_one_after_the_other() {
        let mut hints = Hints::default();
        let service = Some(Duration::from_secs(2));
        for n in 1..=10 {
            assert_eq!(hints.next(service, 4, Duration::ZERO), n * 500 * MS);
        }
        // Five seconds later those places have come.
        assert_eq!(hints.next(service, 4, Duration::from_secs(5)), 500 * MS);
        assert_eq!(Hints::default().next(None, 4, Duration::ZERO), 1000 * MS);
        assert_eq!(Hints::default().next(Some(Duration::ZERO), 4, Duration::ZERO), 100 * MS);
        assert_eq!(Hints::default().next(Some(Duration::from_secs(9999)), 4, Duration::ZERO), 30_000 * MS);
    }

    #[test]
    fn a_crowd_is_spread_evenly() {
        let mut hints = Hints::default();
        let mut tenths = [0_u32; 31];
        for _ in 0..16_000 {
            let hint = hints.next(Some(Duration::from_secs(100)), 100, Duration::ZERO);
            assert!(RETRY_AFTER.contains(&hint), "{hint:?}");
            tenths[hint.as_secs() as usize] += 1;
        }
        assert!(tenths[16..30].iter().all(|count| (900..1300).contains(count)), "{tenths:?}");
    }
}
