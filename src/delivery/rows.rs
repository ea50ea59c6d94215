//! The rows of one result, in the order they came, found by their offset and freed from the front.
//!
//! Invariant: `bytes` is the sum of the footprints of the batches held, each dictionary counted once.

use std::collections::{HashMap, VecDeque};

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::Arrived;
use super::footprint::{self, Dictionary, Footprint};

/// Batches one after another; the first row ever appended has offset 0, also after it was released.
#[derive(Debug, Default)]
pub(super) struct Rows {
    batches: VecDeque<Kept>,
    /// How many batches held point to each dictionary.
    dictionaries: HashMap<Dictionary, usize>,
    /// Offset after the last row.
    end: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Kept {
    batch: RecordBatch,
    ipc: Option<Bytes>,
    /// Offset after its last row.
    end: u64,
    footprint: Footprint,
}

impl Kept {
    fn start(&self) -> u64 {
        self.end - self.batch.num_rows() as u64
    }
}

impl Rows {
    /// Rows ever appended.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// By how much `bytes` would grow if this batch were appended now.
    pub fn cost(&self, batch: &RecordBatch) -> u64 {
        if batch.num_rows() == 0 {
            return 0;
        }
        let footprint = footprint::of_batch(batch);
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
        let Arrived { batch, ipc } = arrived.into();
        if batch.num_rows() == 0 {
            return;
        }
        let footprint = footprint::of_batch(&batch);
        self.bytes += footprint.rows_bytes;
        for dictionary in &footprint.dictionaries {
            let held_by = self.dictionaries.entry(*dictionary).or_insert(0);
            *held_by += 1;
            if *held_by == 1 {
                self.bytes += dictionary.bytes;
            }
        }
        self.end += batch.num_rows() as u64;
        self.batches.push_back(Kept { batch, ipc, end: self.end, footprint });
    }

    /// The rows `from..to` as slices of the batches they came in. The caller asks only for rows that were appended and
    /// not released.
    pub fn slices(&self, from: u64, to: u64) -> Vec<RecordBatch> {
        assert!(from <= to && to <= self.end, "rows {from}..{to} of {} asked for", self.end);
        let mut slices = Vec::new();
        let mut at = from;
        let first = self.batches.partition_point(|kept| kept.end <= from);
        for kept in self.batches.iter().skip(first).take_while(|kept| kept.start() < to) {
            assert!(kept.start() <= at, "row {at} was released");
            let offset = (at - kept.start()) as usize;
            let length = (kept.end.min(to) - at) as usize;
            slices.push(kept.batch.slice(offset, length));
            at += length as u64;
        }
        assert_eq!(at, to, "rows {at}..{to} were released");
        slices
    }

    /// The bytes that the rows `from..to` came in, if they are just one batch that came so.
    pub fn ipc_of(&self, from: u64, to: u64) -> Option<Bytes> {
        let kept = self.batches.get(self.batches.partition_point(|kept| kept.end <= from))?;
        kept.ipc.clone().filter(|_| kept.start() == from && kept.end == to)
    }

    /// The first place from `offset` on where a batch ends, if there is one.
    pub fn first_batch_end(&self, offset: u64) -> Option<u64> {
        let first = self.batches.partition_point(|kept| kept.end < offset);
        self.batches.get(first).map(|kept| kept.end)
    }

    /// Frees the batches that lie wholly before `offset`.
    pub fn release_before(&mut self, offset: u64) {
        while let Some(kept) = self.batches.pop_front_if(|kept| kept.end <= offset) {
            self.bytes -= kept.footprint.rows_bytes;
            for dictionary in kept.footprint.dictionaries {
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

    use arrow::array::{AsArray, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        let column = Int64Array::from_iter_values(range);
        RecordBatch::try_from_iter([("n", Arc::new(column) as _)]).expect("one column")
    }

    fn texts(values: &StringArray, keys: Vec<i32>) -> RecordBatch {
        let column = DictionaryArray::<Int32Type>::try_new(keys.into(), Arc::new(values.clone())).expect("valid keys");
        RecordBatch::try_from_iter([("t", Arc::new(column) as _)]).expect("one column")
    }

    fn read(rows: &Rows, from: u64, to: u64) -> Vec<i64> {
        let slices = rows.slices(from, to);
        slices.iter().flat_map(|slice| slice.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
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
    fn batches_are_known_by_where_they_end_and_by_the_bytes_they_came_in() {
        let mut rows = Rows::default();
        rows.append(numbers(0..3));
        let came = Bytes::from_static(b"as it came");
        rows.append(Arrived { batch: numbers(3..7), ipc: Some(came.clone()) });
        for (offset, end) in [(0, Some(3)), (3, Some(3)), (4, Some(7)), (7, Some(7)), (8, None)] {
            assert_eq!(rows.first_batch_end(offset), end, "from {offset}");
        }
        for (from, to, ipc) in
            [(3, 7, Some(&came)), (0, 3, None), (3, 6, None), (4, 7, None), (0, 7, None), (7, 7, None)]
        {
            assert_eq!(rows.ipc_of(from, to).as_ref(), ipc, "{from}..{to}");
        }
    }

    #[test]
    fn a_shared_dictionary_is_counted_once_and_until_its_last_batch_goes() {
        let values = StringArray::from(vec!["a value long enough to be noticed in the count"; 100]);
        let mut rows = Rows::default();
        let first = rows.cost(&texts(&values, vec![0, 1, 2]));
        rows.append(texts(&values, vec![0, 1, 2]));
        assert_eq!(rows.bytes(), first);
        let second = rows.cost(&texts(&values, vec![3, 4, 5]));
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
        assert!(rows.cost(&parent) >= 800_000);
        assert!(rows.cost(&parent.slice(50, 10)) < 1_000);
        assert_eq!(rows.cost(&parent.slice(50, 0)), 0);
    }
}
