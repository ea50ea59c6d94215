//! Where scan jobs run. The engine never picks a thread itself: a node passes in its pool ([`super::fair_pool`]), a
//! simulation runs the jobs inline, so that one seed gives one history.

use std::sync::Arc;
use std::time::Duration;

use super::share::Share;

/// A job that never blocks: capacity for its result is there before it starts. Small, about a millisecond: while it runs
/// nobody else has its turn.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs scan jobs.
pub trait ScanPool: Send + Sync {
    /// Runs the job, now or later, on a thread of the pool's choice, when it is the share's turn.
    fn spawn(&self, share: &Share, job: Job);

    /// How many jobs run at the same time; a query keeps a few for each in flight.
    fn width(&self) -> usize;
}

/// Jobs run at once, on the caller's thread.
pub struct InlinePool;

impl ScanPool for InlinePool {
    fn spawn(&self, _: &Share, job: Job) {
        job();
    }

    fn width(&self) -> usize {
        1
    }
}

/// The time since an arbitrary start. Passed in, so that simulated time works. A *work clock* tells what the thread that
/// looks at it has computed: only two looks of the same thread can be compared.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;
