//! `query_based`: a tenth of what was asked for, so that any answer takes about ten chunks, within limits.

use super::{Chunking, ChunkingInput};

/// The most rows of a chunk, unless `chunk_size` itself is more.
const ROWS_MAX: usize = 500;

pub(super) struct QueryBased;

impl Chunking for QueryBased {
    fn name(&self) -> &'static str {
        "query_based"
    }

    fn next_rows(&self, input: &ChunkingInput) -> usize {
        let tenth = input.limit.unwrap_or(input.estimate) / 10;
        let rows = usize::try_from(tenth).unwrap_or(usize::MAX);
        input.within_bounds(rows.clamp(input.base, input.base.max(ROWS_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::estimate_of;
    use super::*;

    #[test]
    fn a_tenth_of_the_limit_or_of_the_estimate() {
        for (limit, estimate, base, rows) in [
            (Some(3_000), 1_000_000, 200, 300),
            (Some(10), 1_000_000, 200, 200),
            (Some(1_000_000), 100, 200, 500),
            (None, 4_009, 200, 400),
            (None, 0, 200, 200),
            (None, 1_000_000, 800, 800),
        ] {
            let input = ChunkingInput { limit, base, ..estimate_of(estimate) };
            assert_eq!(QueryBased.next_rows(&input), rows, "limit {limit:?}, estimate {estimate}, base {base}");
        }
    }
}
