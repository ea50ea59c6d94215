//! The verdict on an answer: every partition of the pinned manifest must have ended, in every leaf, in a way that the
//! plan allows. What is not accounted for is a violation, never an answer.

use std::collections::BTreeMap;

use overlay_ingest::PartitionId;

use super::answer::{CoverageSummary, MissingPartition};
use crate::engine::coverage::{CoverageSink, Gap, LeafEnd, LeafReport, Outcome};
use crate::engine::message::NodeWork;
use crate::failure::{Failure, FailureKind};
use crate::routing::NodeId;

/// Judges a query that ended well. `partitions` are those of the pinned manifest, `unheard` the members whose
/// partitions nobody knows.
pub fn judge(
    sink: &CoverageSink,
    partitions: &[PartitionId],
    manifest_version: u128,
    unheard: Vec<NodeId>,
) -> Result<(CoverageSummary, Vec<NodeWork>), Failure> {
    let leaves = sink.leaves();
    // A partition counts where it fared worst: missing, then answered, not needed, pruned.
    let mut worst: BTreeMap<PartitionId, Outcome> = BTreeMap::new();
    let mut work: Vec<NodeWork> = Vec::new();
    for (leaf, report) in &leaves {
        for id in partitions {
            let outcome = outcome(*leaf, report, id)?;
            let known = worst.entry(*id).or_insert_with(|| outcome.clone());
            if rank(&outcome) > rank(known) {
                *known = outcome;
            }
        }
        for done in &report.work {
            match work.iter_mut().find(|known| known.node == done.node && known.route == done.route) {
                Some(known) => {
                    known.cpu += done.cpu;
                    known.rows_scanned += done.rows_scanned;
                    known.bytes_scanned += done.bytes_scanned;
                    known.bytes_sent += done.bytes_sent;
                }
                None => work.push(done.clone()),
            }
        }
    }
    let mut summary = CoverageSummary {
        manifest_version: format!("{manifest_version:032x}"),
        partitions: partitions.len() as u64,
        unheard,
        ..CoverageSummary::default()
    };
    for id in partitions {
        match worst.get(id) {
            Some(Outcome::Answered { .. }) => summary.answered += 1,
            Some(Outcome::Pruned) => summary.pruned += 1,
            Some(Outcome::Missing(gap)) => summary.gaps.push(missing(id, gap)),
            // A plan without a leaf reads nothing.
            Some(Outcome::NotNeeded) | None => summary.not_needed += 1,
        }
    }
    Ok((summary, work))
}

/// A gap in the words of an answer.
pub fn missing(id: &PartitionId, gap: &Gap) -> MissingPartition {
    MissingPartition {
        date: id.date.to_string(),
        partition: id.to_string(),
        node: gap.node.clone(),
        route: gap.route.clone(),
        code: gap.code.name().to_owned(),
        message: gap.message.clone(),
    }
}

fn outcome(leaf: u32, report: &LeafReport, id: &PartitionId) -> Result<Outcome, Failure> {
    if let Some(outcome) = report.outcomes.get(id)
        && (report.may_stop || *outcome != Outcome::NotNeeded)
    {
        return Ok(outcome.clone());
    }
    if report.may_stop {
        return Ok(Outcome::NotNeeded);
    }
    let how = match report.end {
        LeafEnd::NotExecuted => "was never executed",
        LeafEnd::Dropped => "was dropped before its end",
        LeafEnd::Ended => "ended without it",
    };
    let message = format!("COVERAGE_VIOLATION: leaf {leaf} {how}: partition {id} is not accounted for");
    Err(Failure::new(FailureKind::Internal, "COVERAGE_VIOLATION", message))
}

fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Pruned => 0,
        Outcome::NotNeeded => 1,
        Outcome::Answered { .. } => 2,
        Outcome::Missing(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use overlay_ingest::Date;

    use super::*;
    use crate::engine::message::{FailureCode, How};

    fn id(day: u8) -> PartitionId {
        PartitionId { date: Date::new(2020, 8, day).unwrap(), digest: 0 }
    }

    fn answered(rows: u64) -> Outcome {
        Outcome::Answered { rows, how: How::Scanned }
    }

    fn check(
        may_stop: bool,
        end: Option<LeafEnd>,
        outcomes: &[(u8, Outcome)],
        expected: Result<(u64, u64, u64), &str>,
    ) {
        let sink = CoverageSink::default();
        sink.planned(0, may_stop, &[id(3)]);
        if let Some(end) = end {
            let outcomes = outcomes.iter().map(|(day, outcome)| (id(*day), outcome.clone())).collect();
            sink.ended(0, end, outcomes, Vec::new());
        }
        let judged = judge(&sink, &[id(1), id(2), id(3)], 7, Vec::new());
        match (judged, expected) {
            (Ok((summary, _)), Ok((answered, pruned, not_needed))) => {
                assert_eq!((summary.answered, summary.pruned, summary.not_needed), (answered, pruned, not_needed));
            }
            (Err(failure), Err(words)) => assert!(failure.message.contains(words), "{failure}"),
            (judged, expected) => panic!("{judged:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn every_partition_must_have_ended_in_a_way_the_plan_allows() {
        let both = [(1, answered(5)), (2, answered(6))];
        check(false, Some(LeafEnd::Ended), &both, Ok((2, 1, 0)));
        check(false, None, &[], Err("was never executed"));
        check(true, None, &[], Ok((0, 1, 2)));
        check(false, Some(LeafEnd::Dropped), &both[..1], Err("was dropped before its end: partition 20200802"));
        check(true, Some(LeafEnd::Dropped), &both[..1], Ok((1, 1, 1)));
        check(false, Some(LeafEnd::Ended), &both[..1], Err("ended without it"));
        check(false, Some(LeafEnd::Ended), &[(1, answered(5)), (2, Outcome::NotNeeded)], Err("ended without it"));
    }

    #[test]
    fn a_gap_in_one_leaf_is_a_gap_of_the_answer() {
        let gap = Gap { node: None, route: Vec::new(), code: FailureCode::Unavailable, message: "gone".into() };
        let sink = CoverageSink::default();
        for (leaf, outcome) in [(0, answered(1)), (1, Outcome::Missing(gap)), (2, answered(1))] {
            sink.planned(leaf, false, &[]);
            sink.ended(leaf, LeafEnd::Ended, BTreeMap::from([(id(1), outcome)]), Vec::new());
        }
        let (summary, _) = judge(&sink, &[id(1)], 7, Vec::new()).unwrap();
        assert_eq!(summary.gaps.len(), 1);
        assert!(!summary.is_complete());
    }
}
