//! Where scan jobs run. The engine never picks a thread itself: a node passes in a rayon pool, a simulation runs
//! the jobs inline, so that one seed gives one history.

use std::sync::Arc;
use std::time::Duration;

/// A job that never blocks: capacity for its result is there before it starts.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs scan jobs.
pub trait ScanPool: Send + Sync {
    /// Runs the job, now or later, on a thread of the pool's choice.
    fn spawn(&self, job: Job);

    /// How many jobs run at the same time; a query keeps about twice as many in flight.
    fn width(&self) -> usize;
}

/// Jobs on a rayon pool.
pub struct RayonPool(rayon::ThreadPool);

impl RayonPool {
    /// A pool of `threads` threads named `scan-N`.
    pub fn new(threads: usize) -> Result<RayonPool, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("scan-{n}")).build()?;
        Ok(RayonPool(pool))
    }
}

impl ScanPool for RayonPool {
    fn spawn(&self, job: Job) {
        self.0.spawn_fifo(job);
    }

    fn width(&self) -> usize {
        self.0.current_num_threads()
    }
}

/// Jobs run at once, on the caller's thread.
pub struct InlinePool;

impl ScanPool for InlinePool {
    fn spawn(&self, job: Job) {
        job();
    }

    fn width(&self) -> usize {
        1
    }
}

/// The time since an arbitrary start. Passed in, so that simulated time works.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;
