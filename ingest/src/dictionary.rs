//! Texts to numbers, and numbers back to Arrow dictionaries in one canonical form.
//!
//! Canonical: values sorted by their bytes, each once, none unused. So a partition's dictionaries depend on its rows
//! alone, not on the order in which files were read or on what Parquet made of them.

use std::sync::Arc;

use arrow::array::{Array, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use xxhash_rust::xxh3::xxh3_64;

const EMPTY: u32 = u32::MAX;

/// Gives each distinct text a number, counted from 0. Open addressing over one arena: a lookup touches the table once
/// and compares once, and a text that repeats the one before it is not even hashed.
pub(crate) struct Interner {
    arena: Vec<u8>,
    /// Where each text ends in the arena; it starts where the one before ends.
    ends: Vec<usize>,
    hashes: Vec<u64>,
    /// Ids, at most half full; the length is a power of two.
    table: Vec<u32>,
    last: u32,
}

impl Interner {
    pub(crate) fn new() -> Interner {
        Interner { arena: Vec::new(), ends: Vec::new(), hashes: Vec::new(), table: vec![EMPTY; 64], last: EMPTY }
    }

    pub(crate) fn intern(&mut self, text: &[u8]) -> u32 {
        if self.last != EMPTY && self.text(self.last) == text {
            return self.last;
        }
        let hash = xxh3_64(text);
        let mask = self.table.len() - 1;
        let mut slot = hash as usize & mask;
        self.last = loop {
            match self.table[slot] {
                EMPTY => break self.insert(text, hash, slot),
                id if self.hashes[id as usize] == hash && self.text(id) == text => break id,
                _ => slot = (slot + 1) & mask,
            }
        };
        self.last
    }

    fn text(&self, id: u32) -> &[u8] {
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] };
        &self.arena[start..self.ends[id as usize]]
    }

    fn insert(&mut self, text: &[u8], hash: u64, slot: usize) -> u32 {
        let id = self.ends.len() as u32;
        self.arena.extend_from_slice(text);
        self.ends.push(self.arena.len());
        self.hashes.push(hash);
        self.table[slot] = id;
        if self.ends.len() * 2 > self.table.len() {
            self.grow();
        }
        id
    }

    fn grow(&mut self) {
        let mask = self.table.len() * 2 - 1;
        self.table = vec![EMPTY; mask + 1];
        for (id, &hash) in self.hashes.iter().enumerate() {
            let mut slot = hash as usize & mask;
            while self.table[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            self.table[slot] = id as u32;
        }
    }

    /// The texts in order, and for each id the place of its text among them.
    pub(crate) fn ranked(&self) -> (StringArray, Vec<i32>) {
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.sort_unstable_by_key(|&id| self.text(id));
        let mut ranks = vec![0; order.len()];
        for (rank, &id) in order.iter().enumerate() {
            ranks[id as usize] = rank as i32;
        }
        let text = |id: &u32| std::str::from_utf8(self.text(*id)).expect("the splitter lets only UTF-8 through");
        (StringArray::from_iter_values(order.iter().map(text)), ranks)
    }
}

/// The same texts in canonical form, whatever the dictionary looked like. A null becomes an error of the caller: the
/// text columns have none.
pub(crate) fn canonical(array: &DictionaryArray<Int32Type>) -> Option<DictionaryArray<Int32Type>> {
    let values = array.values().as_any().downcast_ref::<StringArray>()?;
    if array.logical_null_count() > 0 {
        return None;
    }
    let mut used = vec![false; values.len()];
    for &key in array.keys().values() {
        *used.get_mut(usize::try_from(key).ok()?)? = true;
    }
    let mut order: Vec<usize> = (0..values.len()).filter(|&index| used[index]).collect();
    order.sort_unstable_by_key(|&index| values.value(index));
    let mut remap = vec![0; values.len()];
    let mut distinct: Vec<&str> = Vec::with_capacity(order.len());
    for index in order {
        if distinct.last() != Some(&values.value(index)) {
            distinct.push(values.value(index));
        }
        remap[index] = i32::try_from(distinct.len() - 1).ok()?;
    }
    let keys = Int32Array::from_iter_values(array.keys().values().iter().map(|&key| remap[key as usize]));
    let values = StringArray::from_iter_values(distinct);
    DictionaryArray::try_new(keys, Arc::new(values)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_a_number_and_ranks_follow_the_bytes() {
        let mut interner = Interner::new();
        let texts: Vec<String> = (0..5000).map(|i| format!("{}", (i * 7919) % 1000)).collect();
        let ids: Vec<u32> = texts.iter().map(|text| interner.intern(text.as_bytes())).collect();
        let (values, ranks) = interner.ranked();
        assert_eq!(values.len(), 1000);
        for (text, id) in texts.iter().zip(ids) {
            assert_eq!(values.value(ranks[id as usize] as usize), text);
        }
        assert!((1..values.len()).all(|i| values.value(i - 1) < values.value(i)));
        assert_eq!(Interner::new().ranked().0.len(), 0);
    }

    #[test]
    fn canonical_sorts_merges_and_drops_unused() {
        let values = StringArray::from(vec!["b", "unused", "a", "b"]);
        let array = DictionaryArray::try_new(Int32Array::from(vec![0, 2, 3]), Arc::new(values)).unwrap();
        let canonical = canonical(&array).unwrap();
        assert_eq!(canonical.keys().values(), &[1, 0, 1]);
        assert_eq!(
            canonical.values().as_any().downcast_ref::<StringArray>().unwrap(),
            &StringArray::from(vec!["a", "b"])
        );
    }
}
