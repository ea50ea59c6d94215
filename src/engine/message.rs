//! What a `Scan` asks and what comes back, in the engine's own words. `transport` puts them on the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use overlay_ingest::PartitionId;

use crate::delivery::QueryId;
use crate::delivery::encoding::packed::Packed;
use crate::routing::assignment::Order;
use crate::routing::{Load, NodeId, Team};

/// One running process: an id and the start of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInstance {
    pub id: NodeId,
    /// Counts the starts of that node.
    pub incarnation: u64,
}

/// By which ways a node may find the rows. All give the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ScanPath {
    /// The fastest: bounds, counts kept beside the rows, plain comparisons, DataFusion.
    #[default]
    Any,
    /// No counts: every zone that its bounds leave open is looked at.
    NoIndex,
    /// Only DataFusion's evaluation and its pruning: what the other ways are held equal to.
    Reference,
}

/// Which zones of which partitions to scan, and for what.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    pub query: QueryId,
    /// Counts the assignments made for this leaf, from 0.
    pub attempt: u32,
    /// Which scan of the query's plan this is.
    pub leaf: u32,
    /// The team the work is billed to.
    pub team: Option<Team>,
    /// Which of the team's clients asks.
    pub client: u64,
    /// That team's share of a contended node; 0: its work is done in the order of its arrival.
    pub weight: u32,
    /// Time until the reader gives up; every hop passes on a little less.
    pub time_left: Duration,
    /// The nodes that passed the request on, reader first.
    pub hops: Vec<NodeId>,
    /// The Leader that ordered it.
    pub leader: NodeInstance,
    /// Who scans what, in asking order. Each path is whole, from reader to holder.
    pub orders: Vec<Order>,
    /// On a retry: the only zones wanted of a partition. A partition that is absent here is wanted whole.
    pub zones: BTreeMap<PartitionId, Vec<u32>>,
    /// How many branches a node keeps in flight, at least 1. With 1, a node scans its own partitions first and
    /// passes down what is left of the limit.
    pub in_flight: usize,
    /// Columns of the table wanted, by position, ascending.
    pub projection: Vec<usize>,
    /// A DataFusion physical expression over the whole table, in its protobuf form; empty means every row.
    pub predicate: Vec<u8>,
    /// No more rows than this are wanted.
    pub limit: Option<u64>,
    pub scan_path: ScanPath,
}

/// How the rows of a zone were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Every row was looked at.
    Scanned,
    /// An index named them.
    Index,
    /// The zone map ruled them all out, or all in.
    ZoneMap,
}

/// The rows themselves.
#[derive(Debug, Clone)]
pub enum Payload {
    /// No row, rows without columns, or rows in the block of an answer before.
    None,
    /// Scanned in this process.
    Batch(RecordBatch),
    /// Packed in this process. It holds the rows of `answers` answers, at least 1: of this one, and of those that follow it
    /// in its message, which have no payload of their own.
    Block { block: Packed, answers: u32 },
    /// The same from another node, or for one: a block (see [`crate::delivery::encoding::packed`]) of the leaf's columns, with
    /// its checksum outside.
    Packed { bytes: Bytes, xxh3: u64, answers: u32 },
}

/// What is left of one zone after the predicate; reported with 0 rows too.
#[derive(Debug, Clone)]
pub struct ZoneAnswer {
    /// The partition that the holder was asked for.
    pub asked: PartitionId,
    /// The partition that the zone itself says it is of. Anything but the same is a fault of the holder's store.
    pub partition: PartitionId,
    pub zone: u32,
    /// Zones of the partition, at least 1.
    pub zone_count: u32,
    /// Counts the parts of a large zone, from 0.
    pub part: u32,
    /// Whether this is the zone's last part.
    pub last: bool,
    /// Rows of this part.
    pub rows: u64,
    /// Rows of the zone, counted from its batch when it was scanned. The same in every part.
    pub rows_scanned: u64,
    /// Bytes of the zone's columns that were looked at; 0 where the zone map decided.
    pub bytes_scanned: u64,
    /// Time of a core that the zone took; with its first part.
    pub cpu: Duration,
    pub how: How,
    /// Rows that match were left out because the limit was reached.
    pub cut: bool,
    /// Who scanned it.
    pub node: NodeId,
    pub payload: Payload,
}

/// Why a branch, or a partition of it, did not answer. The code says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCode {
    /// Cannot be reached, or went away: another path or holder may do.
    Unavailable,
    /// It does not hold that partition id: plan anew.
    FailedPrecondition,
    /// Time was over.
    DeadlineExceeded,
    /// A damaged message or batch: another holder may do.
    DataLoss,
    /// It has no room: later, or elsewhere.
    ResourceExhausted,
    /// A fault of ours; retrying will not help.
    Internal,
}

impl FailureCode {
    /// The code's name as in gRPC.
    pub fn name(self) -> &'static str {
        match self {
            FailureCode::Unavailable => "UNAVAILABLE",
            FailureCode::FailedPrecondition => "FAILED_PRECONDITION",
            FailureCode::DeadlineExceeded => "DEADLINE_EXCEEDED",
            FailureCode::DataLoss => "DATA_LOSS",
            FailureCode::ResourceExhausted => "RESOURCE_EXHAUSTED",
            FailureCode::Internal => "INTERNAL",
        }
    }
}

/// A branch that ended without answering for these partitions.
#[derive(Debug, Clone)]
pub struct BranchFailure {
    /// The node that did not answer.
    pub node: NodeId,
    /// From the reader to that node; its last link is the one that failed.
    pub route: Vec<NodeId>,
    pub code: FailureCode,
    pub message: String,
    /// Every partition that was to come by this branch; some of their zones may have arrived before.
    pub partitions: Vec<PartitionId>,
    /// How busy the node is, if it tells of itself.
    pub load: Option<Load>,
}

/// What one node spent on a `Scan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeWork {
    pub node: NodeId,
    /// From the reader to the node.
    pub route: Vec<NodeId>,
    pub cpu: Duration,
    pub rows_scanned: u64,
    pub bytes_scanned: u64,
    /// Bytes of rows handed to the next node of the route; 0 where the reader is on this node.
    pub bytes_sent: u64,
}

impl Payload {
    /// Bytes that it takes on a link.
    pub fn bytes_sent(&self) -> u64 {
        match self {
            Payload::Packed { bytes, .. } => bytes.len() as u64,
            Payload::None | Payload::Batch(_) | Payload::Block { .. } => 0,
        }
    }
}

/// One message of a scan's stream.
#[derive(Debug, Clone)]
pub enum ScanMessage {
    Zones(Vec<ZoneAnswer>),
    Failed(BranchFailure),
    /// A node is done with its own partitions. `skipped` were not needed once the limit it was given was reached.
    Done {
        work: NodeWork,
        skipped: Vec<PartitionId>,
        /// How busy the node is now, if it says so.
        load: Option<Load>,
    },
}
