//! How a request fails: a code that says what to do, words, and where it happened. The same value is made by the
//! node that fails, carried as a gRPC status with details, and shown by the client.

use std::fmt;
use std::time::Duration;

use crate::routing::NodeId;

/// What the asker can do about it. The names are those of gRPC's status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request is at fault: change it.
    InvalidArgument,
    /// There is no such query or result, or not any more.
    NotFound,
    /// Past the end of a result.
    OutOfRange,
    /// A bound is reached: later, or with less.
    ResourceExhausted,
    /// Time was over.
    DeadlineExceeded,
    /// A node or partition cannot be reached: later, or with `allow_partial`.
    Unavailable,
    /// Not in this state, or not to this node.
    FailedPrecondition,
    /// Another process with the same id is alive.
    AlreadyExists,
    /// Somebody cancelled it.
    Cancelled,
    /// Bytes were damaged.
    DataLoss,
    /// A fault of ours.
    Internal,
}

impl FailureKind {
    /// The name of the code.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::InvalidArgument => "INVALID_ARGUMENT",
            FailureKind::NotFound => "NOT_FOUND",
            FailureKind::OutOfRange => "OUT_OF_RANGE",
            FailureKind::ResourceExhausted => "RESOURCE_EXHAUSTED",
            FailureKind::DeadlineExceeded => "DEADLINE_EXCEEDED",
            FailureKind::Unavailable => "UNAVAILABLE",
            FailureKind::FailedPrecondition => "FAILED_PRECONDITION",
            FailureKind::AlreadyExists => "ALREADY_EXISTS",
            FailureKind::Cancelled => "CANCELLED",
            FailureKind::DataLoss => "DATA_LOSS",
            FailureKind::Internal => "INTERNAL",
        }
    }
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    pub kind: FailureKind,
    /// A word for programs, such as `MISSING_PARTITIONS`.
    pub reason: String,
    pub message: String,
    /// Where it happened, as far as known.
    pub node: Option<NodeId>,
    /// The way there.
    pub route: Vec<NodeId>,
    /// The dates concerned, `YYYYMMDD`.
    pub dates: Vec<String>,
    /// When asking again may help.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure without a place.
    pub fn new(kind: FailureKind, reason: &str, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            node: None,
            route: Vec::new(),
            dates: Vec::new(),
            retry_after: None,
        }
    }

    /// The same, at this node.
    pub fn at(mut self, node: &NodeId) -> Failure {
        self.node = Some(node.clone());
        self
    }

    /// The same, with the way to the node.
    pub fn by(mut self, route: &[NodeId]) -> Failure {
        self.route = route.to_vec();
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
