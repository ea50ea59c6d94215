//! The clocks of other hosts against this one's, as far as the time that an answer takes lets one be sure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::finding::Finding;
use super::probe::{Clock, Probe, Seen};
use crate::routing::NodeId;

/// Clocks that differ by more make logs of two hosts hard to read side by side. Nothing in an answer rests on them.
const SKEW_MAX_US: u64 = 500_000;

/// The clocks of other hosts.
pub fn clocks(probes: &[Probe]) -> Vec<Finding> {
    let mut hosts: BTreeMap<&str, (&NodeId, Clock)> = BTreeMap::new();
    for probe in probes.iter().filter(|probe| !probe.local) {
        let Seen::Answers { clock, .. } = probe.seen else { continue };
        let best = hosts.entry(&probe.host).or_insert((&probe.id, clock));
        if clock.round_trip < best.1.round_trip {
            *best = (&probe.id, clock);
        }
    }
    hosts.into_iter().map(|(host, (id, clock))| judge_clock(host, id, clock)).collect()
}

fn judge_clock(host: &str, id: &NodeId, clock: Clock) -> Finding {
    let Some(ahead) = clock.ahead_us else {
        let text = format!("{id} on {host} does not tell its time");
        return Finding::warning(text, "install the same version of overlay on every host");
    };
    let sure = shown(clock.round_trip / 2);
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let text = format!("{host} is {} {side} this host (within {sure}, asked {id})", shown_us(ahead.unsigned_abs()));
    let error = u64::try_from(clock.round_trip.as_micros() / 2).unwrap_or(u64::MAX);
    if ahead.unsigned_abs().saturating_sub(error) <= SKEW_MAX_US {
        return Finding::ok(text);
    }
    Finding::warning(text, "let a time service set both clocks, such as chrony: timedatectl set-ntp true")
}

fn shown_us(us: u64) -> String {
    if us < 1_000_000 { format!("{:.1} ms", us as f64 / 1e3) } else { format!("{:.1} s", us as f64 / 1e6) }
}

/// In milliseconds.
pub fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn a_clock_is_judged_by_what_is_sure() {
        let judged = |ahead_ms: i64, trip_ms: u64| {
            let clock = Clock { round_trip: Duration::from_millis(trip_ms), ahead_us: Some(ahead_ms * 1000) };
            judge_clock("10.0.0.9", &"C".into(), clock)
        };
        for (ahead, trip, level) in [
            (0, 1, Level::Ok),
            (499, 1, Level::Ok),
            (-499, 1, Level::Ok),
            (501, 0, Level::Warning),
            (-1500, 100, Level::Warning),
            (600, 400, Level::Ok),
        ] {
            assert_eq!(judged(ahead, trip).level, level, "{ahead} ms ahead, {trip} ms there and back");
        }
        assert!(judged(-1500, 2).text.starts_with("10.0.0.9 is 1.5 s behind this host (within 1.0 ms, asked C)"));
        let silent = Clock { round_trip: Duration::ZERO, ahead_us: None };
        assert_eq!(judge_clock("10.0.0.9", &"C".into(), silent).level, Level::Warning);
    }
}
