//! What became of every partition of the pinned manifest, leaf by leaf: answered, pruned, not needed or missing.
//!
//! The sink is passed in, so that whoever runs a plan (the Leader, `--local`, a test) can judge the answer by it. It
//! decides nothing about forwarding or retry.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use overlay_ingest::PartitionId;

use super::message::{BranchFailure, FailureCode, How, NodeWork};
use crate::routing::NodeId;

/// What became of one partition in one leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every zone was accepted; the rows were counted from the batches when they were scanned.
    Answered { rows: u64, how: How },
    /// Its statistics show that no row can match.
    Pruned,
    /// The query had all it needed before.
    NotNeeded,
    /// Nobody gave all of it.
    Missing(Gap),
}

/// Why a partition is missing, in the words of the last that tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The node that was asked for it, or that last held it.
    pub node: Option<NodeId>,
    /// From the reader to that node, as far as it was known.
    pub route: Vec<NodeId>,
    pub code: FailureCode,
    pub message: String,
}

impl Gap {
    /// The gap that a failed branch left.
    pub fn from_failure(failure: &BranchFailure) -> Gap {
        Gap {
            node: Some(failure.node.clone()),
            route: failure.route.clone(),
            code: failure.code,
            message: failure.message.clone(),
        }
    }
}

/// How a leaf came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafEnd {
    /// Planned, but never executed.
    NotExecuted,
    /// Every assigned partition has an outcome.
    Ended,
    /// Whoever read it stopped reading.
    Dropped,
}

/// What one leaf of the plan did.
#[derive(Debug, Clone)]
pub struct LeafReport {
    /// Below a limit, a fetch or a join that can be satisfied early: only then may it leave something unread.
    pub may_stop: bool,
    pub end: LeafEnd,
    pub outcomes: BTreeMap<PartitionId, Outcome>,
    pub work: Vec<NodeWork>,
}

/// Collects the reports of a query's leaves.
#[derive(Debug, Default)]
pub struct CoverageSink {
    leaves: Mutex<BTreeMap<u32, LeafReport>>,
}

impl CoverageSink {
    /// A leaf of the final plan, before anything runs; `pruned` are the partitions its statistics ruled out.
    pub fn planned(&self, leaf: u32, may_stop: bool, pruned: &[PartitionId]) {
        let outcomes = pruned.iter().map(|id| (*id, Outcome::Pruned)).collect();
        let report = LeafReport { may_stop, end: LeafEnd::NotExecuted, outcomes, work: Vec::new() };
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).insert(leaf, report);
    }

    /// A leaf came to its end. Of several executions of one leaf, the outcomes that say less stand.
    pub fn ended(&self, leaf: u32, end: LeafEnd, outcomes: BTreeMap<PartitionId, Outcome>, work: Vec<NodeWork>) {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = leaves.get_mut(&leaf) else { return };
        report.end = if report.end == LeafEnd::Dropped { LeafEnd::Dropped } else { end };
        for (id, outcome) in outcomes {
            let known_gap = matches!(report.outcomes.get(&id), Some(Outcome::Missing(_)));
            if !known_gap {
                report.outcomes.insert(id, outcome);
            }
        }
        report.work.extend(work);
    }

    /// Whether any leaf has gone on over a missing partition.
    pub fn has_gaps(&self) -> bool {
        let leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        leaves.values().any(|leaf| leaf.outcomes.values().any(|outcome| matches!(outcome, Outcome::Missing(_))))
    }

    /// The reports so far, by leaf.
    pub fn leaves(&self) -> BTreeMap<u32, LeafReport> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
