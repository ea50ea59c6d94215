//! Failures as gRPC statuses with google.rpc details, and back.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt};

use crate::failure::{Failure, FailureKind};
use crate::routing::{self, NodeId};

const DOMAIN: &str = "overlay";

fn code(kind: FailureKind) -> Code {
    match kind {
        FailureKind::InvalidArgument => Code::InvalidArgument,
        FailureKind::NotFound => Code::NotFound,
        FailureKind::OutOfRange => Code::OutOfRange,
        FailureKind::ResourceExhausted => Code::ResourceExhausted,
        FailureKind::DeadlineExceeded => Code::DeadlineExceeded,
        FailureKind::Unavailable => Code::Unavailable,
        FailureKind::FailedPrecondition => Code::FailedPrecondition,
        FailureKind::AlreadyExists => Code::AlreadyExists,
        FailureKind::Cancelled => Code::Cancelled,
        FailureKind::DataLoss => Code::DataLoss,
        FailureKind::Internal => Code::Internal,
    }
}

fn kind(code: Code) -> FailureKind {
    match code {
        Code::InvalidArgument => FailureKind::InvalidArgument,
        Code::NotFound => FailureKind::NotFound,
        Code::OutOfRange => FailureKind::OutOfRange,
        Code::ResourceExhausted => FailureKind::ResourceExhausted,
        Code::DeadlineExceeded => FailureKind::DeadlineExceeded,
        // A connection that breaks under a call is reported as Unknown by the HTTP/2 layer.
        Code::Unavailable | Code::Unknown => FailureKind::Unavailable,
        Code::FailedPrecondition => FailureKind::FailedPrecondition,
        Code::AlreadyExists => FailureKind::AlreadyExists,
        Code::Cancelled | Code::Aborted => FailureKind::Cancelled,
        Code::DataLoss => FailureKind::DataLoss,
        _ => FailureKind::Internal,
    }
}

/// The failure as a status. The message is cut where headers would become too large.
pub(super) fn to_status(failure: Failure) -> Status {
    let mut metadata = HashMap::new();
    if let Some(node) = &failure.node {
        metadata.insert("node".to_owned(), node.to_string());
    }
    if !failure.route.is_empty() {
        metadata.insert("route".to_owned(), routing::names(&failure.route, " "));
    }
    if !failure.dates.is_empty() {
        metadata.insert("dates".to_owned(), failure.dates.iter().take(400).cloned().collect::<Vec<_>>().join(" "));
    }
    let mut details = ErrorDetails::with_error_info(failure.reason, DOMAIN, metadata);
    if let Some(after) = failure.retry_after {
        details.set_retry_info(Some(after));
    }
    let message: String = failure.message.chars().take(2000).collect();
    Status::with_error_details(code(failure.kind), message, details)
}

/// The status as a failure; a status that is not ours has neither place nor reason.
pub(super) fn from_status(status: &Status) -> Failure {
    let details = status.get_error_details();
    let mut message = status.message().to_owned();
    if message.is_empty() {
        message = status.code().description().to_owned();
    }
    let kind = if timed_out(status) {
        FailureKind::DeadlineExceeded
    } else if broke(status) {
        FailureKind::Unavailable
    } else {
        kind(status.code())
    };
    let mut failure = Failure::new(kind, "", message);
    if let Some(info) = details.error_info() {
        failure.reason.clone_from(&info.reason);
        failure.node = info.metadata.get("node").map(|node| NodeId::from(node.as_str()));
        if let Some(route) = info.metadata.get("route") {
            failure.route = route.split(' ').map(NodeId::from).collect();
        }
        if let Some(dates) = info.metadata.get("dates") {
            failure.dates = dates.split(' ').map(str::to_owned).collect();
        }
    }
    failure.retry_after = details.retry_info().and_then(|info| info.retry_delay);
    failure
}

/// Whether the time of the call ended it on this side, which tonic calls a cancel.
fn timed_out(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Whether the connection broke under the call. HTTP/2 then says how the stream ended (reset, cancelled, a protocol
/// error) as if the other end had meant it; what the other end says in words has no source on this side.
fn broke(status: &Status) -> bool {
    matches!(status.code(), Code::Internal | Code::Cancelled) && status.source().is_some()
}

/// A time in whole milliseconds, at least 1 where there is any.
pub(super) fn millis(time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if time.is_zero() { 0 } else { millis.max(1) }
}

/// The most time a query or scan has, whatever is asked: about 32 years. gRPC cannot write times that are much longer,
/// and clocks cannot add them.
const TIME_LEFT_MAX: Duration = Duration::from_secs(1_000_000_000);

/// A time left, as sent.
pub(super) fn time_left(millis: u64) -> Duration {
    Duration::from_millis(millis).min(TIME_LEFT_MAX)
}

/// A time in whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The wire said something that it must not say.
pub(super) fn malformed(what: impl Into<String>) -> Failure {
    Failure::new(FailureKind::InvalidArgument, "MALFORMED", what)
}
