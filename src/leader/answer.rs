//! What a client gets to see of its query besides rows: state, totals, coverage, the footer.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::delivery::QueryId;
use crate::delivery::encoding::{self, ChunkMeta, Pieces};
use crate::engine::message::NodeWork;
use crate::engine::session::Ask;
use crate::routing::{Link, NodeId, Team};

/// A query as a client opens it.
#[derive(Debug, Clone, PartialEq)]
pub struct QuerySpec {
    pub ask: Ask,
    /// The team that is billed.
    pub team: Option<Team>,
    /// A name of the table of encodings.
    pub encoding: &'static str,
    /// Time until the client gives up; `None`: the Leader's `deadline_s`.
    pub time_left: Option<Duration>,
    pub allow_partial: bool,
    pub limit: Option<u64>,
    /// Losing the stream of chunks ends the query; else it is a pause.
    pub cancel_on_disconnect: bool,
    /// Answer when the totals are known.
    pub wait: bool,
}

impl QuerySpec {
    /// Everything as a client gets it that asks for nothing special: Arrow, the Leader's deadline, every row or none,
    /// billed to nobody, on after a lost connection.
    pub fn of(ask: Ask) -> QuerySpec {
        QuerySpec {
            ask,
            team: None,
            encoding: encoding::DEFAULT,
            time_left: None,
            allow_partial: false,
            limit: None,
            cancel_on_disconnect: false,
            wait: false,
        }
    }

    /// The same without what was asked, which may be long: what is kept of a query that has ended.
    pub fn without_ask(&self) -> QuerySpec {
        let QuerySpec { ask: _, team, encoding, time_left, allow_partial, limit, cancel_on_disconnect, wait } = self;
        QuerySpec {
            ask: Ask::Sql(String::new()),
            team: team.clone(),
            encoding,
            time_left: *time_left,
            allow_partial: *allow_partial,
            limit: *limit,
            cancel_on_disconnect: *cancel_on_disconnect,
            wait: *wait,
        }
    }
}

/// Where a query stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryState {
    /// In the queue.
    Accepted,
    Running,
    /// Ended, every row is there.
    Ready,
    /// Ended, with gaps that the client allowed.
    Partial,
    Cancelled,
    /// Its time was over before it ended.
    Expired,
    Failed,
}

impl QueryState {
    /// Whether nothing more will happen.
    pub fn has_ended(self) -> bool {
        !matches!(self, QueryState::Accepted | QueryState::Running)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            QueryState::Accepted => "accepted",
            QueryState::Running => "running",
            QueryState::Ready => "ready",
            QueryState::Partial => "partial",
            QueryState::Cancelled => "cancelled",
            QueryState::Expired => "expired",
            QueryState::Failed => "failed",
        }
    }

    /// The state of that name.
    pub fn by_name(name: &str) -> Option<QueryState> {
        [
            QueryState::Accepted,
            QueryState::Running,
            QueryState::Ready,
            QueryState::Partial,
            QueryState::Cancelled,
            QueryState::Expired,
            QueryState::Failed,
        ]
        .into_iter()
        .find(|state| state.name() == name)
    }
}

impl fmt::Display for QueryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The reply to a query that was let in.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub id: QueryId,
    pub state: QueryState,
    pub total_chunks: Option<u64>,
    pub total_records: Option<u64>,
    /// The nodes on the routes so far, the Leader first.
    pub hops: Vec<NodeId>,
    pub partial_allowed: bool,
}

/// One partition that is missing from an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingPartition {
    pub date: String,
    pub partition: String,
    pub node: Option<NodeId>,
    pub route: Vec<NodeId>,
    pub code: String,
    pub message: String,
}

/// What became of the partitions of the manifest, over all leaves: a partition counts where it fared worst.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CoverageSummary {
    /// The digest of the pinned manifest, 32 hexadecimal digits.
    pub manifest_version: String,
    pub partitions: u64,
    pub answered: u64,
    pub pruned: u64,
    pub not_needed: u64,
    pub gaps: Vec<MissingPartition>,
    /// Configured members whose partitions nobody knows.
    pub unheard: Vec<NodeId>,
}

impl CoverageSummary {
    /// Whether the answer holds every row that it should.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty() && self.unheard.is_empty()
    }
}

/// The end of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Footer {
    pub id: QueryId,
    pub state: QueryState,
    pub rows: u64,
    /// From admission to the last zone.
    pub elapsed: Duration,
    /// Of that, in the queue.
    pub queued: Duration,
    /// Of that, for the plan.
    pub planned: Duration,
    pub work: Vec<NodeWork>,
    /// Links on the routes that are not in the configuration.
    pub adopted: Vec<Link>,
    pub coverage: CoverageSummary,
}

impl Footer {
    /// Rows that were looked at, on all nodes.
    pub fn rows_scanned(&self) -> u64 {
        self.work.iter().map(|work| work.rows_scanned).sum()
    }

    /// Bytes of columns that were looked at, on all nodes.
    pub fn bytes_scanned(&self) -> u64 {
        self.work.iter().map(|work| work.bytes_scanned).sum()
    }
}

/// One message of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkMessage {
    pub chunks: Vec<ChunkMeta>,
    /// In the query's encoding.
    pub data: Pieces,
    /// xxh3 of `data`.
    pub checksum: u64,
    /// A gap was known when this was sent.
    pub partial: bool,
    /// The schema as the head of an Arrow IPC stream; empty where it was sent before.
    pub schema: Vec<u8>,
    pub total_chunks: Option<u64>,
    /// With the last chunk.
    pub footer: Option<Footer>,
}

/// A query's progress.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryStatus {
    pub id: QueryId,
    pub state: QueryState,
    pub total_chunks: Option<u64>,
    pub total_records: Option<u64>,
    pub records_so_far: u64,
    pub partial: bool,
    /// Once it has ended.
    pub footer: Option<Footer>,
}
