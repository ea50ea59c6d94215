//! What a reader is told of its query and its leaf, and why it may not be able to give all rows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use overlay_ingest::{PartitionId, PartitionStats};

use super::super::acceptance::Violation;
use super::super::coverage::{CoverageSink, Gap};
use super::super::hop::Hop;
use super::super::message::{NodeInstance, ScanPath};
use super::super::meter::Meter;
use super::super::stop::Stop;
use crate::delivery::QueryId;
use crate::routing::assignment::{Order, Snapshot};
use crate::routing::forwarding::Forwarding;
use crate::routing::{self, Load, NodeId, Team};

/// A partition of the manifest that a query is pinned to.
#[derive(Debug, Clone)]
pub struct PinnedPartition {
    pub id: PartitionId,
    /// `None` while nobody has counted.
    pub stats: Option<PartitionStats>,
}

/// Who is alive, what they hold and which links are up, whenever an assignment is made.
pub trait Overview: Send + Sync {
    /// The state of now.
    fn snapshot(&self) -> Snapshot;

    /// A node told with its reply how busy it is.
    fn replied(&self, _node: &NodeId, _load: Load) {}

    /// These orders are on their way.
    fn ordered(&self, _orders: &[Order]) {}

    /// Who is known to have held the partition last, with the way there: names a hole that nobody can fill.
    fn last_holder(&self, id: &PartitionId) -> Option<(NodeId, Vec<NodeId>)>;
}

/// Everything about a query that its leaves need; made before planning and then only read.
pub struct QueryContext {
    pub query: QueryId,
    pub team: Option<Team>,
    /// Which of the team's clients asks.
    pub client: u64,
    /// The team's weight; 0: work is done in the order of its arrival.
    pub weight: u32,
    pub leader: NodeInstance,
    pub hop: Arc<Hop>,
    pub overview: Arc<dyn Overview>,
    /// The pinned manifest.
    pub partitions: Arc<Vec<PinnedPartition>>,
    pub forwarding: Arc<dyn Forwarding>,
    pub asynchronous: bool,
    /// Which query of the Leader this is; strategies rotate by it.
    pub turn: u64,
    pub allow_partial: bool,
    /// Raised when the query is cancelled or its time is over.
    pub stop: Stop,
    /// When the query's time is over, on the hop's clock.
    pub deadline: std::time::Duration,
    pub sink: Arc<CoverageSink>,
    pub scan_path: ScanPath,
    /// Whether leaves give texts spelled out, where their plan was made for it, instead of as dictionaries.
    pub plain_texts: bool,
    /// Told what the nodes spend.
    pub meter: Arc<Meter>,
}

impl fmt::Debug for QueryContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryContext").field("query", &self.query).finish_non_exhaustive()
    }
}

/// What one leaf reads.
#[derive(Debug, Clone)]
pub struct LeafSpec {
    pub leaf: u32,
    /// The partitions that were not pruned.
    pub partitions: Vec<PinnedPartition>,
    /// Columns of the table, ascending.
    pub projection: Vec<usize>,
    /// The schema of those columns.
    pub schema: SchemaRef,
    /// In its protobuf form; empty means every row.
    pub predicate: Vec<u8>,
    pub limit: Option<u64>,
}

/// Why a leaf cannot give all its rows.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Partitions that nobody gave all of, with the reasons.
    #[error("{}", describe_gaps(.0))]
    Missing(Vec<(PartitionId, Gap)>),
    /// A reply that contradicts the manifest or itself. Never a partial answer.
    #[error("COVERAGE_VIOLATION: {0}")]
    Violation(#[from] Violation),
    /// The query's time is over; these partitions had not been answered by then.
    #[error("the query's time was over before it ended; {}", describe_gaps(.0))]
    Expired(Vec<(PartitionId, Gap)>),
    /// The query was cancelled.
    #[error("the query was cancelled")]
    Cancelled,
}

fn describe_gaps(gaps: &[(PartitionId, Gap)]) -> String {
    let mut text = match gaps.len() {
        1 => "1 partition is missing".to_owned(),
        n => format!("{n} partitions are missing"),
    };
    let mut by_cause: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (id, gap) in gaps {
        let route = routing::names(&gap.route, " → ");
        let node = gap.node.as_ref().map_or_else(|| "nobody".to_owned(), NodeId::to_string);
        let place = if route.is_empty() { node } else { format!("{node} (route {route})") };
        by_cause.entry((place, gap.message.clone())).or_default().push(id.date.to_string());
    }
    for ((place, message), dates) in by_cause {
        text.push_str(&format!("; {place}: {message}: {}", dates.join(" ")));
    }
    text
}
