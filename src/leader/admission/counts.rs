//! What admission tells about itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::leader::fairness::Flow;

/// How it stands with one flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Running now.
    pub active: usize,
    /// The most that ever ran at once.
    pub active_peak: usize,
    /// Waiting now.
    pub queued: usize,
    /// The most that ever waited at once.
    pub queued_peak: usize,
    /// Ever started.
    pub admitted: u64,
    /// Ever refused.
    pub refused: u64,
    /// Ever sent away from the queue: for another flow or client, or because too little time was left to end.
    pub displaced: u64,
    /// Waits of the last 200 that started.
    pub waits: Waits,
    /// Ever charged, in time of a core.
    pub charged: Duration,
}

/// How long the recent queries waited before they started. None before the first has started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// The mean.
    pub average: Option<Duration>,
    /// Half of them waited no longer.
    pub p50: Option<Duration>,
    /// All but one in a hundred waited no longer.
    pub p99: Option<Duration>,
}

/// How it stands with all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionCounters {
    /// The name of the strategy that decides now.
    pub strategy: &'static str,
    /// Running now.
    pub active: usize,
    /// The most that ever ran at once.
    pub active_peak: usize,
    /// Waiting now.
    pub queued: usize,
    /// The most that ever waited at once.
    pub queued_peak: usize,
    /// Each flow that was ever offered a query of.
    pub flows: BTreeMap<Flow, FlowCounters>,
    /// Waits of the last 200 that started.
    pub waits: Waits,
    /// Mean time from start to end of the last 200 that ended. None before the first has ended.
    pub service_average: Option<Duration>,
}
