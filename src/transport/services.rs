//! What a node offers to its neighbours and to clients, in our own words. `node` implements these; [`super::server`]
//! puts them on the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::delivery::QueryId;
use crate::engine::hop::ScanStream;
use crate::engine::message::ScanRequest;
use crate::failure::Failure;
use crate::leader::answer::{ChunkMessage, QuerySpec, QueryState, QueryStatus, Submitted};
use crate::node::status::{Metrics, NodeStatus};
use crate::routing::NodeId;
use crate::routing::announcements::{Announcement, Load};
use crate::routing::trace::{Trace, TraceHop, TraceRequest};

/// The first word of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub process_id: NodeId,
    pub incarnation: u64,
    /// A random number of this process: tells two processes with one id apart, whatever they count.
    pub nonce: u64,
    /// Key path to a digest of its value, for everything that must agree.
    pub fingerprint: BTreeMap<String, u64>,
    pub kind: LinkKind,
}

/// Why two nodes have a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// The configuration says so.
    Configured,
    /// The caller adopted it, because it is cut off from the Leader.
    Adopted,
    /// The called node adopted it, and this is its other direction.
    AdoptedBack,
}

/// The reply to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloAnswer {
    pub process_id: NodeId,
    pub incarnation: u64,
    /// A random number of this process: tells two processes with one id apart, whatever they count.
    pub nonce: u64,
    /// The highest incarnation ever heard of the caller.
    pub newest_incarnation: u64,
}

/// News from a neighbour.
#[derive(Debug, Clone)]
pub struct News {
    pub from: NodeId,
    pub incarnation: u64,
    pub announcements: Vec<Announcement>,
}

/// The reply to news.
#[derive(Debug, Clone, PartialEq)]
pub struct NewsAnswer {
    /// Origins whose list of known partitions is wanted in full.
    pub wanted: Vec<NodeId>,
    /// A random number of this process: tells two processes with one id apart, whatever they count.
    pub nonce: u64,
    /// How busy the node is at this moment, if it says so.
    pub load: Option<Load>,
}

/// For neighbours.
#[async_trait]
pub trait PeerService: Send + Sync + 'static {
    /// Whether this neighbour may link to us.
    async fn hello(&self, hello: Hello) -> Result<HelloAnswer, Failure>;

    /// Takes news in; quick and without waiting.
    fn announce(&self, news: News) -> Result<NewsAnswer, Failure>;

    /// Starts a scan. The work ends when the stream is dropped.
    fn scan(&self, request: ScanRequest) -> Result<ScanStream, Failure>;

    /// Visits what lies behind this node.
    async fn trace(&self, request: TraceRequest) -> Result<TraceHop, Failure>;
}

/// Which part of a node's log is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsAsked {
    /// The node that is meant.
    pub node: NodeId,
    /// Of what was written before.
    pub lines: u32,
    /// Also what is written from then on.
    pub follow: bool,
}

/// For clients.
#[async_trait]
pub trait ClientService: Send + Sync + 'static {
    /// Opens a query. `client` is what the client calls itself: queries of one name share what the team gets with those
    /// of other names.
    async fn submit(&self, spec: QuerySpec, client: &str) -> Result<Submitted, Failure>;

    /// One chunk, in any order.
    async fn chunk(&self, id: QueryId, index: u64, acknowledged_through: Option<u64>) -> Result<ChunkMessage, Failure>;

    /// The chunks from an index on.
    fn stream(
        &self,
        id: QueryId,
        from_index: u64,
        acknowledged_through: Option<u64>,
    ) -> BoxStream<'static, Result<ChunkMessage, Failure>>;

    /// Ends a query or frees its result; gives the state before.
    fn cancel(&self, id: QueryId) -> Result<QueryState, Failure>;

    /// How far a query is.
    fn query_status(&self, id: QueryId) -> Result<QueryStatus, Failure>;

    /// This node's view.
    fn node_status(&self) -> NodeStatus;

    /// This node's figures.
    fn metrics(&self) -> Metrics;

    /// Visits every node over the paths of a query.
    async fn forward(&self, time_left: Duration) -> Trace;

    /// Lines of this node's log as they come, some at a time.
    fn logs(&self, asked: LogsAsked) -> Result<BoxStream<'static, Result<Vec<String>, Failure>>, Failure>;

    /// Puts another fairness strategy in force, unless none is named; gives the one in force.
    fn control(&self, fairness_strategy: Option<&str>) -> Result<String, Failure>;

    /// Begins to end the process.
    fn shutdown(&self, graceful: bool);
}
