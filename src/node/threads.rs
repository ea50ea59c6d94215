//! How many threads a node computes with, and those that plans run on.

use std::io;

use crate::config::Config;

/// Threads for plans, however small the budget: an operator that computes for long without yielding (a nested loop join)
/// holds its thread, and the system then shares the cores among the others instead of letting every query wait.
const PLAN_THREADS_MIN: usize = 4;

/// The environment variable by which `up` shares the machine's cores among the nodes that it starts.
pub const THREADS_VARIABLE: &str = "OVERLAY_THREADS";

/// Threads for scans, and as many for plans: the configuration's, else what `up` gave this process, else the cores.
pub(super) fn thread_budget(config: &Config) -> usize {
    let given = || std::env::var(THREADS_VARIABLE).ok()?.parse().ok().filter(|threads| *threads > 0);
    match config.limits.threads {
        0 => given().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        threads => threads,
    }
}

/// The threads that plans run on; they end when it is dropped.
pub(super) struct PlanRuntime(Option<tokio::runtime::Runtime>);

impl PlanRuntime {
    /// Starts so many threads, and at least [`PLAN_THREADS_MIN`].
    pub fn start(threads: usize) -> io::Result<PlanRuntime> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(PLAN_THREADS_MIN))
            .thread_name("plan")
            // A deep plan recurses deeply; see `sql_gate` for what bounds it.
            .thread_stack_size(16 << 20)
            .enable_time()
            .build()?;
        Ok(PlanRuntime(Some(runtime)))
    }

    /// What tasks are spawned with.
    pub fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().expect("it is taken only when this is dropped").handle().clone()
    }
}

impl Drop for PlanRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A runtime must not wait for its tasks inside another one, where a node starts, fails to, and ends.
            runtime.shutdown_background();
        }
    }
}
