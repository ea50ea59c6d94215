//! What admission keeps of one flow: counts, and the last waits and service times.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::counts::FlowCounters;
use super::recent::Recent;
use crate::leader::fairness::Share;

/// Over so many ends: a second or two of a busy node. Over fewer it would go up and down with them, and whoever arrives while
/// it is low would be let in; of less than the least nothing is told.
const SPACINGS: RangeInclusive<usize> = 16..=100;

#[derive(Default)]
pub(super) struct FlowState {
    /// Without what is computed when somebody asks.
    pub counters: FlowCounters,
    pub waits: Recent,
    pub services: Recent,
    /// Times from one end to the next while others of the flow waited.
    pub spacings: Recent,
    /// When a query ended last, if others waited then.
    last_end: Option<Duration>,
    /// What one in four of the last services did not exceed, and what 98 of 100 did not; kept, because every arrival and
    /// every pick asks for them.
    pub least_service: Duration,
    pub most_service: Duration,
    /// That of the query that began to wait last.
    pub weight: u32,
    /// How many of each client wait; none that has none.
    pub queued_of: BTreeMap<u64, usize>,
}

impl FlowState {
    /// A query begins to wait.
    pub fn queues(&mut self, share: &Share) {
        self.weight = share.weight;
        *self.queued_of.entry(share.client).or_default() += 1;
        self.counters.queued += 1;
        self.counters.queued_peak = self.counters.queued_peak.max(self.counters.queued);
    }

    /// A query does not wait any more.
    pub fn leaves_queue(&mut self, client: u64) {
        self.counters.queued -= 1;
        if (self.counters.queued, self.counters.active) == (0, 0) {
            // What comes next does not wait for what ended last.
            self.last_end = None;
        }
        if let Some(count) = self.queued_of.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.queued_of.remove(&client);
            }
        }
    }

    /// How often a query ends while others wait, if others wait now and it is known. What queries take and how many run
    /// would tell the same, but both go up and down, together and not, most of all when the strategy is changed.
    pub fn spacing(&self) -> Option<Duration> {
        (self.counters.queued > 0).then(|| self.spacings.average_of(SPACINGS)).flatten()
    }

    /// The client that has the most queries waiting, and how many; none if nothing waits.
    pub fn client_with_most(&self) -> Option<(u64, usize)> {
        self.queued_of.iter().max_by_key(|(_, count)| **count).map(|(client, count)| (*client, *count))
    }

    /// A query starts.
    pub fn starts(&mut self, waited: Duration) {
        self.waits.add(waited);
        self.counters.admitted += 1;
        self.counters.active += 1;
        self.counters.active_peak = self.counters.active_peak.max(self.counters.active);
    }

    /// A query has ended that ran for so long.
    pub fn ends(&mut self, service: Duration, now: Duration) {
        self.services.add(service);
        let is_waited_for = self.counters.queued > 0;
        if let Some(last) = self.last_end.filter(|_| is_waited_for) {
            self.spacings.add(now.saturating_sub(last));
        }
        self.last_end = is_waited_for.then_some(now);
        self.least_service = self.services.percentile(25).unwrap_or_default();
        self.most_service = self.services.percentile(98).unwrap_or_default();
    }
}
