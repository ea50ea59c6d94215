//! One request: sent, read to its last chunk, counted, and judged.
//!
//! Chunks are checked (order, checksum, footer) but not decoded: what is measured is the overlay, and a decoder beside
//! it on the same cores would be measured as well. Rows are counted by the chunks and must be the footer's, and those
//! that are expected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::record::Status;
use crate::client::{Answer, Client};
use crate::engine::session::Ask;
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{QuerySpec, QueryState};
use crate::routing::Team;

/// What is allowed beyond the query's own time before a Leader that says nothing is given up.
const GRACE: Duration = Duration::from_secs(3);

/// A query of a mix.
#[derive(Debug, Clone)]
pub struct Question {
    /// Without commas and line ends: it stands in files.
    pub name: Arc<str>,
    pub ask: Ask,
    pub limit: Option<u64>,
    pub allow_partial: bool,
    /// The rows of its answer; `None` if any number is right.
    pub expected: Option<u64>,
}

/// How requests are sent.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// The time that a request has, its retries among it.
    pub deadline: Duration,
    /// Whether a refusal's hint is followed.
    pub retry: bool,
    pub encoding: &'static str,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Sent {
    pub end: Instant,
    /// What the Leader worked on it, by the footer, without the queue.
    pub run: Duration,
    pub rows: u64,
    pub bytes: u64,
    pub tries: u32,
    pub status: Status,
    /// Why it did not end well.
    pub why: Option<String>,
}

impl Question {
    /// The query as it crosses the wire.
    pub fn spec(&self, team: Option<Team>, manner: Manner) -> QuerySpec {
        QuerySpec {
            team,
            encoding: manner.encoding,
            time_left: Some(manner.deadline),
            allow_partial: self.allow_partial,
            limit: self.limit,
            cancel_on_disconnect: true,
            ..QuerySpec::of(self.ask.clone())
        }
    }
}

/// Sends a request and reads its answer. Afterwards, outside of the measured time, the Leader may forget it.
pub async fn send(client: &Client, question: &Question, team: Option<Team>, manner: Manner) -> Sent {
    let mut sent = Sent {
        end: Instant::now(),
        run: Duration::ZERO,
        rows: 0,
        bytes: 0,
        tries: 1,
        status: Status::Failed,
        why: None,
    };
    let spec = question.spec(team, manner);
    let (tries, mut answer) = (Arc::new(AtomicU32::new(1)), None);
    let counted = Arc::clone(&tries);
    let again = move |_: &Failure, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    let reading = async {
        let opened = match manner.retry {
            true => client.open_patiently(spec, again).await?,
            false => client.open(spec).await?,
        };
        read(answer.insert(opened), &mut sent).await
    };
    let read = match tokio::time::timeout(manner.deadline + GRACE, reading).await {
        Ok(read) => read,
        Err(_) => Err(Failure::new(FailureKind::DeadlineExceeded, "SILENT", "the Leader says nothing")),
    };
    sent.end = Instant::now();
    sent.tries = tries.load(Ordering::Relaxed);
    let expected = question.expected.filter(|expected| *expected != sent.rows);
    (sent.status, sent.why) = match (read, expected) {
        (Err(failure), _) => (status_of(&failure), Some(failure.message)),
        // How many rows a partial answer has, nobody can know.
        (Ok(QueryState::Partial), _) => (Status::Partial, None),
        (Ok(_), Some(expected)) => (Status::Wrong, Some(format!("{} rows came, {expected} were expected", sent.rows))),
        (Ok(_), None) => (Status::Ok, None),
    };
    if let Some(mut answer) = answer {
        answer.cancel().await;
    }
    sent
}

async fn read(answer: &mut Answer, sent: &mut Sent) -> Result<QueryState, Failure> {
    while let Some(counted) = answer.count_next().await {
        let counted = counted?;
        sent.rows += counted.rows;
        sent.bytes += counted.bytes;
    }
    let broken = |what: String| Failure::new(FailureKind::DataLoss, "ROWS", what);
    let footer = answer.footer().ok_or_else(|| broken("the answer has no footer".into()))?;
    if footer.rows != sent.rows {
        return Err(broken(format!("{} rows came, the footer counts {}", sent.rows, footer.rows)));
    }
    sent.run = footer.elapsed.saturating_sub(footer.queued);
    Ok(footer.state)
}

fn status_of(failure: &Failure) -> Status {
    match failure.kind {
        // A result over its budget is no refusal: it failed after work was spent on it.
        FailureKind::ResourceExhausted if failure.reason != "RESULT_BYTES" => Status::Refused,
        FailureKind::DeadlineExceeded => Status::Expired,
        _ => Status::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_a_status() {
        let check = |kind, reason, status| assert_eq!(status_of(&Failure::new(kind, reason, "")), status, "{reason}");
        check(FailureKind::ResourceExhausted, "QUEUE_FULL", Status::Refused);
        check(FailureKind::ResourceExhausted, "DEADLINE_CANNOT_BE_MET", Status::Refused);
        check(FailureKind::ResourceExhausted, "RESULT_BYTES", Status::Failed);
        check(FailureKind::DeadlineExceeded, "DEADLINE", Status::Expired);
        check(FailureKind::Unavailable, "", Status::Failed);
    }
}
