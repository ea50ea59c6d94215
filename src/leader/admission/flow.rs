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
}

impl FlowState {
    /// A query begins to wait.
    pub fn queues(&mut self) {
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
}
