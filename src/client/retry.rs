//! When a refused query is sent again.
//!
//! Only a refusal that says when is repeated, never before that time, and later each time: so clients that were refused
//! together do not come back together. It ends with the query's own time, with [`TRIES_MAX`], or with the client's
//! budget, whichever is first. The budget keeps many queries of one client from multiplying the load on a Leader that
//! is overloaded already: in the long run at most one retry for ten queries.

use std::sync::Mutex;
use std::time::Duration;

use crate::failure::{Failure, FailureKind};

/// How often one query is sent at the most.
const TRIES_MAX: u32 = 8;
/// How long a query without a time of its own is repeated.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Never stay away longer than this at once.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Retries that a client may have saved up, and starts with.
const BUDGET_MAX: f64 = 10.0;
/// What a query adds to the budget.
const BUDGET_PER_QUERY: f64 = 0.1;

/// The retries that a client may still make.
pub struct Budget(Mutex<f64>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Mutex::new(BUDGET_MAX))
    }
}

impl Budget {
    /// A query is sent for the first time.
    pub fn earn(&self) {
        let mut left = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *left = (*left + BUDGET_PER_QUERY).min(BUDGET_MAX);
    }

    fn spend(&self) -> bool {
        let mut left = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let may = *left >= 1.0;
        if may {
            *left -= 1.0;
        }
        may
    }
}

/// The tries of one query.
pub struct Tries {
    made: u32,
    time_left: Duration,
}

impl Tries {
    /// None was made yet. `time_left`: the query's.
    pub fn new(time_left: Option<Duration>) -> Tries {
        Tries { made: 0, time_left: time_left.unwrap_or(TIME_MAX) }
    }

    /// The try that ended with this failure, so long after the first began. How long to wait before the next one;
    /// `None`: give up, the failure is the answer. `random` is from 0 to 1.
    pub fn pause(&mut self, failure: &Failure, spent: Duration, random: f64, budget: &Budget) -> Option<Duration> {
        self.made += 1;
        let hint = failure.retry_after.filter(|_| failure.kind == FailureKind::ResourceExhausted)?;
        let factor = f64::from(2_u32.pow(self.made.min(TRIES_MAX) - 1)) * (1.0 + random);
        // A hint that is absurd, or grew so, is cut.
        let pause = Duration::try_from_secs_f64(hint.as_secs_f64() * factor).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        // But never is it cut below what the Leader said.
        let pause = pause.max(hint);
        let in_time = spent.checked_add(pause).is_some_and(|then| then < self.time_left);
        (self.made < TRIES_MAX && in_time && budget.spend()).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(hint_ms: u64) -> Failure {
        let retry_after = Some(Duration::from_millis(hint_ms));
        Failure { retry_after, ..Failure::new(FailureKind::ResourceExhausted, "QUEUE_FULL", "200 queries are waiting") }
    }

    fn ms(pause: Option<Duration>) -> Option<u128> {
        pause.map(|pause| pause.as_millis())
    }

    #[test]
    fn pauses_grow_and_are_never_below_the_hint() {
        let budget = Budget::default();
        let mut tries = Tries::new(Some(Duration::from_secs(3600)));
        let pauses: Vec<u128> = (0..7)
            .map(|_| ms(tries.pause(&refused(100), Duration::ZERO, 0.0, &budget)).expect("there is time"))
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400]);
        assert_eq!(tries.pause(&refused(100), Duration::ZERO, 0.0, &budget), None, "the eighth was the last");
        let late = |hint| ms(Tries::new(Some(Duration::MAX)).pause(&refused(hint), Duration::ZERO, 0.999, &budget));
        assert_eq!((late(1000), late(20_000), late(60_000)), (Some(1999), Some(30_000), Some(60_000)));
    }

    #[test]
    fn time_and_kind_decide() {
        let budget = Budget::default();
        let ask = |left, spent, failure: &Failure| {
            let [left, spent] = [left, spent].map(Duration::from_millis);
            ms(Tries::new(Some(left)).pause(failure, spent, 0.5, &budget))
        };
        assert_eq!(ask(1000, 0, &refused(100)), Some(150));
        assert_eq!(ask(1000, 849, &refused(100)), Some(150));
        assert_eq!(ask(1000, 850, &refused(100)), None, "the query's time would be over");
        assert_eq!(ask(1000, 0, &Failure { retry_after: None, ..refused(1) }), None, "nobody said when");
        assert_eq!(ask(1000, 0, &Failure { kind: FailureKind::Unavailable, ..refused(1) }), None, "no refusal");
        let unbounded = Tries::new(None).pause(&refused(31_000), Duration::ZERO, 0.0, &budget);
        assert_eq!(unbounded, None, "a query without a time has half a minute");
    }

    #[test]
    fn a_client_has_one_budget_for_all_its_queries() {
        let budget = Budget::default();
        let try_once = || {
            budget.earn();
            Tries::new(None).pause(&refused(1), Duration::ZERO, 0.0, &budget).is_some()
        };
        let made = (0..1000).filter(|_| try_once()).count();
        // Ten saved, and one for ten queries.
        assert!((105..=111).contains(&made), "{made}");
    }
}
