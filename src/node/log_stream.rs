//! Hands out this node's log: its last lines, and what follows until the node ends.
//!
//! It keeps a bound on how many follow at once; what is in the log, and where it goes on, is [`super::log`]'s.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::log::{LINES_MAX, LogReader};
use crate::failure::{Failure, FailureKind};
use crate::routing::NodeId;
use crate::transport::services::LogsAsked;

/// Readers of one node's log at once; more are refused. Each costs an open file and a look every `POLL_INTERVAL`.
const READERS_MAX: usize = 16;
/// How often a follower looks for more.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The log of this process, for whoever asks.
pub struct LogStreams {
    path: OnceLock<PathBuf>,
    readers: Arc<Semaphore>,
    /// Becomes true, or its sender goes away, when the node ends.
    closing: watch::Receiver<bool>,
}

impl LogStreams {
    /// Without a file yet.
    pub fn new(closing: watch::Receiver<bool>) -> LogStreams {
        LogStreams { path: OnceLock::new(), readers: Arc::new(Semaphore::new(READERS_MAX)), closing }
    }

    /// The log is written to this file; the first word counts.
    pub fn found_at(&self, path: PathBuf) {
        let _ = self.path.set(path);
    }

    /// Lines as they come, some at a time.
    pub fn open(
        &self,
        me: &NodeId,
        asked: &LogsAsked,
    ) -> Result<BoxStream<'static, Result<Vec<String>, Failure>>, Failure> {
        let fail = |kind, reason: &str, message: String| Failure::new(kind, reason, message).at(me);
        if asked.node != *me {
            let shown: String = asked.node.as_str().chars().take(64).collect();
            let message = format!("this is {me}, not {shown:?}");
            return Err(fail(FailureKind::FailedPrecondition, "ANOTHER_NODE", message));
        }
        let Some(path) = self.path.get() else {
            let message = format!("{me} writes no log file: its log goes to stderr");
            return Err(fail(FailureKind::FailedPrecondition, "NO_LOG", message));
        };
        let Ok(permit) = Arc::clone(&self.readers).try_acquire_owned() else {
            let message = format!("{READERS_MAX} readers follow this log already");
            return Err(fail(FailureKind::ResourceExhausted, "LOG_READERS", message));
        };
        let reader = LogReader::open(path, asked.lines).map_err(|error| {
            fail(FailureKind::NotFound, "NO_LOG", format!("{} cannot be read: {error}", path.display()))
        })?;
        let left = (!asked.follow).then_some(asked.lines.min(LINES_MAX) as usize);
        let lines =
            Lines { reader: Some(reader), left, closing: self.closing.clone(), me: me.clone(), _permit: permit };
        Ok(stream::unfold(lines, |mut lines| async move { lines.next().await.map(|next| (next, lines)) }).boxed())
    }
}

/// One reader's place.
struct Lines {
    /// `None` after the end.
    reader: Option<LogReader>,
    /// Lines still to be given; `None`: whatever comes.
    left: Option<usize>,
    closing: watch::Receiver<bool>,
    me: NodeId,
    _permit: OwnedSemaphorePermit,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Vec<String>, Failure>> {
        loop {
            let mut reader = self.reader.take()?;
            // Seen before the last look, so that no line is between the two.
            let ends = *self.closing.borrow() || self.closing.has_changed().is_err();
            let read = tokio::task::spawn_blocking(move || reader.next_lines().map(|lines| (lines, reader)));
            let (mut lines, mut reader) = match read.await {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => return Some(Err(self.broken(&error))),
                Err(error) => return Some(Err(self.broken(&error))),
            };
            if let Some(left) = &mut self.left {
                lines.truncate(*left);
                *left -= lines.len();
            }
            if !lines.is_empty() {
                self.reader = Some(reader);
                return Some(Ok(lines));
            }
            if ends || self.left.is_some() {
                return reader.rest().filter(|_| self.left != Some(0)).map(|line| Ok(vec![line]));
            }
            self.reader = Some(reader);
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                _ = self.closing.changed() => {}
            }
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> Failure {
        Failure::new(FailureKind::Internal, "LOG", format!("the log cannot be read: {error}")).at(&self.me)
    }
}
