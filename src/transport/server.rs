//! Serves a node's services over whatever listener is passed in.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;

use super::chunk_batch::ChunkBatch;
use super::connector::{Caller, Incoming};
use super::convert_answer::{
    batch_to_wire, chunk_to_wire, query_id, query_status_to_wire, spec_from_wire, submitted_to_wire,
};
use super::convert_peer::{scan_message_to_wire, scan_request_from_wire};
use super::convert_status::{metrics_to_wire, node_status_to_wire};
use super::convert_trace::{trace_hop_to_wire, trace_request_from_wire, trace_to_wire};
use super::peer::{news_answer_to_wire, news_from_wire};
use super::services::{ClientService, Hello, LinkKind, LogsAsked, PeerService};
use super::status::to_status;
use super::wire::overlay_server::{Overlay, OverlayServer};
use super::wire::peer_server::{Peer, PeerServer};
use super::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX, wire};
use crate::engine::message::ScanMessage;
use crate::engine::scan::PART_BYTES_MAX;
use crate::leader::answer::QuerySpec;
use crate::routing::NodeId;

/// How often clients and neighbours are probed, and how long they may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a route probe may take that names no time, and at most.
const TRACE_TIME: Duration = Duration::from_secs(2);
const TRACE_TIME_MAX: Duration = Duration::from_secs(60);

/// Says whether the node serves, in the words of grpc.health.v1.
#[derive(Clone)]
pub struct Health(tonic_health::server::HealthReporter);

impl Health {
    /// Says so from now on, for the whole server and for the service of clients.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status("", status).await;
        self.0.set_service_status("overlay.v1.Overlay", status).await;
    }
}

/// Serving ended by itself.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ServeError(tonic::transport::Error);

/// Serves until `end` is done and the calls under way have ended. `health` starts as not serving.
pub fn serve(
    incoming: Incoming,
    peers: Arc<dyn PeerService>,
    clients: Arc<dyn ClientService>,
    end: impl Future<Output = ()> + Send + 'static,
) -> (Health, impl Future<Output = Result<(), ServeError>> + Send) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let peers = PeerServer::new(PeerWire(peers))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let clients = OverlayServer::new(ClientWire(clients))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let serving = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(health)
        .add_service(peers)
        .add_service(clients)
        .serve_with_incoming_shutdown(incoming, end);
    (Health(reporter), async move { serving.await.map_err(ServeError) })
}

struct PeerWire(Arc<dyn PeerService>);

type WireStream<T> = BoxStream<'static, Result<T, Status>>;

#[async_trait]
impl Peer for PeerWire {
    async fn hello(&self, request: Request<wire::HelloRequest>) -> Result<Response<wire::HelloReply>, Status> {
        let request = request.into_inner();
        let hello = Hello {
            process_id: NodeId::from(request.process_id.as_str()),
            incarnation: request.incarnation,
            nonce: request.nonce,
            kind: match request.kind() {
                wire::LinkKind::Configured => LinkKind::Configured,
                wire::LinkKind::Adopted => LinkKind::Adopted,
                wire::LinkKind::AdoptedBack => LinkKind::AdoptedBack,
            },
            fingerprint: request.fingerprint.into_iter().collect(),
        };
        let answer = self.0.hello(hello).await.map_err(to_status)?;
        Ok(Response::new(wire::HelloReply {
            process_id: answer.process_id.to_string(),
            incarnation: answer.incarnation,
            newest_incarnation: answer.newest_incarnation,
            nonce: answer.nonce,
        }))
    }

    async fn announce(&self, request: Request<wire::AnnounceRequest>) -> Result<Response<wire::AnnounceReply>, Status> {
        let news = news_from_wire(request.into_inner()).map_err(to_status)?;
        let answer = self.0.announce(news).map_err(to_status)?;
        Ok(Response::new(news_answer_to_wire(answer)))
    }

    type ScanStream = WireStream<wire::ScanReply>;

    async fn scan(&self, request: Request<wire::ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        let request = scan_request_from_wire(request.into_inner()).map_err(to_status)?;
        let messages = self.0.scan(request).map_err(to_status)?;
        let replies = merged(messages).map(|message| Ok(scan_message_to_wire(message)));
        Ok(Response::new(replies.boxed()))
    }

    async fn trace(&self, request: Request<wire::TraceRequest>) -> Result<Response<wire::TraceHop>, Status> {
        let request = trace_request_from_wire(request.into_inner()).map_err(to_status)?;
        Ok(Response::new(trace_hop_to_wire(self.0.trace(request).await.map_err(to_status)?)))
    }
}

/// Puts the answers that are ready at the same time into one message, up to about the size of a part: many zones of
/// a selective query have few rows or none.
fn merged(messages: impl Stream<Item = ScanMessage> + Send) -> impl Stream<Item = ScanMessage> + Send {
    const READY_MAX: usize = 64;
    messages.ready_chunks(READY_MAX).flat_map(|ready| {
        let mut merged: Vec<ScanMessage> = Vec::with_capacity(ready.len());
        let mut bytes = 0;
        for message in ready {
            let ScanMessage::Zones(answers) = message else {
                merged.push(message);
                continue;
            };
            let added: usize = answers.iter().map(payload_bytes).sum();
            match merged.last_mut() {
                Some(ScanMessage::Zones(before)) if bytes + added <= PART_BYTES_MAX => {
                    before.extend(answers);
                    bytes += added;
                }
                _ => {
                    merged.push(ScanMessage::Zones(answers));
                    bytes = added;
                }
            }
        }
        stream::iter(merged)
    })
}

fn payload_bytes(answer: &crate::engine::message::ZoneAnswer) -> usize {
    match &answer.payload {
        crate::engine::message::Payload::Packed { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

/// What is asked, and who asks: by the name that the client gives itself, else by the address that it calls from.
fn asked(request: Request<wire::QueryRequest>) -> Result<(QuerySpec, String), Status> {
    let caller = request.extensions().get::<Caller>().and_then(|caller| caller.0);
    let request = request.into_inner();
    let client = match (request.client_id.as_str(), caller) {
        ("", Some(address)) => address.to_string(),
        (name, _) => name.to_owned(),
    };
    Ok((spec_from_wire(request).map_err(to_status)?, client))
}

struct ClientWire(Arc<dyn ClientService>);

#[async_trait]
impl Overlay for ClientWire {
    async fn query(&self, request: Request<wire::QueryRequest>) -> Result<Response<wire::QueryReply>, Status> {
        let (spec, client) = asked(request)?;
        let submitted = self.0.submit(spec, &client).await.map_err(to_status)?;
        Ok(Response::new(submitted_to_wire(submitted)))
    }

    async fn get_chunk(&self, request: Request<wire::ChunkRequest>) -> Result<Response<wire::ChunkReply>, Status> {
        let request = request.into_inner();
        let id = query_id(&request.uid).map_err(to_status)?;
        let chunk = self.0.chunk(id, request.chunk_index, request.acknowledged_through).await.map_err(to_status)?;
        let state = self.0.query_status(id).map_err(to_status)?.state;
        Ok(Response::new(chunk_to_wire(id, chunk, state)))
    }

    type StreamChunksStream = WireStream<ChunkBatch>;

    async fn stream_chunks(
        &self,
        request: Request<wire::StreamRequest>,
    ) -> Result<Response<Self::StreamChunksStream>, Status> {
        let request = request.into_inner();
        let id = query_id(&request.uid).map_err(to_status)?;
        let messages = self.0.stream(id, request.from_index, request.acknowledged_through);
        Ok(Response::new(messages.map(|message| message.map(batch_to_wire).map_err(to_status)).boxed()))
    }

    type AskStream = WireStream<ChunkBatch>;

    async fn ask(&self, request: Request<wire::QueryRequest>) -> Result<Response<Self::AskStream>, Status> {
        let (spec, client) = asked(request)?;
        let id = self.0.submit(spec, &client).await.map_err(to_status)?.id;
        let opened = ChunkBatch { uid: id.to_string(), ..ChunkBatch::default() };
        let messages = self.0.stream(id, 0, None).map(|message| message.map(batch_to_wire).map_err(to_status));
        Ok(Response::new(stream::iter([Ok(opened)]).chain(messages).boxed()))
    }

    async fn cancel(&self, request: Request<wire::CancelRequest>) -> Result<Response<wire::CancelReply>, Status> {
        let id = query_id(&request.into_inner().uid).map_err(to_status)?;
        let before = self.0.cancel(id).map_err(to_status)?;
        Ok(Response::new(wire::CancelReply { status: before.name().to_owned() }))
    }

    async fn get_status(&self, request: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        let uid = request.into_inner().uid;
        let mut reply = wire::StatusReply::default();
        if uid.is_empty() {
            reply.node = Some(node_status_to_wire(self.0.node_status()));
        } else {
            let id = query_id(&uid).map_err(to_status)?;
            reply.query = Some(query_status_to_wire(self.0.query_status(id).map_err(to_status)?));
        }
        Ok(Response::new(reply))
    }

    async fn get_metrics(&self, _: Request<wire::MetricsRequest>) -> Result<Response<wire::MetricsReply>, Status> {
        Ok(Response::new(metrics_to_wire(self.0.metrics())))
    }

    async fn forward(&self, request: Request<wire::ForwardRequest>) -> Result<Response<wire::ForwardReply>, Status> {
        let time_left = match request.into_inner().time_left_ms {
            0 => TRACE_TIME,
            given => Duration::from_millis(given).min(TRACE_TIME_MAX),
        };
        Ok(Response::new(trace_to_wire(self.0.forward(time_left).await)))
    }

    type GetLogsStream = WireStream<wire::LogsReply>;

    async fn get_logs(&self, request: Request<wire::LogsRequest>) -> Result<Response<Self::GetLogsStream>, Status> {
        let request = request.into_inner();
        let asked =
            LogsAsked { node: NodeId::from(request.process_id.as_str()), lines: request.lines, follow: request.follow };
        let lines = self.0.logs(asked).map_err(to_status)?;
        let replies = lines.map(|lines| lines.map(|lines| wire::LogsReply { lines }).map_err(to_status));
        Ok(Response::new(replies.boxed()))
    }

    async fn control(&self, request: Request<wire::ControlRequest>) -> Result<Response<wire::ControlReply>, Status> {
        let name = Some(request.into_inner().fairness_strategy).filter(|name| !name.is_empty());
        let fairness_strategy = self.0.control(name.as_deref()).map_err(to_status)?;
        Ok(Response::new(wire::ControlReply { fairness_strategy }))
    }

    async fn shutdown(&self, request: Request<wire::ShutdownRequest>) -> Result<Response<wire::ShutdownReply>, Status> {
        self.0.shutdown(request.into_inner().graceful);
        Ok(Response::new(wire::ShutdownReply { status: "draining".to_owned() }))
    }
}
