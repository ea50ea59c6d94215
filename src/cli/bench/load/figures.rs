//! What the records of a run come to: counts, latency, throughput, and how evenly something was shared. Pure.
//!
//! Latency is that of requests which ended well, from the time at which they were due. The others are counted by name,
//! so that quick refusals make no average look good.

use serde::{Deserialize, Serialize};

use super::record::{Record, Status};

/// The figures of a run. Times in milliseconds, 0 where there is nothing to measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests that were due in the measured time; the sum of the next eight.
    pub total: u64,
    pub ok: u64,
    pub partial: u64,
    pub wrong: u64,
    pub refused: u64,
    pub expired: u64,
    pub failed: u64,
    pub unissued: u64,
    pub open: u64,
    /// Of 100 requests, those that are `ok`.
    pub success_percent: f64,
    /// Sent again after a refusal.
    pub retries: u64,
    pub average_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// From the first request to the last end.
    pub seconds: f64,
    /// Of requests that are `ok`, in a second.
    pub throughput: f64,
    /// Rows of those.
    pub records: u64,
    pub records_per_second: f64,
    pub bytes: u64,
    /// How much later than due requests were sent: what the generator adds by itself.
    pub late_p99_ms: f64,
}

/// The figures of these records; those of the warm-up are left out.
pub fn figures<'a>(records: impl Iterator<Item = &'a Record>) -> Figures {
    let records: Vec<&Record> = records.filter(|record| record.is_measured()).collect();
    let count = |status| records.iter().filter(|record| record.status == status).count() as u64;
    let ok: Vec<&Record> = records.iter().copied().filter(|record| record.status == Status::Ok).collect();
    let latencies = sorted(ok.iter().map(|record| record.latency_ms()));
    let sent = records.iter().filter(|record| record.status != Status::Unissued);
    let late = sorted(sent.map(|record| (record.start_us - record.due_us) as f64 / 1e3));
    let first = records.iter().map(|record| record.due_us).min().unwrap_or(0);
    let last = records.iter().map(|record| record.end_us).max().unwrap_or(0);
    let seconds = (last - first) as f64 / 1e6;
    let per_second = |number: u64| if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
    let rows = ok.iter().map(|record| record.rows).sum();
    Figures {
        total: records.len() as u64,
        ok: count(Status::Ok),
        partial: count(Status::Partial),
        wrong: count(Status::Wrong),
        refused: count(Status::Refused),
        expired: count(Status::Expired),
        failed: count(Status::Failed),
        unissued: count(Status::Unissued),
        open: count(Status::Open),
        success_percent: if records.is_empty() { 0.0 } else { 100.0 * ok.len() as f64 / records.len() as f64 },
        retries: records.iter().map(|record| u64::from(record.tries.saturating_sub(1))).sum(),
        average_ms: if latencies.is_empty() { 0.0 } else { latencies.iter().sum::<f64>() / latencies.len() as f64 },
        p50_ms: percentile(&latencies, 50.0),
        p95_ms: percentile(&latencies, 95.0),
        p99_ms: percentile(&latencies, 99.0),
        max_ms: latencies.last().copied().unwrap_or(0.0),
        seconds,
        throughput: per_second(ok.len() as u64),
        records: rows,
        records_per_second: per_second(rows),
        bytes: ok.iter().map(|record| record.bytes).sum(),
        late_p99_ms: percentile(&late, 99.0),
    }
}

/// Numbers in ascending order.
pub fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_unstable_by(f64::total_cmp);
    numbers
}

/// The smallest of the sorted numbers that so many percent of them do not exceed; 0 of none.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

/// Jain's index: 1 if all are equal, 1/n if one has everything. 1 of nothing, and of none but zeros.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

/// The least by the greatest; 1 of nothing, and of none but zeros.
pub fn min_max(shares: &[f64]) -> f64 {
    let most = shares.iter().copied().fold(0.0, f64::max);
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    if most == 0.0 { 1.0 } else { least / most }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::ended;
    use super::*;

    #[test]
    fn percentiles_are_numbers_that_occurred() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        for (percent, number) in [(50.0, 50.0), (95.0, 95.0), (99.0, 99.0), (99.9, 100.0), (100.0, 100.0), (0.0, 1.0)] {
            assert_eq!(percentile(&hundred, percent), number, "p{percent}");
        }
        assert_eq!((percentile(&[], 99.0), percentile(&[7.0], 1.0), percentile(&[1.0, 2.0], 50.0)), (0.0, 7.0, 1.0));
    }

    #[test]
    fn shares_are_compared() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(jain(&[3.0, 3.0, 3.0]), 1.0);
        close(jain(&[1.0, 0.0, 0.0, 0.0]), 0.25);
        close(jain(&[1.0, 2.0]), 0.9);
        close(jain(&[]), 1.0);
        close(jain(&[0.0, 0.0]), 1.0);
        close(min_max(&[0.5, 1.0, 2.0]), 0.25);
        close(min_max(&[0.0, 1.0]), 0.0);
        close(min_max(&[4.0]), 1.0);
        close(min_max(&[]), 1.0);
        close(min_max(&[0.0]), 1.0);
    }

    #[test]
    fn a_run_is_summed_up_without_its_warm_up() {
        let refused = Record { status: Status::Refused, tries: 4, rows: 0, bytes: 0, ..ended("green", "q", 100, 101) };
        let late = Record { start_us: 204_000, ..ended("green", "q", 200, 240) };
        let warm = ended("green", "q", -10, 900);
        let all = [warm, ended("green", "q", 0, 20), refused, late];
        let found = figures(all.iter());
        assert_eq!((found.total, found.ok, found.refused, found.failed, found.retries), (3, 2, 1, 0, 3));
        assert!((found.success_percent - 200.0 / 3.0).abs() < 1e-9);
        assert_eq!((found.average_ms, found.p50_ms, found.p99_ms, found.max_ms), (30.0, 20.0, 40.0, 40.0));
        assert_eq!((found.seconds, found.records, found.bytes), (0.24, 20, 200));
        assert!((found.throughput - 2.0 / 0.24).abs() < 1e-9);
        assert_eq!(found.late_p99_ms, 4.0);
        let sum = found.ok + found.partial + found.wrong + found.refused + found.expired + found.failed;
        assert_eq!(sum + found.unissued + found.open, found.total);
        assert_eq!(figures([].iter()), Figures::default());
    }
}
