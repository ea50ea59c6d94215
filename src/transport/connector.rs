//! How connections are made. One gRPC transport stands on top, whatever is below: TCP here, a pipe inside a process,
//! a simulated network in a simulation.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::Connected;

/// What a connection may read and write before the others of its thread have their turn. A thread that serves many
/// connections would else stay with one that always has more, for as long as its data come quicker than they are taken
/// in, and a message of a few bytes on another would wait for tens of milliseconds. Less costs more switches; at this,
/// they come about every 100 µs.
const SPELL_BYTES: usize = 256 << 10;

/// What the system holds at the most for each direction of a connection within one host. Elsewhere it is left to the
/// system, which holds what is under way on a long path. Within a host nothing is: all that it holds, up to tens of
/// megabytes, are bytes that the other end has not come to read, and a message of a few bytes on the same connection
/// waits until it has read them all. Less costs more switches between the two ends, for each piece of this size.
const LOOPBACK_BUFFER_BYTES: usize = 1 << 20;

/// One connection, either end.
pub struct Connection {
    stream: Pin<Box<dyn Duplex>>,
    caller: Caller,
    /// Bytes moved since the last time that others had their turn.
    moved: usize,
}

/// The host at the other end of a connection that arrived, where that is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller(pub Option<IpAddr>);

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

impl Connection {
    /// Any byte stream can be a connection.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Connection {
        Connection { stream: Box::pin(stream), caller: Caller::default(), moved: 0 }
    }

    /// Says who called.
    pub fn from_host(self, host: IpAddr) -> Connection {
        Connection { caller: Caller(Some(host)), ..self }
    }
}

impl Connection {
    /// Pending, with a wake that is on its way, when the others are due.
    fn poll_spell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.moved < SPELL_BYTES {
            return Poll::Ready(());
        }
        self.moved = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.moved += bytes,
            // Nothing more can be moved now: the others have their turn anyway.
            _ => self.moved = 0,
        }
        written
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_spell(cx));
        let before = buf.filled().len();
        let read = self.stream.as_mut().poll_read(cx, buf).map_ok(|()| buf.filled().len() - before);
        self.count(read).map_ok(|_| ())
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_spell(cx));
        let written = self.stream.as_mut().poll_write(cx, buf);
        self.count(written)
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
        ready!(self.poll_spell(cx));
        let written = self.stream.as_mut().poll_write_vectored(cx, buffers);
        self.count(written)
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
            set_up(&stream)?;
            Ok(Connection::new(stream))
        })
    }
}

/// What both ends ask the system for.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if stream.peer_addr()?.ip().to_canonical().is_loopback() {
        let socket = socket2::SockRef::from(stream);
        // Linux doubles what is asked for, as far as its own limit allows. Without that the system keeps its own sizes.
        let _ = socket.set_send_buffer_size(LOOPBACK_BUFFER_BYTES / 2);
        let _ = socket.set_recv_buffer_size(LOOPBACK_BUFFER_BYTES / 2);
    }
    Ok(())
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
                set_up(&stream)?;
                Ok(Connection::new(stream).from_host(address.ip()))
            }))
        })
    }
}

/// Shared by everything in a process that dials.
pub type SharedConnector = Arc<dyn Connector>;

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// One that always has more lets the others of its thread come between, and loses nothing by it.
    #[tokio::test]
    async fn a_connection_that_always_has_more_pauses() {
        let data: Vec<u8> = (0..4 * SPELL_BYTES).map(|byte| byte as u8).collect();
        let (near, far) = tokio::io::duplex(data.len() + 3);
        let (mut near, mut far) = (Connection::new(near), Connection::new(far));
        let pauses = |mut moving: Pin<Box<dyn Future<Output = ()> + '_>>| {
            (0..).take_while(|_| moving.as_mut().now_or_never().is_none()).take(100).count()
        };
        // A write may be as large as the whole, so one pause at the least.
        let written = pauses(Box::pin(async {
            near.write_all(&data).await.expect("it is taken");
            near.write_all(b"end").await.expect("it is taken");
        }));
        assert!((1..100).contains(&written), "{written} pauses");
        let mut found = vec![0; data.len() + 3];
        let read = pauses(Box::pin(async {
            for part in found.chunks_mut(SPELL_BYTES / 4) {
                far.read_exact(part).await.expect("it is there");
            }
        }));
        assert!((3..100).contains(&read), "{read} pauses");
        assert!(found[..data.len()] == data && found[data.len()..] == *b"end");
    }
}
