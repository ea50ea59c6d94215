//! What a query costs, in one currency: time of a core.
//!
//! Requests are never counted: a thousand small queries may cost less than one giant. What a query uses of anything but
//! cores is turned into core time at a fixed rate, so that hogging memory or the network is no way around a share.

use std::ops::AddAssign;
use std::time::Duration;

/// A byte sent costs a nanosecond: about what encoding, checksum and loopback take for it together, and what a link of
/// 1 GB/s takes. A rate that is too low makes results cheap beside scans; too high, and a team that reads much waits
/// while cores idle.
pub const NANOS_PER_BYTE_SENT: u64 = 1;

/// So many bytes held for a second cost a second of a core: the default of `result_bytes_max`. Who fills all the memory
/// for results is charged like one who keeps one core busy.
pub const BYTES_HELD_PER_CORE: u64 = 512 << 20;

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Time on cores, of all nodes together.
    pub cpu: Duration,
    /// Bytes sent over links and to the client.
    pub bytes_sent: u64,
    /// Bytes of results held, each times the seconds that it was held. Not negative.
    pub byte_seconds_held: f64,
}

impl Cost {
    /// Core time alone.
    pub fn cpu(cpu: Duration) -> Cost {
        Cost { cpu, ..Cost::default() }
    }

    /// The whole cost as time of a core.
    pub fn core_time(&self) -> Duration {
        let sent = Duration::from_nanos(self.bytes_sent.saturating_mul(NANOS_PER_BYTE_SENT));
        let held = self.byte_seconds_held.max(0.0) * 1e9 / BYTES_HELD_PER_CORE as f64;
        self.cpu.saturating_add(sent).saturating_add(Duration::from_nanos(held as u64))
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.cpu += other.cpu;
        self.bytes_sent += other.bytes_sent;
        self.byte_seconds_held += other.byte_seconds_held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_core_time() {
        let second = Duration::from_secs(1);
        for (cost, expected) in [
            (Cost::default(), Duration::ZERO),
            (Cost::cpu(second), second),
            (Cost { bytes_sent: 1_000_000_000, ..Cost::default() }, second),
            (Cost { byte_seconds_held: (512 << 20) as f64, ..Cost::default() }, second),
            (Cost { byte_seconds_held: -1.0, ..Cost::default() }, Duration::ZERO),
            (Cost { byte_seconds_held: f64::NAN, ..Cost::default() }, Duration::ZERO),
            (Cost { bytes_sent: u64::MAX, ..Cost::cpu(second) }, second + Duration::from_nanos(u64::MAX)),
        ] {
            assert_eq!(cost.core_time(), expected, "{cost:?}");
        }
        let mut sum = Cost { bytes_sent: 1, ..Cost::cpu(second) };
        sum += Cost { bytes_sent: 2, byte_seconds_held: 3.0, ..Cost::cpu(second) };
        assert_eq!(sum, Cost { cpu: 2 * second, bytes_sent: 3, byte_seconds_held: 3.0 });
    }
}
