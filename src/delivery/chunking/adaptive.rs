//! `adaptive`: small chunks for small results, so that the first is there at once; large results start at 1000 rows and
//! grow with their reader.
//!
//! A chunk should keep its reader busy for about [`READING_TIME_S`]: shorter, and the fixed cost of a call shows;
//! longer, and a cancel or a slow neighbour waits for it. A reader's speed is a guess from a few chunks, so a chunk is
//! at most twice the one before; a reader that slows down gets smaller chunks at once, but never less than 1000 rows.
//! Large chunks end where a batch of the result ends, the last that fits, if that gives at least 1000 rows.

use super::{Chunking, ChunkingInput};

/// The upper end of the 5 to 10 ms that a chunk may cost.
const READING_TIME_S: f64 = 0.010;

/// Where large results start, and the most that a medium one gets.
const LARGE: usize = 1_000;

pub(super) struct Adaptive;

impl Chunking for Adaptive {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    fn next_rows(&self, input: &ChunkingInput) -> usize {
        let rows = match input.estimate {
            ..=100 => 50,
            101..=500 => input.base,
            501..=2_000 => input.base.saturating_mul(2).min(LARGE),
            _ => large(input),
        };
        input.within_bounds(rows)
    }

    fn rows_to_end_with_a_batch(&self, input: &ChunkingInput) -> Option<usize> {
        (input.estimate > 2_000).then_some(LARGE)
    }
}

fn large(input: &ChunkingInput) -> usize {
    // A float cast saturates, and turns NaN into 0: any measured speed is safe here.
    let readable = input.reader_rows_per_s.map_or(0, |speed| (speed * READING_TIME_S) as usize);
    let growth_max = input.previous_rows.map_or(LARGE, |previous| previous.saturating_mul(2)).max(LARGE);
    readable.clamp(LARGE, growth_max)
}

#[cfg(test)]
mod tests {
    use super::super::tests::estimate_of;
    use super::*;

    #[test]
    fn the_estimate_chooses_the_step() {
        for (estimate, rows) in [(0, 50), (100, 50), (101, 200), (500, 200), (501, 400), (2_000, 400), (2_001, 1_000)] {
            assert_eq!(Adaptive.next_rows(&estimate_of(estimate)), rows, "estimate {estimate}");
        }
        assert_eq!(Adaptive.next_rows(&ChunkingInput { base: 800, ..estimate_of(2_000) }), 1_000);
    }

    #[test]
    fn a_large_result_grows_with_its_reader() {
        for (previous, speed, rows) in [
            (None, None, 1_000),
            (None, Some(1e9), 1_000),
            (Some(1_000), None, 1_000),
            (Some(1_000), Some(1e9), 2_000),
            (Some(1_000), Some(150_000.0), 1_500),
            (Some(50_000), Some(1e9), 65_536),
            (Some(32_000), Some(10.0), 1_000),
            (Some(50), Some(1e9), 1_000),
        ] {
            let input = ChunkingInput { previous_rows: previous, reader_rows_per_s: speed, ..estimate_of(1_000_000) };
            assert_eq!(Adaptive.next_rows(&input), rows, "after {previous:?} at {speed:?} rows/s");
        }
    }
}
