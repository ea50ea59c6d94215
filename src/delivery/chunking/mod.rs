//! How many rows the next chunk of a result has.
//!
//! A strategy sees what is known of the result so far and says a number; where a boundary then lies, and that it never
//! moves, is [`super::result`]'s business. To add a strategy, write its file and its line in [`STRATEGIES`]: config
//! check, `--help`, contract test and benches walk that table.

mod adaptive;
mod fixed;
mod query_based;

/// What is known when a boundary is fixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChunkingInput {
    /// Rows the result may have: those of the unpruned partitions cut at the limit, or the exact total once known.
    pub estimate: u64,
    /// The limit of the query, if it has one.
    pub limit: Option<u64>,
    /// `chunk_size` of the configuration, in rows, at least 1.
    pub base: usize,
    /// `chunk_rows_max` of the configuration: no chunk has more rows, whatever the strategy would like.
    pub chunk_rows_max: usize,
    /// Rows of the chunk before this one; none for the first.
    pub previous_rows: Option<usize>,
    /// How fast this result's reader took its recent chunks, in rows per second; none before it has read any.
    pub reader_rows_per_s: Option<f64>,
}

impl ChunkingInput {
    /// `rows`, moved into the range every strategy must keep to.
    fn within_bounds(&self, rows: usize) -> usize {
        rows.clamp(1, self.chunk_rows_max.max(1))
    }
}

/// A chunking strategy.
///
/// Contract: the same input gives the same answer; the answer is within `1..=chunk_rows_max`; no state is kept.
pub trait Chunking: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &'static str;

    /// Rows of the next chunk. The last chunk of a result may have fewer.
    fn next_rows(&self, input: &ChunkingInput) -> usize;

    /// The least rows of a chunk that would rather end where a batch ends than have all the rows of
    /// [`Chunking::next_rows`]: nothing has to be put together then. `None`: the number counts, wherever batches end.
    fn rows_to_end_with_a_batch(&self, _: &ChunkingInput) -> Option<usize> {
        None
    }
}

/// One line of the table of strategies.
pub struct Strategy {
    /// The name in the configuration.
    pub name: &'static str,
    /// Makes the strategy.
    pub make: fn() -> Box<dyn Chunking>,
    /// One line for `--help`.
    pub help: &'static str,
}

/// Every chunking strategy there is.
pub const STRATEGIES: &[Strategy] = &[
    Strategy {
        name: "fixed",
        make: || Box::new(fixed::Fixed),
        help: "every chunk but the last has exactly chunk_size rows",
    },
    Strategy {
        name: "adaptive",
        make: || Box::new(adaptive::Adaptive),
        help: "small chunks for small results; large ones grow with the reader's speed",
    },
    Strategy {
        name: "query_based",
        make: || Box::new(query_based::QueryBased),
        help: "a tenth of the limit (or of the estimate), from chunk_size to 500 rows",
    },
];

/// The strategy of that name; none if there is no such strategy.
pub fn by_name(name: &str) -> Option<Box<dyn Chunking>> {
    STRATEGIES.iter().find(|strategy| strategy.name == name).map(|strategy| (strategy.make)())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An input without limit, previous chunk or reader, over the defaults of the configuration.
    pub(crate) fn estimate_of(estimate: u64) -> ChunkingInput {
        ChunkingInput {
            estimate,
            limit: None,
            base: 200,
            chunk_rows_max: 65_536,
            previous_rows: None,
            reader_rows_per_s: None,
        }
    }

    fn inputs() -> Vec<ChunkingInput> {
        let mut inputs = Vec::new();
        for estimate in [0, 1, 100, 101, 500, 501, 2_000, 2_001, 225_521, u64::MAX] {
            for limit in [None, Some(0), Some(1), Some(3_000), Some(u64::MAX)] {
                for (base, chunk_rows_max) in [(200, 65_536), (1, 1), (700, 50), (1, 65_536), (usize::MAX, usize::MAX)]
                {
                    for previous_rows in [None, Some(1), Some(1_000), Some(usize::MAX)] {
                        for reader_rows_per_s in [None, Some(0.0), Some(1e6), Some(f64::INFINITY), Some(f64::NAN)] {
                            let some = estimate_of(estimate);
                            inputs.push(ChunkingInput {
                                limit,
                                base,
                                chunk_rows_max,
                                previous_rows,
                                reader_rows_per_s,
                                ..some
                            });
                        }
                    }
                }
            }
        }
        inputs
    }

    #[test]
    fn every_strategy_keeps_to_the_bounds_and_to_its_word() {
        for line in STRATEGIES {
            let strategy = (line.make)();
            assert_eq!(strategy.name(), line.name);
            assert!(!line.help.is_empty());
            for input in inputs() {
                let rows = strategy.next_rows(&input);
                assert!((1..=input.chunk_rows_max).contains(&rows), "{}: {rows} for {input:?}", line.name);
                assert_eq!(rows, (line.make)().next_rows(&input), "{} is not deterministic", line.name);
            }
        }
    }

    #[test]
    fn every_two_strategies_differ_somewhere() {
        for (i, one) in STRATEGIES.iter().enumerate() {
            for other in &STRATEGIES[i + 1..] {
                let (a, b) = ((one.make)(), (other.make)());
                let differ = inputs().iter().any(|input| a.next_rows(input) != b.next_rows(input));
                assert!(differ, "{} and {} never differ", one.name, other.name);
            }
        }
    }

    #[test]
    fn strategies_are_found_by_name() {
        for line in STRATEGIES {
            assert_eq!(by_name(line.name).map(|strategy| strategy.name()), Some(line.name));
        }
        assert!(by_name("Fixed").is_none());
        assert!(by_name("").is_none());
    }
}
