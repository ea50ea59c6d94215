//! How connections are made. One gRPC transport stands on top, whatever is below: TCP here, a pipe inside a process,
//! a simulated network in a simulation.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
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

/// So much is written at once. Less waits, where so much was read before, until other tasks of its thread that are ready have
/// run, some or all: several requests came together then, and their answers go out together, since each write is a call into
/// the system, and a wake-up at the other end. The answer to a single small request does not wait: beside connections that
/// always have more, that took milliseconds.
const ALONE_BYTES: usize = 16 << 10;
const CAME_TOGETHER_BYTES: usize = 512;

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
    /// Bytes read since the last write.
    read: usize,
    /// Whether what is to be written has waited for the others to add to it.
    has_waited: bool,
}

/// The host at the other end of a connection that arrived, where that is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller(pub Option<IpAddr>);

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

impl Connection {
    /// Any byte stream can be a connection.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Connection {
        Connection { stream: Box::pin(stream), caller: Caller::default(), moved: 0, read: 0, has_waited: false }
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

    /// Pending once, with a wake when other tasks have run, if it is only so little that is to be written, and others may have
    /// something to add.
    fn poll_together(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.has_waited = !self.has_waited && bytes < ALONE_BYTES && self.read >= CAME_TOGETHER_BYTES;
        match self.has_waited {
            true => pin!(tokio::task::yield_now()).poll(cx),
            false => Poll::Ready(()),
        }
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
        self.count(read).map_ok(|bytes| self.read += bytes)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_spell(cx));
        ready!(self.poll_together(buf.len(), cx));
        let written = self.stream.as_mut().poll_write(cx, buf);
        self.read = 0;
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
        ready!(self.poll_together(buffers.iter().map(|buffer| buffer.len()).sum(), cx));
        let written = self.stream.as_mut().poll_write_vectored(cx, buffers);
        self.read = 0;
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
    use std::future::poll_fn;
    use std::sync::Mutex;

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What several tasks have to say at the same time goes out in one write, if what they answer came together.
    #[tokio::test]
    async fn answers_of_requests_that_came_together_go_out_together() {
        for (came, expected) in
            [(CAME_TOGETHER_BYTES, &["one two three"][..]), (CAME_TOGETHER_BYTES - 1, &["one ", "two three"])]
        {
            let writes = Arc::default();
            let mut connection = Connection::new(Written(Arc::clone(&writes)));
            connection.read_exact(&mut vec![0; came]).await.unwrap();
            let shared = Arc::new(Mutex::new((connection, Vec::new())));
            // Like a connection of HTTP/2: each adds what it has, and all is written by whoever comes to it.
            let add = |words: &'static [u8]| {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { shared.lock().unwrap().1.extend_from_slice(words) })
            };
            let write = || {
                let shared = Arc::clone(&shared);
                tokio::spawn(poll_fn(move |cx| {
                    let (connection, buffered) = &mut *shared.lock().unwrap();
                    let written = ready!(Pin::new(connection).poll_write(cx, buffered)).unwrap();
                    assert_eq!(written, buffered.len());
                    buffered.clear();
                    Poll::Ready(())
                }))
            };
            let first = [add(b"one "), write(), add(b"two "), add(b"three")];
            for task in first {
                task.await.unwrap();
            }
            if !shared.lock().unwrap().1.is_empty() {
                write().await.unwrap();
            }
            assert_eq!(*writes.lock().unwrap(), expected, "{came} bytes came");
        }
        let mut connection = Connection::new(Written(Arc::default()));
        connection.read_exact(&mut vec![0; CAME_TOGETHER_BYTES]).await.unwrap();
        let large = vec![b'x'; ALONE_BYTES];
        let at_once = poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, &large)).now_or_never();
        assert_eq!(at_once.expect("it does not wait").unwrap(), large.len());
    }

    /// Takes everything and notes what came at once; always has something to read.
    struct Written(Arc<Mutex<Vec<String>>>);

    impl AsyncWrite for Written {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.lock().unwrap().push(String::from_utf8_lossy(buf).into_owned());
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Written {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buf.put_slice(&vec![0; buf.remaining()]);
            Poll::Ready(Ok(()))
        }
    }

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
