//! What becomes of a query that arrives: it starts, waits, takes another's place, or is refused.
//!
//! Decides by what the strategy says and by how long the wait is likely to be; leaves carrying it out to the caller.

use std::time::Duration;

use super::refused::until_it_fits;
use super::{Admission, Refused};
use crate::leader::fairness::Share;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Start,
    Wait,
    /// Waits, in the place of the one at this position.
    Displace {
        at: usize,
        why: Refused,
    },
}

impl Admission {
    /// Refused, started or made to wait. Nothing is changed but what is hinted at.
    pub(super) fn decide(&mut self, share: &Share, deadline: Duration, now: Duration) -> Result<Decision, Refused> {
        let left = deadline.saturating_sub(now);
        if left.is_zero() {
            let retry_after = until_it_fits(Duration::ZERO, left);
            return Err(Refused::DeadlineCannotBeMet { wait: Duration::ZERO, left, retry_after });
        }
        let limits = self.fairness_limits();
        if self.strategy.may_start(&share.flow, &self.account, &limits) {
            return Ok(Decision::Start);
        }
        let too_late = self.expected_wait(share).filter(|wait| wait.saturating_add(self.least_service(share)) > left);
        if self.queue.len() < self.limits.queue_capacity {
            return match too_late {
                Some(wait) => {
                    let retry_after = until_it_fits(wait, left);
                    Err(Refused::DeadlineCannotBeMet { wait, left, retry_after })
                }
                None => Ok(Decision::Wait),
            };
        }
        let (queued, active) = (self.queue.len(), self.running.len());
        let retry_after = self.hints.next(self.services.average(), active, now);
        if too_late.is_some() {
            // It would take a place in vain.
            return Err(Refused::QueueFull { queued, active, retry_after });
        }
        let victim = self
            .with_places(share, |places| self.strategy.displaces(share, places))
            .and_then(|flow| self.queue.newest_of(&flow));
        match victim {
            Some(at) => Ok(Decision::Displace { at, why: Refused::Displaced { queued, active, retry_after } }),
            None => Err(Refused::QueueFull { queued, active, retry_after }),
        }
    }

    /// What a query takes at least once it runs, as far as its flow's recent ones tell: three in four took longer. The
    /// mean would be that of giants, and refuse what is small. Nothing for a flow of which none has ended.
    pub(super) fn least_service(&self, share: &Share) -> Duration {
        self.flows.get(&share.flow).map_or(Duration::ZERO, |own| own.least_service)
    }

    /// What it takes at most, but for two of a hundred.
    pub(super) fn most_service(&self, share: &Share) -> Duration {
        self.flows.get(&share.flow).map_or(Duration::ZERO, |own| own.most_service)
    }

    /// How long a query that arrives now would wait: so many must end first, and on average one of n ends every n-th
    /// part of a service time. None as long as no query has ended. Of two possible answers the shorter, because to
    /// refuse what could have run is worse than to let one wait in vain.
    fn expected_wait(&self, share: &Share) -> Option<Duration> {
        let wait = |service: Duration, ahead: usize, active: usize| {
            (active > 0).then(|| service.mul_f64((ahead + 1) as f64 / active as f64))
        };
        let service = self.services.average()?;
        let ahead = self.with_places(share, |places| self.strategy.ahead(share, places));
        let for_any = wait(service, ahead, self.account.total());
        let own = self.flows.get(&share.flow);
        let own_service = own.and_then(|own| own.services.average()).unwrap_or(service);
        let own_ahead = own.map_or(0, |own| own.counters.queued);
        let for_own = wait(own_service, own_ahead, self.account.of(&share.flow));
        if self.account.total() < self.limits.concurrent_max {
            return for_own.or(for_any);
        }
        for_own.into_iter().chain(for_any).min()
    }
}
