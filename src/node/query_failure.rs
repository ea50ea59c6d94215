//! Errors of the engine as failures for a client: what it can do about them, and where it happened.

use datafusion::error::DataFusionError;

use crate::engine::reader::ReadError;
use crate::engine::session::PlanError;
use crate::failure::{Failure, FailureKind};
use crate::routing::NodeId;

/// Why a query could not be planned, for its client.
pub(super) fn plan_failure(error: PlanError, me: &NodeId) -> Failure {
    match error {
        PlanError::Invalid(message) => Failure::new(FailureKind::InvalidArgument, "QUERY", message),
        PlanError::Refused(refused) => Failure::new(FailureKind::InvalidArgument, "SQL_REFUSED", refused.to_string()),
        PlanError::Failed(message) => Failure::new(FailureKind::Internal, "PLAN", message),
    }
    .at(me)
}

/// The query's time is over, and nothing more is known.
pub(super) fn expired(me: &NodeId) -> Failure {
    let message = "the query's time was over before it ended";
    Failure::new(FailureKind::DeadlineExceeded, "DEADLINE", message).at(me)
}

/// Why a plan broke off, for its client.
pub(super) fn read_failure(error: &DataFusionError, me: &NodeId) -> Failure {
    let fail = |kind, reason, message: String| Failure::new(kind, reason, message).at(me);
    if let Some(read) = find_read_error(error) {
        return match read {
            ReadError::Missing(gaps) | ReadError::Expired(gaps) => {
                let (kind, reason) = match read {
                    ReadError::Expired(_) => (FailureKind::DeadlineExceeded, "DEADLINE"),
                    _ => (FailureKind::Unavailable, "MISSING_PARTITIONS"),
                };
                let first = gaps.first().map(|(_, gap)| gap);
                Failure {
                    node: first.and_then(|gap| gap.node.clone()),
                    route: first.map(|gap| gap.route.clone()).unwrap_or_default(),
                    dates: gaps.iter().map(|(id, _)| id.date.to_string()).collect(),
                    ..fail(kind, reason, read.to_string())
                }
            }
            ReadError::Violation(_) => fail(FailureKind::Internal, "COVERAGE_VIOLATION", read.to_string()),
            ReadError::Cancelled => fail(FailureKind::Cancelled, "CANCELLED", read.to_string()),
        };
    }
    let text = error.strip_backtrace();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => fail(FailureKind::ResourceExhausted, "MEMORY", text),
        DataFusionError::Internal(_) => fail(FailureKind::Internal, "ENGINE", text),
        // What is left are faults of the values that the query computes with: a cast, a division.
        _ => fail(FailureKind::InvalidArgument, "EXECUTION", text),
    }
}

/// The reader's own error, however deep the plan wrapped it.
fn find_read_error(error: &DataFusionError) -> Option<&ReadError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(read) = error.downcast_ref::<ReadError>() {
            return Some(read);
        }
        source = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            _ => error.source(),
        };
    }
    None
}
