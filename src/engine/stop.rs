//! A flag that ends work in progress: read by scan jobs between zones, awaited by streams.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Why work is to end before it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The reader does not want the rest: cancelled, gone, or satisfied.
    Cancelled,
    /// The time given to it is over.
    Deadline,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopReason::Cancelled => "cancelled",
            StopReason::Deadline => "deadline exceeded",
        })
    }
}

/// One flag, shared by all clones. The first reason stands.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Option<StopReason>>>);

impl Default for Stop {
    fn default() -> Stop {
        Stop(Arc::new(watch::Sender::new(None)))
    }
}

impl Stop {
    /// Raises the flag; later reasons are ignored.
    pub fn set(&self, reason: StopReason) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }

    /// The reason, once there is one.
    pub fn reason(&self) -> Option<StopReason> {
        *self.0.borrow()
    }

    /// Waits until the flag is raised.
    pub async fn raised(&self) -> StopReason {
        let mut receiver = self.0.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(StopReason::Cancelled),
            // The sender lives in `self`, so the channel cannot be closed here.
            Err(_) => StopReason::Cancelled,
        }
    }
}
