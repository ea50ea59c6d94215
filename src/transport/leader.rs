//! Calls of a client to a node, most of all to the Leader.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::connector::SharedConnector;
use super::convert_answer::{
    batch_from_wire, chunk_from_wire, query_id, query_status_from_wire, spec_to_wire, state, submitted_from_wire,
};
use super::convert_status::{metrics_from_wire, node_status_from_wire};
use super::convert_trace::trace_from_wire;
use super::peer::channel;
use super::services::LogsAsked;
use super::status::{from_status, malformed, millis};
use super::wire::overlay_client::OverlayClient;
use super::{MESSAGE_BYTES_MAX, wire};
use crate::delivery::QueryId;
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{ChunkMessage, QuerySpec, QueryState, QueryStatus, Submitted};
use crate::node::status::{Metrics, NodeStatus};
use crate::routing::trace::Trace;

/// A connection to one node. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct NodeConnection {
    client: OverlayClient<Channel>,
}

impl NodeConnection {
    /// Dials when it is first used.
    pub fn new(connector: SharedConnector, address: String) -> NodeConnection {
        let channel = channel(connector, Arc::new(move || Some(address.clone())));
        let client = OverlayClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        NodeConnection { client }
    }

    /// Opens a query. `timeout` bounds this call only.
    pub async fn submit(
        &self,
        spec: QuerySpec,
        client_id: &str,
        timeout: Option<Duration>,
    ) -> Result<Submitted, Failure> {
        let request = timed(spec_to_wire(spec, client_id), timeout);
        submitted_from_wire(self.client.clone().query(request).await.map_err(failed)?.into_inner())
    }

    /// Opens a query and reads it from its first chunk on, in one round trip.
    pub async fn ask(
        &self,
        spec: QuerySpec,
        client_id: &str,
    ) -> Result<(QueryId, BoxStream<'static, Result<ChunkMessage, Failure>>), Failure> {
        let mut stream = self.client.clone().ask(spec_to_wire(spec, client_id)).await.map_err(failed)?.into_inner();
        let opened = stream.message().await.map_err(failed)?;
        let id = query_id(&opened.ok_or_else(|| malformed("a query without an id"))?.uid)?;
        Ok((id, stream.map(|batch| batch_from_wire(batch.map_err(failed)?)).boxed()))
    }

    /// One chunk.
    pub async fn chunk(
        &self,
        id: QueryId,
        index: u64,
        acknowledged_through: Option<u64>,
        timeout: Option<Duration>,
    ) -> Result<ChunkMessage, Failure> {
        let request = wire::ChunkRequest { uid: id.to_string(), chunk_index: index, acknowledged_through };
        chunk_from_wire(self.client.clone().get_chunk(timed(request, timeout)).await.map_err(failed)?.into_inner())
    }

    /// The chunks from an index on.
    pub async fn stream(
        &self,
        id: QueryId,
        from_index: u64,
        acknowledged_through: Option<u64>,
    ) -> Result<BoxStream<'static, Result<ChunkMessage, Failure>>, Failure> {
        let request = wire::StreamRequest { uid: id.to_string(), from_index, acknowledged_through };
        let stream = self.client.clone().stream_chunks(request).await.map_err(failed)?.into_inner();
        Ok(stream.map(|batch| batch_from_wire(batch.map_err(failed)?)).boxed())
    }

    /// Ends the query or frees its result.
    pub async fn cancel(&self, id: QueryId) -> Result<QueryState, Failure> {
        let request = wire::CancelRequest { uid: id.to_string() };
        state(&self.client.clone().cancel(request).await.map_err(failed)?.into_inner().status)
    }

    /// How far a query is.
    pub async fn query_status(&self, id: QueryId) -> Result<QueryStatus, Failure> {
        let request = wire::StatusRequest { uid: id.to_string() };
        let reply = self.client.clone().get_status(request).await.map_err(failed)?.into_inner();
        query_status_from_wire(reply.query.ok_or_else(|| malformed("the status of no query"))?)
    }

    /// The node's view of the overlay.
    pub async fn node_status(&self, timeout: Duration) -> Result<NodeStatus, Failure> {
        let request = timed(wire::StatusRequest { uid: String::new() }, Some(timeout));
        let reply = self.client.clone().get_status(request).await.map_err(failed)?.into_inner();
        node_status_from_wire(reply.node.ok_or_else(|| malformed("the status of no node"))?)
    }

    /// The node's figures.
    pub async fn metrics(&self, timeout: Duration) -> Result<Metrics, Failure> {
        let request = timed(wire::MetricsRequest {}, Some(timeout));
        Ok(metrics_from_wire(self.client.clone().get_metrics(request).await.map_err(failed)?.into_inner()))
    }

    /// The route probe from this node. Each hop keeps 100 ms for itself.
    pub async fn forward(&self, time_left: Duration) -> Result<Trace, Failure> {
        let request = wire::ForwardRequest { time_left_ms: millis(time_left) };
        let request = timed(request, Some(time_left.saturating_add(Duration::from_secs(1))));
        trace_from_wire(self.client.clone().forward(request).await.map_err(failed)?.into_inner())
    }

    /// Lines of the node's log as they come. `timeout` bounds the wait for the first answer only.
    pub async fn logs(
        &self,
        asked: LogsAsked,
        timeout: Duration,
    ) -> Result<BoxStream<'static, Result<Vec<String>, Failure>>, Failure> {
        let request =
            wire::LogsRequest { process_id: asked.node.to_string(), lines: asked.lines, follow: asked.follow };
        let mut client = self.client.clone();
        let opened = tokio::time::timeout(timeout, client.get_logs(request)).await;
        let opened = opened.map_err(|_| {
            let message = format!("no answer within {} ms", millis(timeout));
            Failure::new(FailureKind::DeadlineExceeded, "TIMEOUT", message)
        })?;
        let stream = opened.map_err(failed)?.into_inner();
        Ok(stream.map(|reply| reply.map(|reply| reply.lines).map_err(failed)).boxed())
    }

    /// Puts another fairness strategy in force, unless none is named; gives the one in force.
    pub async fn control(&self, fairness_strategy: Option<&str>, timeout: Duration) -> Result<String, Failure> {
        let request = wire::ControlRequest { fairness_strategy: fairness_strategy.unwrap_or_default().to_owned() };
        let reply = self.client.clone().control(timed(request, Some(timeout))).await.map_err(failed)?;
        Ok(reply.into_inner().fairness_strategy)
    }

    /// Asks the node to end.
    pub async fn shutdown(&self, graceful: bool, timeout: Duration) -> Result<(), Failure> {
        let request = timed(wire::ShutdownRequest { graceful }, Some(timeout));
        self.client.clone().shutdown(request).await.map_err(failed)?;
        Ok(())
    }
}

fn failed(status: Status) -> Failure {
    from_status(&status)
}

fn timed<T>(message: T, timeout: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    request
}
