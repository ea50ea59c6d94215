//! How fast do ready messages cross one connection, by a pipe within this process and by TCP on loopback? 64 messages of
//! 1 MiB, and one of 100 bytes; bytes a second, and the time of one call.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use overlay::delivery::QueryId;
use overlay::delivery::encoding::checksum;
use overlay::engine::hop::ScanStream;
use overlay::engine::message::ScanRequest;
use overlay::failure::{Failure, FailureKind};
use overlay::leader::answer::{ChunkMessage, QuerySpec, QueryState, QueryStatus, Submitted};
use overlay::node::status::{Metrics, NodeStatus};
use overlay::routing::trace::{Trace, TraceHop, TraceRequest};
use overlay::transport::connector::{Connection, Connector, Incoming, SharedConnector, Tcp, tcp_incoming};
use overlay::transport::leader::NodeConnection;
use overlay::transport::server::serve;
use overlay::transport::services::{ClientService, Hello, HelloAnswer, LogsAsked, News, NewsAnswer, PeerService};
use tokio::sync::mpsc;

const MESSAGES: usize = 64;
const MESSAGE_BYTES: usize = 1 << 20;

/// Streams the same messages to everybody: index 0 asks for the large ones, any other for the small one.
struct Ready {
    large: Bytes,
    small: Bytes,
}

fn message(data: &Bytes) -> Result<ChunkMessage, Failure> {
    Ok(ChunkMessage {
        chunks: Vec::new(),
        checksum: checksum(data),
        data: data.clone().into(),
        partial: false,
        schema: Vec::new(),
        total_chunks: None,
        footer: None,
    })
}

fn not_here<T>() -> Result<T, Failure> {
    Err(Failure::new(FailureKind::Internal, "BENCH", "only streams are answered"))
}

#[async_trait]
impl ClientService for Ready {
    async fn submit(&self, _: QuerySpec, _: &str) -> Result<Submitted, Failure> {
        not_here()
    }

    async fn chunk(&self, _: QueryId, _: u64, _: Option<u64>) -> Result<ChunkMessage, Failure> {
        message(&self.small)
    }

    fn stream(&self, _: QueryId, from: u64, _: Option<u64>) -> BoxStream<'static, Result<ChunkMessage, Failure>> {
        let (data, count) = if from == 0 { (&self.large, MESSAGES) } else { (&self.small, 1) };
        stream::iter((0..count).map(|_| message(data)).collect::<Vec<_>>()).boxed()
    }

    fn cancel(&self, _: QueryId) -> Result<QueryState, Failure> {
        not_here()
    }

    fn query_status(&self, _: QueryId) -> Result<QueryStatus, Failure> {
        not_here()
    }

    fn node_status(&self) -> NodeStatus {
        unreachable!("the bench asks for no status")
    }

    fn metrics(&self) -> Metrics {
        unreachable!("the bench asks for no metrics")
    }

    async fn forward(&self, _: Duration) -> Trace {
        unreachable!("the bench asks for no trace")
    }

    fn logs(&self, _: LogsAsked) -> Result<BoxStream<'static, Result<Vec<String>, Failure>>, Failure> {
        not_here()
    }

    fn control(&self, _: Option<&str>) -> Result<String, Failure> {
        not_here()
    }

    fn shutdown(&self, _: bool) {}
}

struct NoPeers;

#[async_trait]
impl PeerService for NoPeers {
    async fn hello(&self, _: Hello) -> Result<HelloAnswer, Failure> {
        not_here()
    }

    fn announce(&self, _: News) -> Result<NewsAnswer, Failure> {
        not_here()
    }

    fn scan(&self, _: ScanRequest) -> Result<ScanStream, Failure> {
        not_here()
    }

    async fn trace(&self, _: TraceRequest) -> Result<TraceHop, Failure> {
        not_here()
    }
}

/// Dials by handing the other end to the listener.
struct Pipe(mpsc::UnboundedSender<io::Result<Connection>>);

impl Connector for Pipe {
    fn connect(&self, _: String) -> BoxFuture<'static, io::Result<Connection>> {
        let (near, far) = tokio::io::duplex(1 << 20);
        let connected = match self.0.send(Ok(Connection::new(far))) {
            Ok(()) => Ok(Connection::new(near)),
            Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        };
        Box::pin(std::future::ready(connected))
    }
}

pub fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let _within = runtime.enter();
    let mut group = criterion.benchmark_group("transport");
    for name in ["pipe", "loopback"] {
        let (incoming, connector, address): (Incoming, SharedConnector, String) = if name == "pipe" {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            let incoming = stream::poll_fn(move |context| receiver.poll_recv(context)).boxed();
            (incoming, Arc::new(Pipe(sender)), "pipe".to_owned())
        } else {
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
            let address = listener.local_addr().expect("it is bound").to_string();
            (tcp_incoming(listener), Arc::new(Tcp), address)
        };
        let ready = Ready { large: vec![7; MESSAGE_BYTES].into(), small: vec![7; 100].into() };
        let (_health, serving) = serve(incoming, Arc::new(NoPeers), Arc::new(ready), std::future::pending());
        let server = runtime.spawn(serving);
        let node = Mutex::new(NodeConnection::new(connector, address));
        let read = |from: u64| {
            let node = node.lock().expect("nobody panics here").clone();
            runtime.block_on(async move {
                let mut stream = node.stream(QueryId(1), from, None).await.expect("it answers");
                let mut bytes = 0;
                while let Some(message) = stream.next().await {
                    bytes += message.expect("it arrives whole").data.len();
                }
                bytes
            })
        };
        assert_eq!(read(0), MESSAGES * MESSAGE_BYTES);
        group.throughput(Throughput::Bytes((MESSAGES * MESSAGE_BYTES) as u64));
        group.bench_function(BenchmarkId::new("stream", name), |bencher| bencher.iter(|| read(0)));
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("one small call", name), |bencher| bencher.iter(|| read(1)));
        server.abort();
    }
    group.finish();
}
