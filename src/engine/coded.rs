//! A column of numbers with few distinct values, kept as one small code a row.
//!
//! Measurements are given to a tenth and times to an hour, so a day of tens of thousands of rows has some hundred
//! distinct values: a code of one or two bytes and a table say the same as eight bytes a row. The table is ascending, so
//! a range of values is a range of codes, and a row is compared by one subtraction and one comparison of small integers.
//! A row without a value has the code after the last one, which no range contains.
//!
//! Invariant: what comes out has the bits that went in, nulls included. A column that would not become smaller is not
//! coded.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Float64Type, Int16Type, Int64Type, TimeUnit, TimestampSecondType};

use super::conjunction::order_key;

/// Fewer rows a distinct value than this are not worth a table: it would take as much as the codes save.
const ROWS_PER_VALUE_MIN: usize = 4;

/// The column of a partition.
#[derive(Debug)]
pub struct Coded {
    codes: Codes,
    /// The distinct values, ascending, and a last one that stands for none.
    values: ArrayRef,
    /// Their places in the order of values: [`order_key`] or the integers themselves.
    keys: Box<[i64]>,
    nulls: bool,
}

#[derive(Debug)]
enum Codes {
    Narrow(Box<[u8]>),
    Wide(Box<[u16]>),
}

/// Runs the expression on the codes, whichever they are.
macro_rules! with_codes {
    ($codes:expr, $name:ident => $body:expr) => {
        match $codes {
            Codes::Narrow($name) => $body,
            Codes::Wide($name) => $body,
        }
    };
}

/// Runs the expression on the array in its own type; the last arm is for types that are not coded.
macro_rules! with_type {
    ($array:expr, $typed:ident => $body:expr, _ => $other:expr) => {
        match $array.data_type() {
            DataType::Float64 => {
                let $typed = $array.as_primitive::<Float64Type>();
                $body
            }
            DataType::Int64 => {
                let $typed = $array.as_primitive::<Int64Type>();
                $body
            }
            DataType::Timestamp(TimeUnit::Second, _) => {
                let $typed = $array.as_primitive::<TimestampSecondType>();
                $body
            }
            DataType::Int16 => {
                let $typed = $array.as_primitive::<Int16Type>();
                $body
            }
            _ => $other,
        }
    };
}

/// A number that can be told apart by its bits and put in order.
trait Number: Copy {
    fn bits(self) -> u64;
    fn of_bits(bits: u64) -> Self;
    fn key(self) -> i64;
}

impl Number for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn of_bits(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
    fn key(self) -> i64 {
        order_key(self)
    }
}

impl Number for i64 {
    fn bits(self) -> u64 {
        self as u64
    }
    fn of_bits(bits: u64) -> i64 {
        bits as i64
    }
    fn key(self) -> i64 {
        self
    }
}

impl Number for i16 {
    fn bits(self) -> u64 {
        i64::from(self) as u64
    }
    fn of_bits(bits: u64) -> i16 {
        bits as i16
    }
    fn key(self) -> i64 {
        i64::from(self)
    }
}

impl Coded {
    /// The column with codes; `None` if that would not pay, or for a type that is not looked at.
    pub fn of(column: &ArrayRef) -> Option<Coded> {
        with_type!(column, typed => Coded::of_numbers(typed), _ => None)
    }

    fn of_numbers<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>) -> Option<Coded>
    where
        T::Native: Number,
    {
        let value_bytes = size_of::<T::Native>();
        // A code must be smaller than the value it stands for, and one is kept for rows without a value.
        let codes_max = if value_bytes > size_of::<u16>() { usize::from(u16::MAX) } else { usize::from(u8::MAX) };
        let mut distinct = Distinct::new(codes_max.min(column.len() / ROWS_PER_VALUE_MIN));
        let mut first_codes: Vec<u16> = Vec::with_capacity(column.len());
        for (row, value) in column.values().iter().enumerate() {
            let is_null = column.is_null(row);
            first_codes.push(if is_null { u16::MAX } else { distinct.code(value.bits())? });
        }
        let mut ascending: Vec<u16> = (0..distinct.values.len() as u16).collect();
        let place = |code: &u16| {
            let bits = distinct.values[usize::from(*code)];
            // Both zeros have one key.
            (T::Native::of_bits(bits).key(), bits)
        };
        ascending.sort_unstable_by_key(place);
        let null_code = ascending.len() as u16;
        let mut rank = vec![null_code; ascending.len()];
        for (code, first_code) in (0..).zip(&ascending) {
            rank[usize::from(*first_code)] = code;
        }
        let codes = first_codes.iter().map(|code| rank.get(usize::from(*code)).copied().unwrap_or(null_code));
        let codes = match u8::try_from(null_code) {
            Ok(_) => Codes::Narrow(codes.map(|code| code as u8).collect()),
            Err(_) => Codes::Wide(codes.collect()),
        };
        let numbers = ascending.iter().map(|code| T::Native::of_bits(distinct.values[usize::from(*code)]));
        let keys = numbers.clone().map(Number::key).collect();
        let values = PrimitiveArray::<T>::from_iter_values(numbers.chain([T::Native::default()]));
        let values = Arc::new(values.with_data_type(column.data_type().clone()));
        Some(Coded { codes, values, keys, nulls: column.null_count() > 0 })
    }

    /// The codes of the values from `low` to `high`, both included, as [`super::conjunction::Term::Number`] has them.
    pub fn codes_between(&self, low: i64, high: i64) -> Range<usize> {
        let start = self.keys.partition_point(|key| *key < low);
        start..self.keys.partition_point(|key| *key <= high).max(start)
    }

    /// How many of the rows have one of the codes.
    pub fn count(&self, rows: Range<usize>, wanted: &Range<usize>) -> u64 {
        with_codes!(&self.codes, codes => count(&codes[rows], wanted))
    }

    /// Sets a bit for each row that has one of the codes: that of the first row is bit `rows.start - from` of `words`.
    /// Bits that are set stay.
    pub fn mark(&self, rows: Range<usize>, wanted: &Range<usize>, from: usize, words: &mut [u64]) {
        with_codes!(&self.codes, codes => mark(&codes[rows.clone()], wanted, rows.start - from, words));
    }

    /// The least and greatest place in the order of values among these rows, and whether some have none; where all have
    /// none, the least is above the greatest.
    pub fn bounds(&self, rows: Range<usize>) -> (i64, i64, bool) {
        let none = self.value_count();
        let (low, high, nulls) = with_codes!(&self.codes, codes => {
            codes[rows].iter().fold((none, None, false), |(low, high, nulls), code| match usize::from(*code) {
                code if code == none => (low, high, true),
                code => (code.min(low), Some(code).max(high), nulls),
            })
        });
        match high {
            Some(high) => (self.keys[low], self.keys[high], nulls),
            None => (i64::MAX, i64::MIN, nulls),
        }
    }

    /// What the codes and the table take.
    pub fn memory_bytes(&self) -> usize {
        let codes = with_codes!(&self.codes, codes => size_of_val(&**codes));
        codes + self.values.get_buffer_memory_size() + size_of_val(&*self.keys)
    }

    /// The number of distinct values.
    pub fn value_count(&self) -> usize {
        self.keys.len()
    }

    /// The code of a row; [`Coded::value_count`] for none.
    pub fn code(&self, row: usize) -> usize {
        with_codes!(&self.codes, codes => usize::from(codes[row]))
    }

    /// The distinct values, ascending.
    pub fn table(&self) -> ArrayRef {
        self.values.slice(0, self.value_count())
    }

    /// The codes of these rows.
    pub fn codes(&self, rows: Range<usize>) -> Vec<u16> {
        with_codes!(&self.codes, codes => widened(codes[rows].iter().copied()))
    }

    /// The codes of the rows at these places.
    pub fn codes_at(&self, rows: &[u32]) -> Vec<u16> {
        with_codes!(&self.codes, codes => widened(rows.iter().map(|row| codes[*row as usize])))
    }

    /// These rows in their own type.
    pub fn slice(&self, rows: Range<usize>) -> ArrayRef {
        with_codes!(&self.codes, codes => {
            let codes = &codes[rows];
            self.spell_out(codes.len(), |row| usize::from(codes[row]))
        })
    }

    /// The rows at these places in their own type.
    pub fn take(&self, rows: &[u32]) -> ArrayRef {
        with_codes!(&self.codes, codes => self.spell_out(rows.len(), |row| usize::from(codes[rows[row] as usize])))
    }

    fn spell_out(&self, rows: usize, code: impl Fn(usize) -> usize) -> ArrayRef {
        let none = self.value_count();
        let nulls = self.nulls.then(|| NullBuffer::new(BooleanBuffer::collect_bool(rows, |row| code(row) != none)));
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        with_type!(self.values, typed => {
            let table = typed.values();
            let values: Vec<_> = (0..rows).map(|row| table[code(row)]).collect();
            spelled_out(typed, values, nulls)
        }, _ => unreachable!("only the types of `of` are coded"))
    }
}

fn spelled_out<T: ArrowPrimitiveType>(
    table: &PrimitiveArray<T>,
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(table.data_type().clone()))
}

/// A code of either width.
trait Code: Copy + Into<usize> + PartialOrd {
    fn narrowed(value: usize) -> Self;
    fn minus(self, other: Self) -> Self;
}

impl Code for u8 {
    fn narrowed(value: usize) -> u8 {
        value as u8
    }
    fn minus(self, other: u8) -> u8 {
        self.wrapping_sub(other)
    }
}

impl Code for u16 {
    fn narrowed(value: usize) -> u16 {
        value as u16
    }
    fn minus(self, other: u16) -> u16 {
        self.wrapping_sub(other)
    }
}

fn widened<C: Into<u16>>(codes: impl Iterator<Item = C>) -> Vec<u16> {
    codes.map(Into::into).collect()
}

/// Whether a code is in the range: below its start the difference wraps around and is too large.
fn within<C: Code>(wanted: &Range<usize>) -> impl Fn(C) -> bool + Copy + use<C> {
    // A range has fewer codes than the type, because one stands for no value: so its length fits as well.
    let (first, length) = (C::narrowed(wanted.start), C::narrowed(wanted.len()));
    move |code| code.minus(first) < length
}

fn count<C: Code>(codes: &[C], wanted: &Range<usize>) -> u64 {
    let within = within::<C>(wanted);
    // Counters as small as these are added many at a time; a chunk never makes one overflow.
    let in_chunk = |chunk: &[C]| chunk.iter().map(|code| u8::from(within(*code))).sum::<u8>();
    codes.chunks(usize::from(u8::MAX)).map(|chunk| u64::from(in_chunk(chunk))).sum()
}

fn mark<C: Code>(codes: &[C], wanted: &Range<usize>, first_bit: usize, words: &mut [u64]) {
    let within = within::<C>(wanted);
    let bits = |codes: &[C], first_bit: usize| {
        codes.iter().enumerate().fold(0u64, |word, (bit, code)| word | u64::from(within(*code)) << (first_bit + bit))
    };
    // Up to the first whole word, then words.
    let (head, rest) = codes.split_at((first_bit.next_multiple_of(64) - first_bit).min(codes.len()));
    if !head.is_empty() {
        words[first_bit / 64] |= bits(head, first_bit % 64);
    }
    for (word, codes) in words[first_bit.div_ceil(64)..].iter_mut().zip(rest.chunks(64)) {
        *word |= bits(codes, 0);
    }
}

/// Distinct values in the order of their first appearance, found by hashing.
pub(super) struct Distinct {
    values: Vec<u64>,
    values_max: usize,
    /// By hash, then the next free: one more than the place in `values`, or 0. At most half of them are taken, so a value
    /// that is not there is seen soon; and no more than that, so that they stay in the nearest cache.
    slots: Vec<u16>,
    last: Option<(u64, u16)>,
}

impl Distinct {
    /// `values_max` fits 16 bits.
    pub(super) fn new(values_max: usize) -> Distinct {
        Distinct { values: Vec::new(), values_max, slots: vec![0; 64], last: None }
    }

    /// The place of the value; `None` if it would be one too many.
    pub(super) fn code(&mut self, bits: u64) -> Option<u16> {
        if let Some((last, code)) = self.last
            && last == bits
        {
            return Some(code);
        }
        let code = match self.find(bits) {
            Ok(code) => code,
            Err(_) if self.values.len() == self.values_max => return None,
            Err(slot) => {
                let code = self.values.len() as u16;
                self.values.push(bits);
                self.slots[slot] = code + 1;
                if self.values.len() * 2 > self.slots.len() {
                    self.grow();
                }
                code
            }
        };
        self.last = Some((bits, code));
        Some(code)
    }

    /// The values, in the order of their places.
    pub(super) fn values(&self) -> &[u64] {
        &self.values
    }

    /// The place of the value, or the slot that it would take.
    fn find(&self, bits: u64) -> Result<u16, usize> {
        // Multiplied by an odd constant without a pattern, the highest bits depend on all others. They alone: whole numbers
        // as floats differ in high bits only, and a product's low bits know nothing of those.
        let hash = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut slot = (hash >> (u64::BITS - self.slots.len().trailing_zeros())) as usize;
        loop {
            match self.slots[slot].checked_sub(1) {
                None => return Err(slot),
                Some(code) if self.values[usize::from(code)] == bits => return Ok(code),
                Some(_) => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len() * 2];
        for code in 0..self.values.len() {
            if let Err(slot) = self.find(self.values[code]) {
                self.slots[slot] = code as u16 + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int16Array, TimestampSecondArray};

    use super::*;
    use crate::delivery::encoding::packed::Placed;

    fn check(column: ArrayRef, distinct: usize) {
        let coded = Coded::of(&column).expect("few distinct values");
        assert_eq!(coded.value_count(), distinct);
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..50 {
            let start = random.usize(0..=column.len());
            let rows = start..random.usize(start..=column.len());
            let bits = |array: &ArrayRef| array.to_data();
            let look_up = |places| Placed { table: coded.table(), places }.look_up().unwrap();
            assert_eq!(bits(&coded.slice(rows.clone())), bits(&column.slice(rows.start, rows.len())));
            let places: Vec<u32> = rows.clone().map(|row| row as u32).filter(|_| random.bool()).collect();
            let taken = arrow::compute::take(&column, &arrow::array::UInt32Array::from(places.clone()), None).unwrap();
            assert_eq!(bits(&coded.take(&places)), bits(&taken));
            assert_eq!(&look_up(coded.codes_at(&places)), &taken);
            assert_eq!(&look_up(coded.codes(rows.clone())), &column.slice(rows.start, rows.len()));

            let low = random.usize(0..=distinct);
            let wanted = low..random.usize(low..=distinct);
            let expected: Vec<usize> = rows.clone().filter(|row| wanted.contains(&coded.code(*row))).collect();
            assert_eq!(coded.count(rows.clone(), &wanted), expected.len() as u64);
            let from = random.usize(0..=rows.start);
            let mut words = vec![0; (rows.end - from).div_ceil(64)];
            coded.mark(rows.clone(), &wanted, from, &mut words);
            let marked = (0..words.len() * 64).filter(|bit| words[bit / 64] >> (bit % 64) & 1 == 1);
            assert_eq!(marked.map(|bit| from + bit).collect::<Vec<_>>(), expected, "{rows:?} from {from}");
        }
    }

    #[test]
    fn numbers_come_out_as_they_went_in() {
        let odd = [0.1, -0.0, 0.0, f64::NAN, -f64::NAN, f64::INFINITY, 0.30000000000000004, 0.3, -5.0];
        let mut random = fastrand::Rng::with_seed(1);
        let picked = (0..900).map(|_| odd[random.usize(..odd.len())]).collect::<Vec<f64>>();
        check(Arc::new(Float64Array::from(picked.clone())), 9);
        let with_nulls = picked.iter().map(|value| Some(*value).filter(|_| random.u8(..) > 9));
        check(Arc::new(Float64Array::from_iter(with_nulls)), 9);
        check(Arc::new(Float64Array::from(vec![None; 12])), 0);
        // As many as one byte tells apart, beside none; and one more.
        for distinct in [255i64, 256] {
            let hours = (0..4000).map(|row| 1_597_017_600 + 3600 * (row % distinct));
            let hours = TimestampSecondArray::from_iter_values(hours).with_timezone("UTC");
            check(Arc::new(hours), distinct as usize);
        }
        check(Arc::new(Int16Array::from_iter((0..3000).map(|row| Some(row % 255 - 9).filter(|v| *v > -9)))), 254);
    }

    #[test]
    fn what_would_not_become_smaller_is_not_coded() {
        let many = Float64Array::from_iter_values((0..1000).map(f64::from));
        let small = Int16Array::from_iter_values((0..3000).map(|row| row % 256));
        let columns: [ArrayRef; 3] = [Arc::new(many), Arc::new(small), Arc::new(Float64Array::from(vec![1.0; 3]))];
        for column in columns {
            assert!(Coded::of(&column).is_none());
        }
    }

    #[test]
    fn a_range_of_values_is_a_range_of_codes() {
        let values = [-2.0, -0.0, 0.0, 0.5, 7.0].repeat(8);
        let coded = Coded::of(&(Arc::new(Float64Array::from(values)) as ArrayRef)).unwrap();
        let check = |low: f64, high: f64, expected: Range<usize>| {
            let codes = coded.codes_between(order_key(low), order_key(high));
            assert_eq!(codes.clone().collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{low} {high}: {codes:?}");
        };
        check(-2.0, 7.0, 0..5);
        check(0.0, 0.0, 1..3);
        check(-0.0, 0.4, 1..3);
        check(0.1, 0.4, 0..0);
        check(8.0, 9.0, 0..0);
        check(7.0, -2.0, 0..0);
    }
}
