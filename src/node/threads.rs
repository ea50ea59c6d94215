//! How many threads a node computes with, and those that plans run on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::os;
use crate::config::Config;
use crate::engine::executor::Clock;
use crate::engine::fair_pool::Perform;

/// Threads for plans, however small the budget: an operator that computes for long without yielding (a nested loop join)
/// holds its thread, and the system then shares the cores among the others instead of letting every query wait.
const PLAN_THREADS_MIN: usize = 4;

/// More threads for messages do not help one connection, which is one task.
const IO_THREADS_MAX: usize = 2;

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

/// How long a thread that scans computes at a time, where others want its core: longer than what the system gives to those
/// that do not ask (3 ms), so that none of them waits for its end. A query is handed from thread to thread five times, and
/// on a full machine each time waited for up to 4 ms. Longer: nothing more is gained.
const SCAN_PIECE: Duration = Duration::from_millis(20);
/// The same of those that read from connections and write to them.
const IO_PIECE: Duration = Duration::from_micros(500);

/// By how much threads that scan give way, in steps of niceness. Who serves has little to do, and for every scan: without
/// this a thread that passes on what several scans have found soon has had its equal part of the core, waits while the next
/// scan computes, and with it all waits that it has not come to, refusals and small answers among them. What this costs: beside
/// other programs that compute all the time, scans get a ninth of what those get.
const SCANS_GIVE_WAY: i32 = 10;

/// What a thread that scans begins with.
pub(super) fn begin_to_scan() {
    os::compute_in_pieces_of(SCAN_PIECE);
    os::give_way(SCANS_GIVE_WAY);
}

/// Does a job and counts what it computed. Time in which the system gave the core to others is left out: on a full
/// machine it is a third of all, by chance more for one team than for another. If the thread waited for something itself,
/// as for a disk, that counts: it kept others from the thread.
pub(super) fn charged_by_work(clock: Clock) -> Perform {
    Arc::new(move |job| {
        let (start, before) = (clock(), os::thread_usage());
        job();
        let took = clock().saturating_sub(start);
        match (before, os::thread_usage()) {
            (Some(before), Some(after)) if before.waits == after.waits => after.cpu.saturating_sub(before.cpu),
            _ => took,
        }
    })
}

/// A clock that goes while the thread that looks at it computes: what lies between two looks of one thread is what it
/// computed, however long it had to wait for its core. Where the system does not tell, it is the clock passed in.
pub(super) fn work_clock(clock: Clock) -> Clock {
    Arc::new(move || os::thread_work().unwrap_or_else(|| clock()))
}

/// What a thread begins with that serves connections, of the runtime on which [`super::Node::start`] is called; and one for
/// plans: what it does is short as a rule, and somebody waits for it.
pub fn begin_to_serve() {
    os::compute_in_pieces_of(IO_PIECE);
}

/// Threads that pass messages on: what one of them has to do costs another's core a wake-up to look for it, so there are
/// no more than cores to run them.
pub fn io_threads(config: &Config) -> usize {
    thread_budget(config).min(IO_THREADS_MAX)
}

/// The threads that plans run on; they end when it is dropped.
pub(super) struct PlanRuntime(Option<tokio::runtime::Runtime>);

impl PlanRuntime {
    /// Starts so many threads, and at least [`PLAN_THREADS_MIN`].
    pub fn start(threads: usize) -> io::Result<PlanRuntime> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(PLAN_THREADS_MIN))
            .thread_name("plan")
            .on_thread_start(begin_to_serve)
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
