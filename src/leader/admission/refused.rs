//! Refusals, and when it is worth coming back.

use std::time::Duration;

/// How long to stay away when nothing is known yet about how long queries take.
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(1);
/// Sooner would only be refused again; later would leave the node idle.
const RETRY_AFTER: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);

/// Why a query is not even queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot start now and there is no place to wait. `RESOURCE_EXHAUSTED`; the hint is when a place is likely.
    #[error("{queued} queries are waiting and {active} running; try again in {} ms", retry_after.as_millis())]
    QueueFull {
        /// Queries waiting: all places.
        queued: usize,
        /// Queries running.
        active: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// It would still be waiting at its deadline. Another deadline may help.
    #[error("about {} ms to wait, but {} ms left until the deadline", wait.as_millis(), left.as_millis())]
    DeadlineCannotBeMet {
        /// The wait to be expected.
        wait: Duration,
        /// The time that is left; zero if the deadline has passed.
        left: Duration,
    },
}

/// When one of the running queries is likely to have ended, and so a place to be free: so many share one service time.
pub(super) fn retry_after(service_average: Option<Duration>, active: usize) -> Duration {
    let next_end = service_average.map_or(RETRY_AFTER_UNKNOWN, |service| service / active.max(1) as u32);
    next_end.clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end())
}
