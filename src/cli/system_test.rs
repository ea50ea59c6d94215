//! `overlay test HOST:PORT`: the system test of the earlier systems, made honest. It asks a running Leader what users
//! ask, and compares answers with each other: rows by chunk with the total, chunks fetched one by one with the stream,
//! many at once with one alone. A line for each finding; exit 0 if all are ✓, else 1.
//!
//! It knows nothing of the data: whether rows are the right ones, `overlay query --local` tells.

use std::fmt::Display;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::Args;
use futures::StreamExt;
use futures::future::join_all;

use super::arguments::seconds;
use super::error::{CliError, Exit};
use super::target;
use crate::client::Client;
use crate::delivery::QueryId;
use crate::delivery::encoding;
use crate::delivery::encoding::schema::decode_schema;
use crate::engine::filter::RangeFilter;
use crate::engine::session::Ask;
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{ChunkMessage, QuerySpec};

const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests at once; the earlier systems sent ten and were content with eight.
const AT_ONCE: usize = 10;
/// Chunks that are fetched singly; of a longer answer the first, the last and some between.
const SINGLE_CHUNKS_MAX: u64 = 50;
/// Rows asked for: enough for several chunks of every strategy.
const ROWS: u64 = 5000;

#[derive(Debug, Args)]
pub struct TestArgs {
    /// The Leader's address
    #[arg(value_name = "HOST:PORT")]
    pub address: String,
    /// Rows of the answers that are compared, at the most
    #[arg(long, value_name = "N", default_value_t = ROWS, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rows: u64,
    /// Which team the queries are billed to
    #[arg(long = "as", value_name = "TEAM")]
    pub team: Option<String>,
    /// The time of each query
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: f64,
}

/// Runs the tests one after the other; what one finds does not stop the next, but nobody there does.
pub fn run(arguments: &TestArgs) -> Result<Exit, CliError> {
    let runtime = target::runtime()?;
    let tester = {
        let _within = runtime.enter();
        Tester { client: Client::new(&arguments.address), arguments, failed: 0 }
    };
    let failed = runtime.block_on(tester.test())?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    if failed == 0 {
        println!("all is well");
        return Ok(Exit::OK);
    }
    println!("{failed} {} failed", if failed == 1 { "test" } else { "tests" });
    Ok(Exit::FAILED)
}

struct Tester<'a> {
    client: Client,
    arguments: &'a TestArgs,
    failed: u32,
}

impl Tester<'_> {
    async fn test(mut self) -> Result<u32, CliError> {
        let begun = self.client.status(LOOK_TIMEOUT).await;
        let status = begun.map_err(|failure| CliError::from_failure(&failure, self.client.address()))?;
        println!("{} at {}, {}, overlay {}", status.process_id, self.client.address(), status.role, status.version);

        let single = self.single().await;
        let single = self.tell("single request", single);
        let queue = self.queue().await;
        self.tell("queue status", queue);
        let chunks = self.chunks().await;
        self.tell("chunks", chunks);
        if let Some(single) = single {
            let concurrent = self.concurrent(single.rows).await;
            self.tell("concurrent requests", concurrent);
        }
        let cancelled = self.cancelled().await;
        self.tell("cancel", cancelled);
        let refused = self.refused().await;
        self.tell("refusal", refused);
        Ok(self.failed)
    }

    fn tell<T: Display>(&mut self, what: &str, found: Result<T, String>) -> Option<T> {
        match found {
            Ok(found) => {
                println!("✓ {what}: {found}");
                Some(found)
            }
            Err(why) => {
                println!("✗ {what}: {why}");
                self.failed += 1;
                None
            }
        }
    }

    fn spec(&self) -> QuerySpec {
        QuerySpec {
            team: self.arguments.team.as_deref().map(Into::into),
            time_left: Some(Duration::from_secs_f64(self.arguments.timeout)),
            limit: Some(self.arguments.rows),
            ..QuerySpec::of(Ask::Range(RangeFilter::default()))
        }
    }

    /// One request, read to its end: every row counted, the footer whole.
    async fn single(&self) -> Result<Single, String> {
        let begun = Instant::now();
        let mut answer = self.client.open(self.spec()).await.map_err(words)?;
        let (mut rows, mut chunks) = (0, 0);
        while let Some(batch) = answer.next().await {
            rows += batch.map_err(words)?.num_rows() as u64;
            chunks += 1;
        }
        let took = begun.elapsed();
        let footer = answer.footer().cloned().ok_or("the answer has no footer")?;
        answer.cancel().await;
        if footer.rows != rows {
            return Err(format!("{rows} rows came, the footer counts {}", footer.rows));
        }
        if rows > self.arguments.rows {
            return Err(format!("{rows} rows came, at most {} were asked for", self.arguments.rows));
        }
        if !footer.coverage.is_complete() {
            return Err("the answer is not complete and does not say so".to_owned());
        }
        let hops =
            footer.work.iter().map(|work| work.route.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(" → "));
        Ok(Single { rows, chunks, took, hops: hops.collect() })
    }

    /// The figures of the queue are there and make sense.
    async fn queue(&self) -> Result<String, String> {
        let metrics = self.client.metrics(LOOK_TIMEOUT).await.map_err(words)?;
        if metrics.queue_size > metrics.queue_capacity || metrics.active_requests > metrics.max_capacity {
            return Err(format!(
                "{} of {} wait and {} of {} run",
                metrics.queue_size, metrics.queue_capacity, metrics.active_requests, metrics.max_capacity
            ));
        }
        if metrics.queries_admitted == 0 {
            return Err("no query was counted, but one was answered".to_owned());
        }
        Ok(format!(
            "role {}, queue {} of {}, active {} of {}, {} admitted, {} refused, {}",
            metrics.role,
            metrics.queue_size,
            metrics.queue_capacity,
            metrics.active_requests,
            metrics.max_capacity,
            metrics.queries_admitted,
            metrics.queries_refused,
            metrics.fairness_strategy,
        ))
    }

    /// The chunks of one result: indexes without gaps, rows that add up, one by one the same as in the stream.
    async fn chunks(&self) -> Result<String, String> {
        let submitted = self.client.node().submit(QuerySpec { wait: true, ..self.spec() }, "overlay-test", None);
        let submitted = submitted.await.map_err(words)?;
        let checked = self.check_chunks(submitted.id, submitted.total_chunks, submitted.total_records).await;
        // The result is not needed any more, whatever was found.
        let _ = self.client.node().cancel(submitted.id).await;
        checked
    }

    async fn check_chunks(&self, id: QueryId, chunks: Option<u64>, records: Option<u64>) -> Result<String, String> {
        let (chunks, records) = chunks.zip(records).ok_or("the totals are not known, but were waited for")?;
        let mut stream = self.client.node().stream(id, 0, None).await.map_err(words)?;
        let (mut streamed, mut schema, mut has_footer) = (Vec::new(), None, false);
        while let Some(message) = stream.next().await {
            let message = message.map_err(words)?;
            let due = streamed.len() as u64..;
            if let Some((chunk, due)) = message.chunks.iter().zip(due).find(|(chunk, due)| chunk.index != *due) {
                return Err(format!("chunk {} came where {due} was due", chunk.index));
            }
            streamed.extend(rows_of(&message, &mut schema)?);
            has_footer |= message.footer.is_some();
        }
        let rows: u64 = streamed.iter().map(|chunk| chunk.num_rows() as u64).sum();
        if !has_footer {
            return Err("the stream ended without its footer".to_owned());
        }
        if (streamed.len() as u64, rows) != (chunks, records) {
            return Err(format!("{} chunks of {rows} rows came, {chunks} of {records} were told", streamed.len()));
        }
        let step = chunks.div_ceil(SINGLE_CHUNKS_MAX).max(1);
        let mut singly = 0;
        // The last first: chunks can be fetched in any order.
        for index in (0..chunks).filter(|index| index % step == 0 || index + 1 == chunks).rev() {
            let message = self.client.node().chunk(id, index, None, Some(LOOK_TIMEOUT)).await.map_err(words)?;
            let alone = rows_of(&message, &mut None)?;
            let is_it = message.chunks.first().is_some_and(|chunk| chunk.index == index);
            let is_last = message.chunks.last().is_some_and(|chunk| chunk.is_last);
            if !is_it || alone != streamed[index as usize..][..1] || is_last != (index + 1 == chunks) {
                return Err(format!("chunk {index} fetched alone is not that of the stream"));
            }
            singly += 1;
        }
        match self.client.node().chunk(id, chunks, None, Some(LOOK_TIMEOUT)).await {
            Err(failure) if failure.kind == FailureKind::OutOfRange => {}
            Err(failure) => return Err(format!("past the end: {}", failure.message)),
            Ok(_) => return Err(format!("there is a chunk {chunks} of {chunks}")),
        }
        Ok(format!("{chunks} chunks of {rows} rows without a gap; {singly} fetched singly are the same"))
    }

    /// Several at once, all of them with the rows of one alone.
    async fn concurrent(&self, rows: u64) -> Result<String, String> {
        let begun = Instant::now();
        let answers = join_all((0..AT_ONCE).map(|_| async {
            // Told to come back later is no failure of the system.
            let mut answer = self.client.open_patiently(self.spec(), |_, _| ()).await.map_err(words)?;
            let mut found = 0;
            while let Some(batch) = answer.next().await {
                found += batch.map_err(words)?.num_rows() as u64;
            }
            answer.cancel().await;
            Ok::<u64, String>(found)
        }))
        .await;
        let mut wrong = answers.iter().filter_map(|answer| match answer {
            Ok(found) if *found == rows => None,
            Ok(found) => Some(format!("{found} rows came, {rows} alone")),
            Err(why) => Some(why.clone()),
        });
        match wrong.next() {
            None => {
                Ok(format!("{AT_ONCE} of {AT_ONCE} with {rows} rows each in {:.3} s", begun.elapsed().as_secs_f64()))
            }
            Some(first) => Err(format!("{} of {AT_ONCE} went wrong; the first: {first}", wrong.count() + 1)),
        }
    }

    /// A cancelled query is gone, and says so.
    async fn cancelled(&self) -> Result<String, String> {
        let submitted = self.client.node().submit(self.spec(), "overlay-test", None).await.map_err(words)?;
        self.client.node().cancel(submitted.id).await.map_err(words)?;
        self.client.node().cancel(submitted.id).await.map_err(|failure| format!("twice: {}", failure.message))?;
        match self.client.node().chunk(submitted.id, 0, None, Some(LOOK_TIMEOUT)).await {
            Err(failure) if matches!(failure.kind, FailureKind::Cancelled | FailureKind::NotFound) => {
                Ok("twice is no error, and its chunks are gone".to_owned())
            }
            Err(failure) => Err(format!("its chunks fail otherwise: {}", failure.message)),
            Ok(_) => Err("its chunks are still there".to_owned()),
        }
    }

    /// A query that makes no sense is refused for what it is.
    async fn refused(&self) -> Result<String, String> {
        let filter = RangeFilter { columns: vec!["no_such_column".to_owned()], ..RangeFilter::default() };
        let opened = self.client.open(QuerySpec { ask: Ask::Range(filter), ..self.spec() }).await;
        let failure = match opened {
            Err(failure) => Some(failure),
            Ok(mut answer) => answer.next().await.and_then(Result::err),
        };
        match failure {
            Some(failure) if failure.kind == FailureKind::InvalidArgument => Ok(failure.message),
            Some(failure) => Err(format!("a column that is not there: {} {}", failure.kind.name(), failure.message)),
            None => Err("a column that is not there is answered".to_owned()),
        }
    }
}

/// What one request gave.
struct Single {
    rows: u64,
    chunks: u64,
    took: Duration,
    hops: Vec<String>,
}

impl Display for Single {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Single { rows, chunks, took, hops } = self;
        write!(f, "{rows} rows in {chunks} chunks in {:.3} s; routes {}", took.as_secs_f64(), hops.join(", "))
    }
}

fn words(failure: Failure) -> String {
    format!("{} {}", failure.kind.name(), failure.message)
}

/// The rows of a message, a batch for each of its chunks. Its schema, if it brings one, is that of the next messages.
fn rows_of(message: &ChunkMessage, schema: &mut Option<SchemaRef>) -> Result<Vec<RecordBatch>, String> {
    if message.data.checksum() != message.checksum {
        return Err("a message's checksum does not fit".to_owned());
    }
    if !message.schema.is_empty() {
        *schema = Some(decode_schema(&message.schema).map_err(|error| error.to_string())?);
    }
    if message.chunks.is_empty() {
        return Ok(Vec::new());
    }
    let schema = schema.as_ref().ok_or("the first message brings no schema")?;
    let encoding = encoding::by_name(encoding::DEFAULT).ok_or("this program does not know its own encoding")?;
    encoding.decode(&message.data.joined(), &message.chunks, schema).map_err(|error| error.to_string())
}
