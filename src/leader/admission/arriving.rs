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
            return Err(Refused::DeadlineCannotBeMet { needed: Duration::ZERO, left, retry_after });
        }
        let limits = self.fairness_limits();
        if self.strategy.may_start(&share.flow, share.client, &self.account, &limits) {
            return Ok(Decision::Start);
        }
        // One that would begin with less could only hope, and come before nobody who has more. The wait is a guess: whom
        // it would just let in may wait a little longer and then be sent away after all, late and in vain.
        let most = self.most_service(share, left);
        let needed = self.expected_wait(share).map(|wait| wait.saturating_add(wait / 4).saturating_add(most));
        let too_late = needed.filter(|needed| *needed > left);
        if self.queue.len() < self.limits.queue_capacity {
            return match too_late {
                Some(needed) => {
                    let retry_after = until_it_fits(needed, left);
                    Err(Refused::DeadlineCannotBeMet { needed, left, retry_after })
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
        match self.victim(share) {
            Some(at) => Ok(Decision::Displace { at, why: Refused::Displaced { queued, active, retry_after } }),
            None => Err(Refused::QueueFull { queued, active, retry_after }),
        }
    }

    /// The place in the queue that is given up for one that arrives, if one is.
    fn victim(&self, share: &Share) -> Option<usize> {
        let own = self.flows.get(&share.flow);
        let queued = own.map_or(0, |own| own.counters.queued);
        let of_other_flow = self.with_places(share, queued, |places| self.strategy.displaces(share, places));
        let flow = of_other_flow.as_ref().unwrap_or(&share.flow);
        let (client, most) = self.flows.get(flow)?.client_with_most()?;
        let of_client = own.and_then(|own| own.queued_of.get(&share.client)).copied().unwrap_or(0);
        let gives_up = of_other_flow.is_some() || self.strategy.displaces_client(of_client, most);
        gives_up.then(|| self.queue.newest_of(flow, client)).flatten()
    }

    /// What a query takes at least once it runs, as far as its flow's recent ones tell: three in four took longer. The
    /// mean would be that of giants, and refuse what is small. Nothing for a flow of which none has ended; and never more
    /// than half of the time that its client gave it: who gives little does not send a giant.
    pub(super) fn least_service(&self, share: &Share, given: Duration) -> Duration {
        self.flows.get(&share.flow).map_or(Duration::ZERO, |own| own.least_service.min(given / 2))
    }

    /// What it takes at most, but for two of a hundred; with the same bound.
    pub(super) fn most_service(&self, share: &Share, given: Duration) -> Duration {
        self.flows.get(&share.flow).map_or(Duration::ZERO, |own| own.most_service.min(given / 2))
    }

    /// How long a query that arrives now would wait: so many must end first, and on average one of n ends every n-th
    /// part of a service time. None as long as no query has ended. Where a flow's own limit and that of all may both be what
    /// it waits for, the shorter.
    fn expected_wait(&self, share: &Share) -> Option<Duration> {
        let wait = |service: Duration, ahead: usize, active: usize| {
            (active > 0).then(|| service.mul_f64((ahead + 1) as f64 / active as f64))
        };
        let service = self.services.average()?;
        let own = self.flows.get(&share.flow);
        let own_service = own.and_then(|own| own.services.average()).unwrap_or(service);
        let own_ahead = own.map_or(0, |own| {
            let of_client = own.queued_of.get(&share.client).copied().unwrap_or(0);
            let others = own.queued_of.iter().filter(|(client, _)| **client != share.client);
            self.strategy.ahead_in_flow(of_client, &mut others.map(|(_, count)| *count))
        });
        let ahead = self.with_places(share, own_ahead, |places| self.strategy.ahead(share, places));
        let for_any = wait(service, ahead, self.account.total());
        let for_own = match own.and_then(|own| own.spacing()) {
            Some(spacing) => Some(spacing.saturating_mul(u32::try_from(own_ahead + 1).unwrap_or(u32::MAX))),
            None => wait(own_service, own_ahead, self.account.of(&share.flow)),
        };
        if self.account.total() < self.limits.concurrent_max {
            return for_own.or(for_any);
        }
        for_own.into_iter().chain(for_any).min()
    }
}
