//! The rows of one result, in the order they came, found by their offset and freed from the front.
//!
//! A batch is in memory or on disk; which, is the store's decision, and never changes. Invariant: `bytes` is the sum of
//! the footprints of the batches in memory, each dictionary counted once, and [`SPOOLED_BYTES`] for each of the others.

use std::collections::{HashMap, VecDeque};

use super::footprint::{self, Dictionary, Footprint};
use super::spool::Spooled;
use super::{Arrived, Piece};

/// What a batch on disk costs in memory: where it lies, rounded up.
pub(super) const SPOOLED_BYTES: u64 = 160;

/// Batches one after another; the first row ever appended has offset 0, also after it was released.
#[derive(Debug, Default)]
pub(super) struct Rows {
    batches: VecDeque<Kept>,
    /// How many batches in memory point to each dictionary.
    dictionaries: HashMap<Dictionary, usize>,
    /// Offset after the last row.
    end: u64,
    bytes: u64,
    disk_bytes: u64,
}

#[derive(Debug)]
struct Kept {
    content: Content,
    rows: u64,
    /// Offset after its last row.
    end: u64,
}

#[derive(Debug)]
enum Content {
    Here(Arrived, Footprint),
    Spooled(Spooled),
}

/// Where a batch ends.
#[derive(Debug, PartialEq)]
pub(super) struct BatchEnd {
    /// After its last row.
    pub offset: u64,
    /// It is a block, or will be one when it is read from disk.
    pub is_packed: bool,
}

impl Kept {
    fn start(&self) -> u64 {
        self.end - self.rows
    }
}

impl Rows {
    /// Rows ever appended.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held in memory now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes held on disk now.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// By how much `bytes` would grow if these rows were appended now.
    pub fn cost(&self, arrived: &Arrived) -> u64 {
        if arrived.rows() == 0 {
            return 0;
        }
        let footprint = footprint::of(arrived);
        let mut new = footprint.dictionaries;
        new.retain(|dictionary| !self.dictionaries.contains_key(dictionary));
        // Two columns may share one dictionary; a batch has few columns, so comparing them all is cheap.
        let mut seen: Vec<Dictionary> = Vec::new();
        for dictionary in new {
            if !seen.contains(&dictionary) {
                seen.push(dictionary);
            }
        }
        footprint.rows_bytes + seen.iter().map(|dictionary| dictionary.bytes).sum::<u64>()
    }

    /// Puts a batch at the end. A batch without rows leaves no trace.
    pub fn append(&mut self, arrived: impl Into<Arrived>) {
        let arrived = arrived.into();
        let rows = arrived.rows() as u64;
        if rows == 0 {
            return;
        }
        let footprint = footprint::of(&arrived);
        self.bytes += footprint.rows_bytes;
        for dictionary in &footprint.dictionaries {
            let held_by = self.dictionaries.entry(*dictionary).or_insert(0);
            *held_by += 1;
            if *held_by == 1 {
                self.bytes += dictionary.bytes;
            }
        }
        self.keep(Content::Here(arrived, footprint), rows);
    }

    /// Puts a batch at the end that lies on disk.
    pub fn append_spooled(&mut self, batch: Spooled) {
        let rows = batch.rows();
        if rows > 0 {
            self.bytes += SPOOLED_BYTES;
            self.disk_bytes += batch.bytes();
            self.keep(Content::Spooled(batch), rows);
        }
    }

    fn keep(&mut self, content: Content, rows: u64) {
        self.end += rows;
        self.batches.push_back(Kept { content, rows, end: self.end });
    }

    /// The rows `from..to` as slices of the batches they came in. The caller asks only for rows that were appended and
    /// not released.
    pub fn slices(&self, from: u64, to: u64) -> Vec<Piece> {
        assert!(from <= to && to <= self.end, "rows {from}..{to} of {} asked for", self.end);
        let mut slices = Vec::new();
        let mut at = from;
        let first = self.batches.partition_point(|kept| kept.end <= from);
        for kept in self.batches.iter().skip(first).take_while(|kept| kept.start() < to) {
            assert!(kept.start() <= at, "row {at} was released");
            let offset = (at - kept.start()) as usize;
            let rows = (kept.end.min(to) - at) as usize;
            slices.push(match &kept.content {
                Content::Here(arrived, _) => Piece::Here(arrived.slice(offset, rows)),
                Content::Spooled(batch) => Piece::Spooled { batch: batch.clone(), offset, rows },
            });
            at += rows as u64;
        }
        assert_eq!(at, to, "rows {at}..{to} were released");
        slices
    }

    /// The first place from `offset` on where a batch ends, if there is one.
    pub fn first_batch_end(&self, offset: u64) -> Option<BatchEnd> {
        let first = self.batches.partition_point(|kept| kept.end < offset);
        let is_packed = |kept: &Kept| !matches!(kept.content, Content::Here(Arrived::Batch(_), _));
        self.batches.get(first).map(|kept| BatchEnd { offset: kept.end, is_packed: is_packed(kept) })
    }

    /// The last place up to `offset` where a batch ends, of those that are kept.
    pub fn last_batch_end(&self, offset: u64) -> Option<u64> {
        let after = self.batches.partition_point(|kept| kept.end <= offset);
        after.checked_sub(1).and_then(|last| self.batches.get(last)).map(|kept| kept.end)
    }

    /// Frees the batches that lie wholly before `offset`.
    pub fn release_before(&mut self, offset: u64) {
        while let Some(kept) = self.batches.pop_front_if(|kept| kept.end <= offset) {
            let footprint = match kept.content {
                Content::Here(_, footprint) => footprint,
                Content::Spooled(batch) => {
                    self.bytes -= SPOOLED_BYTES;
                    self.disk_bytes -= batch.bytes();
                    continue;
                }
            };
            self.bytes -= footprint.rows_bytes;
            for dictionary in footprint.dictionaries {
                let held_by = self.dictionaries.get_mut(&dictionary).expect("counted when its batch was appended");
                *held_by -= 1;
                if *held_by == 0 {
                    self.dictionaries.remove(&dictionary);
                    self.bytes -= dictionary.bytes;
                }
            }
        }
        assert!(!self.batches.is_empty() || self.bytes == 0, "{} bytes counted for no batch", self.bytes);
    }

    /// Frees everything.
    pub fn clear(&mut self) {
        self.release_before(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;
    use crate::delivery::encoding::packed::{Packed, RowsByRun};
    use crate::delivery::spool::tests::{InMemory, write};
    use crate::delivery::{Cut, LastLoaded};

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        let column = Int64Array::from_iter_values(range);
        RecordBatch::try_from_iter([("n", Arc::new(column) as _)]).expect("one column")
    }

    fn packed(batch: &RecordBatch) -> Packed {
        let bytes = RowsByRun::of_batch(batch).pack().expect("numbers can be packed");
        Packed::open(bytes.into(), &batch.schema()).expect("a block")
    }

    fn texts(values: &StringArray, keys: Vec<i32>) -> RecordBatch {
        let column = DictionaryArray::<Int32Type>::try_new(keys.into(), Arc::new(values.clone())).expect("valid keys");
        RecordBatch::try_from_iter([("t", Arc::new(column) as _)]).expect("one column")
    }

    fn read(rows: &Rows, from: u64, to: u64) -> Vec<i64> {
        let cut = Cut { index: 0, pieces: rows.slices(from, to), is_last: true };
        let chunk = cut.load(&mut LastLoaded::default()).expect("it is there");
        let batches = chunk.pieces.iter().map(|slice| slice.to_batch().expect("readable"));
        batches.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn rows_are_found_by_offset_also_after_a_release() {
        let mut rows = Rows::default();
        for (from, to) in [(0, 3), (3, 3), (3, 4), (4, 9)] {
            rows.append(numbers(from..to));
        }
        for (released, first) in [(0, 0), (2, 0), (3, 3), (8, 4)] {
            rows.release_before(released);
            for from in first..=9 {
                for to in from..=9 {
                    assert_eq!(read(&rows, from, to), (from as i64..to as i64).collect::<Vec<_>>());
                }
            }
        }
        rows.release_before(9);
        assert_eq!((rows.bytes(), rows.end()), (0, 9));
        assert_eq!(read(&rows, 9, 9), Vec::<i64>::new());
    }

    #[test]
    fn rows_on_disk_are_found_like_those_in_memory_and_cost_next_to_nothing() {
        let file = Arc::new(InMemory::default());
        let mut rows = Rows::default();
        for (n, (from, to)) in [(0, 3), (3, 400), (400, 404), (404, 900)].into_iter().enumerate() {
            if n % 2 == 1 {
                rows.append_spooled(write(&file, &numbers(from..to).into()));
            } else {
                rows.append(numbers(from..to));
            }
        }
        rows.append_spooled(write(&file, &numbers(900..900).into()));
        assert_eq!((rows.end(), rows.batches.len()), (900, 4));
        for (from, to) in [(0, 900), (2, 4), (3, 400), (100, 101), (399, 405), (899, 900), (900, 900)] {
            assert_eq!(read(&rows, from, to), (from as i64..to as i64).collect::<Vec<_>>());
        }
        let in_memory = rows.bytes() - 2 * SPOOLED_BYTES;
        assert!(in_memory < 1_000, "{in_memory}");
        rows.release_before(400);
        assert_eq!(Arc::strong_count(&file), 2, "the first batch on disk is not held any more");
        rows.clear();
        assert_eq!((rows.bytes(), Arc::strong_count(&file)), (0, 1));
    }

    #[test]
    fn batches_are_known_by_where_they_end() {
        let mut rows = Rows::default();
        rows.append(numbers(0..3));
        rows.append(packed(&numbers(3..7)));
        let end = |offset, is_packed| Some(BatchEnd { offset, is_packed });
        for (offset, end) in [(0, end(3, false)), (3, end(3, false)), (4, end(7, true)), (7, end(7, true)), (8, None)] {
            assert_eq!(rows.first_batch_end(offset), end, "from {offset}");
        }
        for (offset, end) in [(0, None), (2, None), (3, Some(3)), (6, Some(3)), (7, Some(7)), (100, Some(7))] {
            assert_eq!(rows.last_batch_end(offset), end, "up to {offset}");
        }
    }

    #[test]
    fn rows_that_came_packed_stay_packed_and_cost_what_they_came_in() {
        let mut rows = Rows::default();
        let came = packed(&numbers(0..1_000));
        let bytes = came.bytes().len() as u64;
        rows.append(came.clone());
        assert!(bytes <= rows.bytes() && rows.bytes() < bytes + 1_000, "{} for {bytes}", rows.bytes());
        rows.append(numbers(1_000..1_002));
        match rows.slices(990, 1_001).as_slice() {
            [Piece::Here(Arrived::Packed { block, from: 990, rows: 10 }), Piece::Here(Arrived::Batch(_))] => {
                assert!(block.is_same(&came));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(read(&rows, 990, 1_001), (990..1_001).collect::<Vec<_>>());
    }

    #[test]
    fn a_shared_dictionary_is_counted_once_and_until_its_last_batch_goes() {
        let values = StringArray::from(vec!["a value long enough to be noticed in the count"; 100]);
        let mut rows = Rows::default();
        let first = rows.cost(&texts(&values, vec![0, 1, 2]).into());
        rows.append(texts(&values, vec![0, 1, 2]));
        assert_eq!(rows.bytes(), first);
        let second = rows.cost(&texts(&values, vec![3, 4, 5]).into());
        assert!(second + 4_000 < first, "{second} bytes after {first}");
        rows.append(texts(&values, vec![3, 4, 5]));
        assert_eq!(rows.bytes(), first + second);
        rows.release_before(3);
        assert_eq!(rows.bytes(), first);
        rows.clear();
        assert_eq!(rows.bytes(), 0);
    }

    #[test]
    fn a_slice_costs_its_rows_and_not_its_parent() {
        let parent = numbers(0..100_000);
        let rows = Rows::default();
        assert!(rows.cost(&parent.clone().into()) >= 800_000);
        assert!(rows.cost(&parent.slice(50, 10).into()) < 1_000);
        assert_eq!(rows.cost(&parent.slice(50, 0).into()), 0);
    }
}
