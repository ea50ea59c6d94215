//! How connections are made. One gRPC transport stands on top, whatever is below: TCP here, a pipe inside a process,
//! a simulated network in a simulation.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::Connected;

/// One connection, either end.
pub struct Connection {
    stream: Pin<Box<dyn Duplex>>,
    caller: Caller,
}

/// The host at the other end of a connection that arrived, where that is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller(pub Option<IpAddr>);

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

impl Connection {
    /// Any byte stream can be a connection.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Connection {
        Connection { stream: Box::pin(stream), caller: Caller::default() }
    }

    /// Says who called.
    pub fn from_host(self, host: IpAddr) -> Connection {
        Connection { caller: Caller(Some(host)), ..self }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

/// Makes connections to an address such as `127.0.0.1:60051`.
pub trait Connector: Send + Sync {
    /// A new connection.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>>;
}

/// Connections over TCP, without Nagle's delay, which costs 40 ms a message pair.
pub struct Tcp;

impl Connector for Tcp {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Connection::new(stream))
        })
    }
}

/// Connections that arrive.
pub type Incoming = BoxStream<'static, io::Result<Connection>>;

/// What arrives at a TCP listener, without Nagle's delay: tonic's own setting does not reach a listener passed in.
pub fn tcp_incoming(listener: TcpListener) -> Incoming {
    Box::pin(TcpIncoming(listener))
}

struct TcpIncoming(TcpListener);

impl Stream for TcpIncoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_accept(cx).map(|accepted| {
            // An error of one connection (too many open files, reset while waiting) does not end the listener.
            Some(accepted.and_then(|(stream, address)| {
                stream.set_nodelay(true)?;
                Ok(Connection::new(stream).from_host(address.ip()))
            }))
        })
    }
}

/// Shared by everything in a process that dials.
pub type SharedConnector = Arc<dyn Connector>;
