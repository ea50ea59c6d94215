//! What a held partition knows of its zones beside the rows, for [`Conjunction`]s: bounds of each column and counts.
//!
//! Built once, when a partition is held; about 1 to 3 bytes a row. It decides of a zone whether no row matches, every
//! row does, or each has to be looked at, and then looks. Invariant: it describes exactly the zones that it was built
//! from, which never change.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, downcast_dictionary_array};
use arrow::buffer::{BooleanBuffer, MutableBuffer, NullBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Float64Type, Int8Type, Int16Type, Int64Type, TimeUnit, TimestampSecondType,
};

use super::coded::Coded;
use super::conjunction::{Conjunction, Term, order_key};
use super::count_index::CountIndex;
use super::store::Zone;
use super::zone_rows::{ColumnOfZone, ZoneRows};

/// The zones of one partition.
#[derive(Debug)]
pub struct TypedZones {
    /// By column, then by zone; `None` for a type that is not looked at.
    bounds: Vec<Option<Vec<Bounds>>>,
    /// By column, the texts of a dictionary that all zones share.
    texts: Vec<Option<ArrayRef>>,
    /// By zone.
    counts: Vec<Option<CountIndex>>,
    /// The columns that [`CountIndex`] is about: texts, then numbers.
    counted: Option<(usize, usize)>,
    rows: Vec<usize>,
}

/// The least and greatest value of a column in a zone: by [`order_key`], as an integer, or as a dictionary key. If all
/// values are null, `low > high`.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: i64,
    high: i64,
    nulls: bool,
}

/// A term as it reads in one partition.
#[derive(Debug)]
enum Resolved {
    Number {
        column: usize,
        low: i64,
        high: i64,
    },
    /// Keys ascending.
    Keys {
        column: usize,
        keys: Vec<i64>,
    },
}

/// What the bounds say of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    NoRow,
    EveryRow,
    /// The conditions, by position, that some rows may meet and others not.
    Open(Vec<usize>),
}

/// A conjunction as it reads in one partition.
#[derive(Debug)]
pub struct ResolvedTerms<'a> {
    zones: &'a TypedZones,
    terms: Vec<Resolved>,
}

/// Conditions that have to be compared row by row, with what they are about.
type ByRow<'a, 'z> = Vec<(&'a Resolved, ColumnOfZone<'z>)>;

impl TypedZones {
    /// Reads the values of the zones once.
    pub fn of(zones: &[Zone]) -> TypedZones {
        let Some(first) = zones.first() else {
            return TypedZones { bounds: vec![], texts: vec![], counts: vec![], counted: None, rows: vec![] };
        };
        let schema = Arc::clone(first.rows.schema());
        let column = |index: usize| zones.iter().map(move |zone| zone.rows.column(index));
        let columns = 0..schema.fields().len();
        let counted = schema.index_of("parameter").ok().zip(schema.index_of("concentration").ok());
        let counts = zones.iter().map(|zone| {
            let (texts, numbers) = counted?;
            CountIndex::of(&zone.rows, texts, numbers)
        });
        TypedZones {
            bounds: columns.clone().map(|index| column(index).map(|column| bounds_of(&column)).collect()).collect(),
            texts: columns.map(|index| shared_texts(column(index))).collect(),
            counts: counts.collect(),
            counted,
            rows: zones.iter().map(|zone| zone.rows.len()).collect(),
        }
    }

    /// What the conjunction asks of this partition; `None` if it asks about a column that is not looked at.
    pub fn resolve(&self, conjunction: &Conjunction) -> Option<ResolvedTerms<'_>> {
        let terms = conjunction.terms.iter().map(|term| match term {
            Term::Number { column, low, high } => {
                self.bounds.get(*column)?.as_ref()?;
                Some(Resolved::Number { column: *column, low: *low, high: *high })
            }
            Term::Text { column, any_of } => {
                self.bounds.get(*column)?.as_ref()?;
                let texts = self.texts.get(*column)?.as_ref()?.as_string::<i32>();
                let mut keys: Vec<i64> = Vec::with_capacity(any_of.len());
                for text in any_of {
                    // Dictionaries come sorted from ingest; one that is not gives no wrong key, see `shared_texts`.
                    let (mut low, mut high) = (0, texts.len());
                    while low < high {
                        let middle = (low + high) / 2;
                        if texts.value(middle) < text.as_str() { low = middle + 1 } else { high = middle }
                    }
                    if low < texts.len() && texts.value(low) == text {
                        keys.push(low as i64);
                    }
                }
                keys.sort_unstable();
                Some(Resolved::Keys { column: *column, keys })
            }
        });
        let terms = terms.collect::<Option<Vec<_>>>()?;
        Some(ResolvedTerms { zones: self, terms })
    }

    /// What the counts take; the rest is small.
    pub fn memory_bytes(&self) -> usize {
        self.counts.iter().flatten().map(CountIndex::memory_bytes).sum()
    }

    /// Zones described.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl ResolvedTerms<'_> {
    /// What is known of a zone without its rows. `zone` must be one of those described.
    pub fn verdict(&self, zone: usize) -> Verdict {
        if self.zones.rows[zone] == 0 {
            return Verdict::NoRow;
        }
        let mut open = Vec::new();
        for (position, term) in self.terms.iter().enumerate() {
            let (column, Some((low, high))) = (term.column(), term.range()) else { return Verdict::NoRow };
            // `resolve` let only columns with bounds through.
            let Some(bounds) = self.zones.bounds[column].as_ref().map(|bounds| bounds[zone]) else {
                open.push(position);
                continue;
            };
            if bounds.high < low || high < bounds.low || bounds.low > bounds.high {
                return Verdict::NoRow;
            }
            let inside = match term {
                Resolved::Number { .. } => low <= bounds.low && bounds.high <= high,
                // Between two keys that are meant may lie some that are not.
                Resolved::Keys { keys, .. } => bounds.low == bounds.high && keys.binary_search(&bounds.low).is_ok(),
            };
            if !inside || bounds.nulls {
                open.push(position);
            }
        }
        if open.is_empty() { Verdict::EveryRow } else { Verdict::Open(open) }
    }

    /// The matching rows of a zone from its index; `None` if the index does not know.
    pub fn count(&self, zone: usize, rows: &ZoneRows, open: &[usize]) -> Option<u64> {
        let (texts, numbers) = self.zones.counted?;
        let index = self.zones.counts[zone].as_ref()?;
        let (mut keys, mut codes) = (None, None);
        for position in open {
            match &self.terms[*position] {
                Resolved::Keys { column, keys: wanted } if *column == texts => keys = Some(wanted.as_slice()),
                term @ Resolved::Number { column, .. } if *column == numbers => {
                    let ColumnOfZone::Coded(coded, _) = rows.column(numbers) else { return None };
                    codes = Some(term.codes(coded)?);
                }
                _ => return None,
            }
        }
        index.count(keys, codes.as_ref())
    }

    /// Which rows of a zone meet the open conditions. `None` for a type that is not compared here.
    pub fn mask(&self, rows: &ZoneRows, open: &[usize]) -> Option<BooleanBuffer> {
        let (spans, by_row) = self.spans(rows, open)?;
        let mut mask: Option<BooleanBuffer> = None;
        for (term, column) in by_row {
            let own = match column {
                ColumnOfZone::Nothing => return None,
                ColumnOfZone::Coded(coded, place) => {
                    let codes = term.codes(coded)?;
                    let mut words = vec![0u64; rows.len().div_ceil(64)];
                    for span in &spans {
                        let span = place.start + span.start..place.start + span.end;
                        coded.mark(span, &codes, place.start, &mut words);
                    }
                    BooleanBuffer::new(words.into(), 0, rows.len())
                }
                ColumnOfZone::Rows(values) | ColumnOfZone::Runs(values) => {
                    let own = term.mask(&values)?;
                    if spans_all(&spans, rows.len()) { own } else { &own & &bits_of_spans(&spans, rows.len()) }
                }
            };
            mask = Some(match mask {
                None => own,
                Some(before) => &before & &own,
            });
        }
        Some(mask.unwrap_or_else(|| bits_of_spans(&spans, rows.len())))
    }

    /// How many rows of a zone meet the open conditions: as many as [`ResolvedTerms::mask`] has bits, often without
    /// making them.
    pub fn count_by_comparing(&self, rows: &ZoneRows, open: &[usize]) -> Option<u64> {
        let (spans, by_row) = self.spans(rows, open)?;
        match by_row.as_slice() {
            [] => Some(spans.iter().map(|span| span.len() as u64).sum()),
            [(term, ColumnOfZone::Coded(coded, place))] => {
                let codes = term.codes(coded)?;
                let count = |span: &Range<usize>| coded.count(place.start + span.start..place.start + span.end, &codes);
                Some(spans.iter().map(count).sum())
            }
            _ => self.mask(rows, open).map(|mask| mask.count_set_bits() as u64),
        }
    }

    /// The rows that meet the conditions on columns that are kept by run: spans that do not touch, ascending. And the
    /// conditions that are left. In a partition's order a parameter's rows stand together, so there are few spans, and
    /// what lies outside of them is not looked at.
    fn spans<'z>(&self, rows: &'z ZoneRows, open: &[usize]) -> Option<(Vec<Range<usize>>, ByRow<'_, 'z>)> {
        let mut met: Option<BooleanBuffer> = None;
        let mut by_row = Vec::new();
        for position in open {
            let term = &self.terms[*position];
            match rows.column(term.column()) {
                ColumnOfZone::Runs(values) => {
                    let own = term.mask(&values)?;
                    met = Some(match met {
                        None => own,
                        Some(before) => &before & &own,
                    });
                }
                column => by_row.push((term, column)),
            }
        }
        let Some(met) = met else { return Some((std::iter::once(0..rows.len()).collect(), by_row)) };
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (is_met, run) in met.iter().zip(rows.rows_of_runs()) {
            match spans.last_mut() {
                _ if !is_met => {}
                Some(last) if last.end == run.start => last.end = run.end,
                _ => spans.push(run),
            }
        }
        Some((spans, by_row))
    }
}

fn spans_all(spans: &[Range<usize>], rows: usize) -> bool {
    matches!(spans, [only] if only.len() == rows)
}

fn bits_of_spans(spans: &[Range<usize>], rows: usize) -> BooleanBuffer {
    let mut bits = BooleanBufferBuilder::new(rows);
    for span in spans {
        bits.append_n(span.start - bits.len(), false);
        bits.append_n(span.len(), true);
    }
    bits.append_n(rows - bits.len(), false);
    bits.finish()
}

impl Resolved {
    fn column(&self) -> usize {
        match self {
            Resolved::Number { column, .. } | Resolved::Keys { column, .. } => *column,
        }
    }

    /// From the least to the greatest that may match; `None` if nothing does.
    fn range(&self) -> Option<(i64, i64)> {
        match self {
            Resolved::Number { low, high, .. } => (low <= high).then_some((*low, *high)),
            Resolved::Keys { keys, .. } => Some((*keys.first()?, *keys.last()?)),
        }
    }

    /// The codes of the values that are meant; `None` for texts, which have none.
    fn codes(&self, coded: &Coded) -> Option<Range<usize>> {
        match self {
            Resolved::Number { low, high, .. } => Some(coded.codes_between(*low, *high)),
            Resolved::Keys { .. } => None,
        }
    }

    fn mask(&self, column: &ArrayRef) -> Option<BooleanBuffer> {
        let values = match self {
            Resolved::Keys { keys, .. } => key_mask(column, keys)?,
            Resolved::Number { low, high, .. } => {
                let within = |value: i64| (*low <= value) & (value <= *high);
                match column.data_type() {
                    DataType::Float64 => {
                        bits(column.as_primitive::<Float64Type>().values(), |value| within(order_key(value)))
                    }
                    DataType::Int64 => bits(column.as_primitive::<Int64Type>().values(), within),
                    DataType::Timestamp(TimeUnit::Second, _) => {
                        bits(column.as_primitive::<TimestampSecondType>().values(), within)
                    }
                    DataType::Int16 => {
                        bits(column.as_primitive::<Int16Type>().values(), |value| within(i64::from(value)))
                    }
                    DataType::Int8 => {
                        bits(column.as_primitive::<Int8Type>().values(), |value| within(i64::from(value)))
                    }
                    _ => return None,
                }
            }
        };
        Some(match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            Some(nulls) => &values & nulls.inner(),
            None => values,
        })
    }
}

fn key_mask(column: &ArrayRef, wanted: &[i64]) -> Option<BooleanBuffer> {
    downcast_dictionary_array!(
        column => Some(key_bits(column.keys().values(), wanted)),
        _ => None
    )
}

fn key_bits<K: ArrowNativeType>(keys: &[K], wanted: &[i64]) -> BooleanBuffer {
    match wanted {
        [] => BooleanBuffer::new_unset(keys.len()),
        // A key that the type cannot hold occurs in no row.
        [one] => match K::from_usize(*one as usize) {
            Some(one) => bits(keys, |key| key == one),
            None => BooleanBuffer::new_unset(keys.len()),
        },
        many => bits(keys, |key| many.binary_search(&(key.as_usize() as i64)).is_ok()),
    }
}

/// A bit for each value, 64 at a time: the inner loop has no branch and no bound to check.
fn bits<T: Copy>(values: &[T], is_match: impl Fn(T) -> bool) -> BooleanBuffer {
    let mut buffer = MutableBuffer::with_capacity(values.len().div_ceil(64) * 8);
    for chunk in values.chunks(64) {
        let word = chunk.iter().enumerate().fold(0u64, |word, (bit, value)| word | u64::from(is_match(*value)) << bit);
        buffer.push(word);
    }
    BooleanBuffer::new(buffer.into(), 0, values.len())
}

fn bounds_of(column: &ColumnOfZone<'_>) -> Option<Bounds> {
    match column {
        ColumnOfZone::Nothing => None,
        ColumnOfZone::Rows(values) | ColumnOfZone::Runs(values) => bounds_of_values(values),
        ColumnOfZone::Coded(coded, rows) => {
            let bounds = coded.bounds(rows.clone());
            Some(Bounds { low: bounds.0, high: bounds.1, nulls: bounds.2 })
        }
    }
}

fn bounds_of_values(column: &ArrayRef) -> Option<Bounds> {
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
    let range = match column.data_type() {
        DataType::Float64 => range(column.as_primitive::<Float64Type>().values(), nulls, order_key),
        DataType::Int64 => range(column.as_primitive::<Int64Type>().values(), nulls, |value| value),
        DataType::Int16 => range(column.as_primitive::<Int16Type>().values(), nulls, i64::from),
        DataType::Int8 => range(column.as_primitive::<Int8Type>().values(), nulls, i64::from),
        DataType::Timestamp(TimeUnit::Second, _) => {
            range(column.as_primitive::<TimestampSecondType>().values(), nulls, |value| value)
        }
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => key_range(column)?,
        _ => return None,
    };
    Some(Bounds { low: range.0, high: range.1, nulls: nulls.is_some() })
}

fn range<T: Copy>(values: &[T], nulls: Option<&NullBuffer>, key: impl Fn(T) -> i64) -> (i64, i64) {
    let wider = |(low, high): (i64, i64), value: T| (low.min(key(value)), high.max(key(value)));
    let nothing = (i64::MAX, i64::MIN);
    match nulls {
        None => values.iter().fold(nothing, |range, value| wider(range, *value)),
        Some(nulls) => nulls.valid_indices().fold(nothing, |range, row| wider(range, values[row])),
    }
}

fn key_range(column: &ArrayRef) -> Option<(i64, i64)> {
    downcast_dictionary_array!(
        column => Some(range(column.keys().values(), column.nulls().filter(|nulls| nulls.null_count() > 0), |key| key.as_usize() as i64)),
        _ => None
    )
}

/// The texts behind a column, if all zones share them, in strictly ascending order and without null: then a text has
/// one key at most, and it is found by halving.
fn shared_texts<'a>(mut column: impl Iterator<Item = ColumnOfZone<'a>>) -> Option<ArrayRef> {
    let first = column.next()?.into_values()?;
    let first = first.as_any_dictionary_opt()?.values();
    let texts = first.as_string_opt::<i32>()?;
    let ascending = (1..texts.len()).all(|index| texts.value(index - 1) < texts.value(index));
    let shared = column.all(|other| {
        let Some(other) = other.into_values() else { return false };
        other.as_any_dictionary_opt().is_some_and(|other| {
            let (a, b) = (first.as_string::<i32>(), other.values().as_string_opt::<i32>());
            b.is_some_and(|b| a.values().ptr_eq(b.values()) && a.offsets() == b.offsets())
        })
    });
    (ascending && shared && texts.null_count() == 0).then(|| Arc::clone(first))
}
