//! `fixed`: every chunk but the last has exactly `chunk_size` rows.

use super::{Chunking, ChunkingInput};

pub(super) struct Fixed;

impl Chunking for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn next_rows(&self, input: &ChunkingInput) -> usize {
        input.within_bounds(input.base)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::estimate_of;
    use super::*;

    #[test]
    fn nothing_but_the_setting_counts() {
        for estimate in [0, 100, 1_000_000] {
            assert_eq!(Fixed.next_rows(&estimate_of(estimate)), 200);
        }
        assert_eq!(Fixed.next_rows(&ChunkingInput { chunk_rows_max: 150, ..estimate_of(1) }), 150);
    }
}
