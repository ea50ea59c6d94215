//! What admission keeps of one flow: counts, and the last waits and service times.

use std::time::Duration;

use super::counts::FlowCounters;
use super::recent::Recent;

#[derive(Default)]
pub(super) struct FlowState {
    /// Without what is computed when somebody asks.
    pub counters: FlowCounters,
    pub waits: Recent,
    pub services: Recent,
    /// What one in four of the last services did not exceed, and what 98 of 100 did not; kept, because every arrival and
    /// every pick asks for them.
    pub least_service: Duration,
    pub most_service: Duration,
    /// That of the query that began to wait last.
    pub weight: u32,
}

impl FlowState {
    /// A query begins to wait, of this weight.
    pub fn queues(&mut self, weight: u32) {
        self.weight = weight;
        self.counters.queued += 1;
        self.counters.queued_peak = self.counters.queued_peak.max(self.counters.queued);
    }

    /// A query starts.
    pub fn starts(&mut self, waited: Duration) {
        self.waits.add(waited);
        self.counters.admitted += 1;
        self.counters.active += 1;
        self.counters.active_peak = self.counters.active_peak.max(self.counters.active);
    }

    /// A query has ended that ran for so long.
    pub fn ends(&mut self, service: Duration) {
        self.services.add(service);
        self.least_service = self.services.percentile(25).unwrap_or_default();
        self.most_service = self.services.percentile(98).unwrap_or_default();
    }
}
