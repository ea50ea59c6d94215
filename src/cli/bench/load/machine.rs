//! What processes took of the machine, where the system tells.

use std::time::{Duration, Instant};

use crate::node::os;

/// The cores of this machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor time of the generator and of the nodes over some time, as parts of one core.
pub struct CpuMeter {
    begun: Instant,
    generator: Option<Duration>,
    nodes: Option<Duration>,
    pids: Vec<u32>,
}

impl CpuMeter {
    /// Begins. The generator is this process.
    pub fn start(pids: Vec<u32>) -> CpuMeter {
        let begun = Instant::now();
        CpuMeter { begun, generator: os::cpu_time(std::process::id()), nodes: sum(&pids), pids }
    }

    /// Cores that the generator and the nodes had on average since the start; none where it cannot be told.
    pub fn cores_used(&self) -> Option<(f64, f64)> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let part =
            |now: Option<Duration>, then: Option<Duration>| Some((now?.checked_sub(then?)?).as_secs_f64() / seconds);
        Some((part(os::cpu_time(std::process::id()), self.generator)?, part(sum(&self.pids), self.nodes)?))
    }
}

fn sum(pids: &[u32]) -> Option<Duration> {
    pids.iter().map(|pid| os::cpu_time(*pid)).sum()
}
