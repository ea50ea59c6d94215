//! Calls with any bytes as their message, and connections that carry anything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures::StreamExt;
use prost::bytes::{Buf, BufMut};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// No call here takes as long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages of one call that are looked at.
const REPLIES_MAX: usize = 64;

/// Bytes in, bytes out.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// A connection to a node.
pub fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}

/// Calls a method such as `Peer/Scan` with these bytes as its one message; how it ends. A reply that goes on is left.
pub async fn call(channel: &Channel, method: &str, message: Vec<u8>) -> Result<(), Status> {
    let path = PathAndQuery::from_maybe_shared(format!("/overlay.v1.{method}")).expect("a path");
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(64 << 20);
    let called = async {
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut replies = grpc.server_streaming(Request::new(message), path, Raw).await?.into_inner().take(REPLIES_MAX);
        while let Some(reply) = replies.next().await {
            reply?;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, called).await.unwrap_or_else(|_| panic!("{method} hangs"))
}

/// A call that must end with a status that says why. `Unknown` is what a connection reports that broke under a call.
pub async fn check_status(channel: &Channel, method: &str, message: Vec<u8>, what: &str) -> Code {
    match call(channel, method, message).await {
        Ok(()) => Code::Ok,
        Err(status) => {
            assert!(!status.message().is_empty(), "{method}, {what}: no reason in {status:?}");
            let broke = matches!(status.code(), Code::Unknown) || status.message().contains("h2 protocol error");
            assert!(!broke, "{method}, {what}: {status:?}");
            status.code()
        }
    }
}

/// Sends bytes over a connection of their own, and takes what comes for a moment.
pub fn throw(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    // The node may close before it has read everything.
    if stream.write_all(bytes).is_ok() {
        let _ = stream.read(&mut [0; 1024]);
    }
}

/// The beginning of an HTTP/2 connection, and a call of this method that has sent its headers.
pub fn opened_call(method: &str) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    let path = format!("/overlay.v1.{method}");
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path.as_str()),
        (":authority", "overlay"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal field that is not indexed, with a new name.
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).expect("short"));
            headers.extend(text.as_bytes());
        }
    }
    const END_HEADERS: u8 = 4;
    bytes.extend(frame(1, END_HEADERS, 1, &headers));
    bytes
}

/// One HTTP/2 frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
