//! The client: opens a query, reads its chunks in order, decodes them, acknowledges, cancels, reconnects, and comes
//! back when it was refused.
//!
//! Once it has handed out a row it never opens the query again: rows come in another order each time. A broken
//! connection is mended by asking for the next chunk of the same query, unless the query was opened to end with its
//! connection.

mod retry;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::delivery::QueryId;
use crate::delivery::encoding::schema::decode_schema;
use crate::delivery::encoding::{self, Encoding};
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{ChunkMessage, Footer, QuerySpec};
use crate::node::status::{Metrics, NodeStatus};
use crate::routing::trace::Trace;
use crate::transport::connector::{SharedConnector, Tcp};
use crate::transport::leader::NodeConnection;
use retry::{Budget, Tries};

/// How often a broken connection is mended in a row before the client gives up.
const RECONNECTS_MAX: u32 = 3;
/// The pause before the first attempt; it doubles.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How long the last words to a Leader may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to one node. Clones share it, and the budget of retries.
#[derive(Clone)]
pub struct Client {
    node: NodeConnection,
    connector: SharedConnector,
    address: String,
    /// What it calls itself. Clones are one client.
    id: Arc<str>,
    budget: Arc<Budget>,
}

impl Client {
    /// A client over TCP. Dials with the first call. To be made within a tokio runtime, on which its connection lives.
    pub fn new(address: &str) -> Client {
        Client::over(Arc::new(Tcp), address)
    }

    /// A client over any kind of connection.
    pub fn over(connector: SharedConnector, address: &str) -> Client {
        // Without random bytes it shares a name, and so a share of its team, with others of this process.
        let number = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        let (node, address) = (NodeConnection::new(Arc::clone(&connector), address.to_owned()), address.to_owned());
        Client { node, connector, address, id: format!("overlay-{number:016x}").into(), budget: Arc::default() }
    }

    /// The same client over a connection of its own: for who asks more at a time than one connection takes.
    pub fn on_another_connection(&self) -> Client {
        let node = NodeConnection::new(Arc::clone(&self.connector), self.address.clone());
        Client { node, ..self.clone() }
    }

    /// What it calls itself, unlike every other client: those of a team share what the team gets.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The address it dials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The calls one by one.
    pub fn node(&self) -> &NodeConnection {
        &self.node
    }

    /// The same as [`Client::open`], but a query that is refused with a hint when to come back does so, within its own
    /// time; also one that had a place in the queue and lost it. Each wait is told before it begins; the last refusal is
    /// the error, here or of the first read.
    pub async fn open_patiently(
        &self,
        spec: QuerySpec,
        told: impl FnMut(&Failure, Duration) + Send + 'static,
    ) -> Result<Answer, Failure> {
        self.budget.earn();
        let mut patience =
            Patience { tries: Tries::new(spec.time_left), begun: Instant::now(), spec, told: Box::new(told) };
        let answer = self.persist(&mut patience, None).await?;
        Ok(Answer { patience: Some(patience), ..answer })
    }

    async fn persist(&self, patience: &mut Patience, mut refused: Option<Failure>) -> Result<Answer, Failure> {
        loop {
            if let Some(failure) = refused {
                let spent = patience.begun.elapsed();
                let Some(pause) = patience.tries.pause(&failure, spent, fastrand::f64(), &self.budget) else {
                    return Err(failure);
                };
                (patience.told)(&failure, pause);
                tokio::time::sleep(pause).await;
            }
            let spent = patience.begun.elapsed();
            let time_left = patience.spec.time_left.map(|left| left.saturating_sub(spent));
            match self.open(QuerySpec { time_left, ..patience.spec.clone() }).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => refused = Some(failure),
            }
        }
    }

    /// Opens a query and begins to read its answer.
    pub async fn open(&self, spec: QuerySpec) -> Result<Answer, Failure> {
        let encoding = encoding::by_name(spec.encoding).ok_or_else(|| {
            Failure::new(FailureKind::InvalidArgument, "ENCODING", format!("there is no encoding {}", spec.encoding))
        })?;
        let resumable = !spec.cancel_on_disconnect;
        let (id, messages) = self.node.ask(spec, &self.id).await?;
        Ok(Answer {
            client: self.clone(),
            id,
            encoding,
            schema: None,
            messages: Some(messages),
            next_index: 0,
            decoded: Vec::new(),
            partial: false,
            footer: None,
            resumable,
            reconnects: 0,
            patience: None,
        })
    }

    /// The node's view of the overlay.
    pub async fn status(&self, timeout: Duration) -> Result<NodeStatus, Failure> {
        self.node.node_status(timeout).await
    }

    /// The node's figures.
    pub async fn metrics(&self, timeout: Duration) -> Result<Metrics, Failure> {
        self.node.metrics(timeout).await
    }

    /// The route probe from this node.
    pub async fn trace(&self, time_left: Duration) -> Result<Trace, Failure> {
        self.node.forward(time_left).await
    }
}

/// What a message of an answer brought, to one who only counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub chunks: u64,
    pub rows: u64,
    /// Of encoded rows.
    pub bytes: u64,
}

/// Hears of each refusal, and how long is waited for the next try.
type Told = Box<dyn FnMut(&Failure, Duration) + Send>;

/// A query that comes back when it is refused.
struct Patience {
    spec: QuerySpec,
    begun: Instant,
    tries: Tries,
    told: Told,
}

/// An answer that is being read.
pub struct Answer {
    client: Client,
    id: QueryId,
    encoding: Box<dyn Encoding>,
    schema: Option<SchemaRef>,
    messages: Option<BoxStream<'static, Result<ChunkMessage, Failure>>>,
    next_index: u64,
    /// Decoded chunks that were not handed out yet, last first.
    decoded: Vec<RecordBatch>,
    partial: bool,
    footer: Option<Footer>,
    resumable: bool,
    reconnects: u32,
    /// Until the first message has come.
    patience: Option<Patience>,
}

impl Answer {
    /// The query's id.
    pub fn id(&self) -> QueryId {
        self.id
    }

    /// The answer's schema, known with its first chunk.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    /// Whether a gap was known when the last chunk was sent.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// The end of the answer, once every chunk was read.
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    /// The next chunk, one batch each; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, Failure>> {
        loop {
            if let Some(batch) = self.decoded.pop() {
                return Some(Ok(batch));
            }
            let taken = match self.next_message().await? {
                Ok(message) => self.decode(&message),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = taken {
                self.messages = None;
                return Some(Err(failure));
            }
        }
    }

    /// The next message, checked like any other but not decoded: for who measures the overlay and not the client. Not
    /// to be mixed with [`Answer::next`].
    pub async fn count_next(&mut self) -> Option<Result<Counted, Failure>> {
        let counted = self.next_message().await?.map(|message| Counted {
            chunks: message.chunks.len() as u64,
            rows: message.chunks.iter().map(|chunk| chunk.rows).sum(),
            bytes: message.data.len() as u64,
        });
        if counted.is_err() {
            self.messages = None;
        }
        Some(counted)
    }

    /// The next message that is whole and in its place; mends the connection as often as it may.
    async fn next_message(&mut self) -> Option<Result<ChunkMessage, Failure>> {
        loop {
            if self.footer.is_some() {
                // The stream's end is right behind its last message. Left unread it would be reset, and a Leader takes many
                // resets on a connection for an attack and closes it.
                if let Some(mut messages) = self.messages.take() {
                    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, messages.next()).await;
                }
                return None;
            }
            let failure = match self.messages.as_mut()?.next().await {
                Some(Ok(message)) => return Some(self.take(&message).map(|()| message)),
                Some(Err(failure)) => failure,
                None => Failure::new(
                    FailureKind::DataLoss,
                    "NO_FOOTER",
                    "the answer broke off: it ended without its footer",
                ),
            };
            let mended = match failure.kind {
                FailureKind::Unavailable => self.reconnect(failure).await,
                FailureKind::ResourceExhausted => self.come_back(failure).await,
                _ => Err(failure),
            };
            if let Err(failure) = mended {
                return Some(Err(failure));
            }
        }
    }

    fn take(&mut self, message: &ChunkMessage) -> Result<(), Failure> {
        self.reconnects = 0;
        self.patience = None;
        let damaged = |what: String| Failure::new(FailureKind::DataLoss, "DAMAGED", what);
        if message.data.checksum() != message.checksum {
            return Err(damaged("a message of the answer is damaged: its checksum does not fit".into()));
        }
        if !message.schema.is_empty() {
            self.schema = Some(decode_schema(&message.schema).map_err(|error| damaged(error.to_string()))?);
        }
        for meta in &message.chunks {
            if meta.index != self.next_index {
                let what = format!("chunk {} arrived where {} was due", meta.index, self.next_index);
                return Err(damaged(what));
            }
            self.next_index += 1;
        }
        self.partial |= message.partial;
        self.footer.clone_from(&message.footer);
        Ok(())
    }

    fn decode(&mut self, message: &ChunkMessage) -> Result<(), Failure> {
        let damaged = |what: String| Failure::new(FailureKind::DataLoss, "DAMAGED", what);
        if !message.chunks.is_empty() {
            let schema = self.schema.as_ref().ok_or_else(|| damaged("the answer has no schema".into()))?;
            let batches = self.encoding.decode(&message.data.joined(), &message.chunks, schema);
            self.decoded = batches.map_err(|error| damaged(error.to_string()))?;
            self.decoded.reverse();
        }
        Ok(())
    }

    /// The query lost its place before anything of it was read.
    async fn come_back(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(mut patience) = self.patience.take() else { return Err(failure) };
        let answer = self.client.persist(&mut patience, Some(failure)).await?;
        *self = Answer { patience: Some(patience), ..answer };
        Ok(())
    }

    async fn reconnect(&mut self, failure: Failure) -> Result<(), Failure> {
        // A failure that names its reason was said by the Leader; the connection is fine.
        if !self.resumable || self.reconnects >= RECONNECTS_MAX || !failure.reason.is_empty() {
            return Err(failure);
        }
        tokio::time::sleep(RECONNECT_PAUSE * 2u32.pow(self.reconnects)).await;
        self.reconnects += 1;
        match self.client.node.stream(self.id, self.next_index, None).await {
            Ok(messages) => self.messages = Some(messages),
            // Counted: the next turn tries again or gives up.
            Err(again) if again.kind == FailureKind::Unavailable => {
                self.messages = Some(futures::stream::iter([Err(again)]).boxed());
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Ends the query, or frees its result. Waits a moment for the Leader; that it cannot be reached is no error here.
    pub async fn cancel(&mut self) {
        self.messages = None;
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, self.client.node.cancel(self.id)).await;
    }
}
