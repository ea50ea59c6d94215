//! Calls to a neighbour. One connection a link, dialled by this end, made again by itself when it breaks.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hyper_util::rt::TokioIo;
use tonic::Request;
use tonic::transport::{Channel, Endpoint, Uri};

use super::connector::SharedConnector;
use super::convert_peer::{
    announcement_from_wire, announcement_to_wire, incarnation, load_from_wire, load_to_wire, names, nodes,
    scan_message_from_wire, scan_request_to_wire,
};
use super::convert_trace::{trace_hop_from_wire, trace_request_to_wire};
use super::services::{Hello, HelloAnswer, LinkKind, News, NewsAnswer};
use super::status::{from_status, millis};
use super::wire::peer_client::PeerClient;
use super::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, wire};
use crate::engine::hop::{RemoteError, RemoteScan};
use crate::engine::message::{FailureCode, ScanMessage, ScanRequest};
use crate::failure::{Failure, FailureKind};
use crate::routing::NodeId;
use crate::routing::trace::{TraceHop, TraceRequest};

/// How long dialling may take before the neighbour counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an idle connection is probed, and how long the answer may take. Plans and scans of a busy node starve
/// the answers, so less than 10 s kills healthy connections.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel to an address that is looked up whenever it is dialled.
pub(super) fn channel(connector: SharedConnector, address: AddressOf) -> Channel {
    // The name in the URI is not looked up: the connector asks for the address.
    Endpoint::from_static("http://overlay")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .tcp_nodelay(true)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (connector, address) = (Arc::clone(&connector), address());
            async move {
                let address = address.ok_or_else(|| std::io::Error::other("its address is not known yet"))?;
                connector.connect(address).await.map(TokioIo::new)
            }
        }))
}

/// Gives the address to dial, which may not be known yet or may change.
pub type AddressOf = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A neighbour.
#[derive(Clone)]
pub struct PeerLink {
    client: PeerClient<Channel>,
    connector: SharedConnector,
    address: AddressOf,
}

impl PeerLink {
    /// Dials when it is first used. Must be made within the runtime that drives the connection.
    pub fn new(connector: SharedConnector, address: AddressOf) -> PeerLink {
        let channel = channel(Arc::clone(&connector), Arc::clone(&address));
        let client = PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        PeerLink { client, connector, address }
    }

    /// A link to the same neighbour over a new connection: what hangs on the old one does not hold it up.
    pub fn reconnected(&self) -> PeerLink {
        PeerLink::new(Arc::clone(&self.connector), Arc::clone(&self.address))
    }

    /// Introduces this node.
    pub async fn hello(&self, hello: Hello, timeout: Duration) -> Result<HelloAnswer, Failure> {
        let kind = match hello.kind {
            LinkKind::Configured => wire::LinkKind::Configured,
            LinkKind::Adopted => wire::LinkKind::Adopted,
            LinkKind::AdoptedBack => wire::LinkKind::AdoptedBack,
        };
        let message = wire::HelloRequest {
            process_id: hello.process_id.to_string(),
            incarnation: hello.incarnation,
            fingerprint: hello.fingerprint.into_iter().collect(),
            kind: kind.into(),
            nonce: hello.nonce,
        };
        let mut client = self.client.clone();
        let reply = within(timeout, client.hello(message)).await?;
        Ok(HelloAnswer {
            process_id: NodeId::from(reply.process_id.as_str()),
            incarnation: reply.incarnation,
            newest_incarnation: incarnation(reply.newest_incarnation, "this node")?,
            nonce: reply.nonce,
        })
    }

    /// Passes news on.
    pub async fn announce(&self, news: News, timeout: Duration) -> Result<NewsAnswer, Failure> {
        let message = wire::AnnounceRequest {
            from: news.from.to_string(),
            incarnation: news.incarnation,
            announcements: news.announcements.iter().map(announcement_to_wire).collect(),
        };
        let mut client = self.client.clone();
        let reply = within(timeout, client.announce(message)).await?;
        let load = reply.load.map(load_from_wire).transpose()?;
        Ok(NewsAnswer { wanted: nodes(reply.wanted), nonce: reply.nonce, load })
    }

    /// Visits what lies behind the neighbour.
    pub async fn trace(&self, request: TraceRequest, timeout: Duration) -> Result<TraceHop, Failure> {
        let mut client = self.client.clone();
        trace_hop_from_wire(within(timeout, client.trace(trace_request_to_wire(request))).await?)
    }

    async fn scan(
        &self,
        request: ScanRequest,
    ) -> Result<BoxStream<'static, Result<ScanMessage, RemoteError>>, RemoteError> {
        let time_left = request.time_left;
        let mut message = Request::new(scan_request_to_wire(request));
        message.set_timeout(time_left);
        let mut client = self.client.clone();
        let opened = tokio::time::timeout(time_left, client.scan(message)).await;
        let stream = match opened {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return Err(remote_error(from_status(&status))),
            Err(_) => {
                return Err(RemoteError { code: FailureCode::DeadlineExceeded, message: "no answer in time".into() });
            }
        };
        Ok(stream
            .map(|reply| {
                let reply = reply.map_err(|status| remote_error(from_status(&status)))?;
                scan_message_from_wire(reply)
                    .map_err(|failure| RemoteError { code: FailureCode::DataLoss, message: failure.message })
            })
            .boxed())
    }
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => {
            let message = format!("no answer within {} ms", millis(timeout));
            Err(Failure::new(FailureKind::DeadlineExceeded, "TIMEOUT", message))
        }
    }
}

fn remote_error(failure: Failure) -> RemoteError {
    let code = match failure.kind {
        FailureKind::FailedPrecondition => FailureCode::FailedPrecondition,
        FailureKind::DeadlineExceeded => FailureCode::DeadlineExceeded,
        FailureKind::ResourceExhausted => FailureCode::ResourceExhausted,
        FailureKind::DataLoss => FailureCode::DataLoss,
        FailureKind::Unavailable | FailureKind::Cancelled => FailureCode::Unavailable,
        _ => FailureCode::Internal,
    };
    RemoteError { code, message: failure.message }
}

/// The links of this node, by neighbour: the way scans leave it.
#[derive(Default)]
pub struct PeerLinks {
    links: RwLock<BTreeMap<NodeId, PeerLink>>,
}

impl PeerLinks {
    /// Adds or replaces a link.
    pub fn insert(&self, node: NodeId, link: PeerLink) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).insert(node, link);
    }

    /// Takes a link away: scans that run over it go on, new ones do not take it.
    pub fn remove(&self, node: &NodeId) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// The link to a neighbour.
    pub fn get(&self, node: &NodeId) -> Option<PeerLink> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }
}

impl RemoteScan for PeerLinks {
    fn scan(
        &self,
        next: &NodeId,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<ScanMessage, RemoteError>>, RemoteError>> {
        let link = self.get(next);
        let message = format!("no link to {next}");
        async move {
            match link {
                Some(link) => link.scan(request).await,
                None => Err(RemoteError { code: FailureCode::Unavailable, message }),
            }
        }
        .boxed()
    }
}

pub(super) fn news_from_wire(request: wire::AnnounceRequest) -> Result<News, Failure> {
    Ok(News {
        from: NodeId::from(request.from.as_str()),
        incarnation: request.incarnation,
        announcements: request.announcements.into_iter().map(announcement_from_wire).collect::<Result<_, _>>()?,
    })
}

pub(super) fn news_answer_to_wire(answer: NewsAnswer) -> wire::AnnounceReply {
    wire::AnnounceReply { wanted: names(&answer.wanted), nonce: answer.nonce, load: answer.load.map(load_to_wire) }
}
