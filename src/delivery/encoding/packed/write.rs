//! Makes a block.
//!
//! Layout: [`MAGIC`], rows (u32), runs (u32), digest of the columns (u64), the rows of each run as
//! [`numbers`](super::numbers), then every column: its form with flags (u8), with nulls the validity bits of its values
//! (one bit each, least significant first), then what its form says. All numbers begin with their least significant byte.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray,
    downcast_dictionary_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, DataType, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema,
    TimeUnit, TimestampSecondType,
};
use arrow::error::ArrowError;
use std::sync::Arc;

use super::numbers::{self, Integer};
use super::{BLOCK_ROWS_MAX, BY_RUN, Column, Form, HAS_NULLS, MAGIC, Placed, RowsByRun, columns_digest};
use crate::delivery::encoding::arrow_ipc::write_batch;

/// Decimal digits behind the point that are tried: measurements have one, places six.
const SCALES: [(u8, f64); 2] = [(1, 10.0), (6, 1e6)];

pub(super) fn block(rows: &RowsByRun) -> Result<Vec<u8>, ArrowError> {
    if rows.rows > BLOCK_ROWS_MAX {
        let message = format!("{} rows for a block; at most {BLOCK_ROWS_MAX} fit", rows.rows);
        return Err(ArrowError::InvalidArgumentError(message));
    }
    // About what a row takes; a vector that has to grow now and then is no harm.
    let mut out = Vec::with_capacity(1024 + rows.rows * 12 + rows.runs.len() * 64);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(rows.rows as u32).to_le_bytes());
    out.extend_from_slice(&(rows.runs.len() as u32).to_le_bytes());
    out.extend_from_slice(&columns_digest(&rows.schema).to_le_bytes());
    numbers::write(&rows.runs, None, &mut out);
    for (place, column) in rows.columns.iter().enumerate() {
        match column {
            Column::ByRow(values) => write_column(values, 0, &rows.schema, place, &mut out)?,
            Column::ByRun(values) => write_column(values, BY_RUN, &rows.schema, place, &mut out)?,
            Column::ByPlace(placed) if write_placed(placed, &mut out) => {}
            Column::ByPlace(placed) => write_column(&placed.look_up()?, 0, &rows.schema, place, &mut out)?,
        }
    }
    Ok(out)
}

/// Writes numbers without looking them up; false, having written nothing, if they have no form for it.
///
/// Only the part of the table that some row has is looked at: between its ends may lie numbers that none has, and if one
/// of those does not fit a form that the others would, they are looked up after all.
fn write_placed(placed: &Placed, out: &mut Vec<u8>) -> bool {
    let none = placed.table.len();
    let there = placed.places.iter().map(|place| usize::from(*place)).filter(|place| *place < none);
    let (first, last) = there.fold((none, 0), |(first, last), place| (first.min(place), last.max(place)));
    if first == none {
        return false;
    }
    let table = placed.table.slice(first, last - first + 1);
    let (form, digits, numbers) = match table.data_type() {
        DataType::Float64 => {
            let values = table.as_primitive::<Float64Type>().values();
            let whole = |(digits, scale): (u8, f64)| Some((digits, whole_numbers(values, scale)?));
            let Some((digits, whole)) = SCALES.into_iter().find_map(whole) else { return false };
            (Form::Decimals, Some(digits), whole.into_iter().map(i64::from).collect::<Vec<i64>>())
        }
        DataType::Int16 => (Form::Integers, None, widened::<Int16Type>(&table)),
        DataType::Int64 => (Form::Integers, None, widened::<Int64Type>(&table)),
        DataType::Timestamp(TimeUnit::Second, _) => (Form::Integers, None, widened::<TimestampSecondType>(&table)),
        _ => return false,
    };
    match placed.places.iter().any(|place| usize::from(*place) >= none) {
        false => out.push(form as u8),
        true => {
            out.push(form as u8 | HAS_NULLS);
            let count = placed.places.len();
            let bits = BooleanBuffer::collect_bool(count, |row| usize::from(placed.places[row]) < none);
            out.extend_from_slice(&bits.inner().as_slice()[..count.div_ceil(8)]);
        }
    }
    out.extend(digits);
    // One past the end stays past it.
    numbers::write_placed(&numbers, placed.places.iter().map(|place| usize::from(*place).wrapping_sub(first)), out);
    true
}

fn widened<T: ArrowPrimitiveType>(table: &ArrayRef) -> Vec<i64>
where
    T::Native: Integer,
{
    table.as_primitive::<T>().values().iter().map(|number| number.widened()).collect()
}

fn write_column(
    values: &ArrayRef,
    flags: u8,
    schema: &Schema,
    place: usize,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    match values.data_type() {
        DataType::Int8 => integers::<Int8Type>(values, flags, out),
        DataType::Int16 => integers::<Int16Type>(values, flags, out),
        DataType::Int32 => integers::<Int32Type>(values, flags, out),
        DataType::Int64 => integers::<Int64Type>(values, flags, out),
        DataType::Timestamp(TimeUnit::Second, _) => integers::<TimestampSecondType>(values, flags, out),
        DataType::Float64 => floats(values.as_primitive(), flags, out),
        DataType::Dictionary(_, texts) if **texts == DataType::Utf8 && !has_null_texts(values) => {
            downcast_dictionary_array!(
                values => dictionary(values, flags, out),
                _ => unreachable!("its type is that of a dictionary")
            );
        }
        _ => {
            let alone = RecordBatch::try_new(Arc::new(schema.project(&[place])?), vec![Arc::clone(values)])?;
            let stream = write_batch(&alone)?;
            out.push(Form::Ipc as u8 | flags);
            out.extend_from_slice(&(stream.len() as u32).to_le_bytes());
            out.extend_from_slice(&stream);
        }
    }
    Ok(())
}

fn has_null_texts(values: &ArrayRef) -> bool {
    values.as_any_dictionary().values().null_count() > 0
}

/// The form, and which values are there.
fn head(form: Form, flags: u8, values: &dyn Array, out: &mut Vec<u8>) {
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => out.push(form as u8 | flags),
        Some(nulls) => {
            out.push(form as u8 | flags | HAS_NULLS);
            let bits = nulls.inner().sliced();
            out.extend_from_slice(&bits.as_slice()[..nulls.len().div_ceil(8)]);
        }
    }
}

fn integers<T: ArrowPrimitiveType>(values: &ArrayRef, flags: u8, out: &mut Vec<u8>)
where
    T::Native: Integer,
{
    let values: &PrimitiveArray<T> = values.as_primitive();
    head(Form::Integers, flags, values, out);
    meaningful(values, values.values(), out);
}

/// Writes the numbers of the values that are there.
fn meaningful<T: Integer>(values: &dyn Array, numbers: &[T], out: &mut Vec<u8>) {
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => numbers::write(numbers, None, out),
        Some(nulls) => numbers::write(numbers, Some(&|place| nulls.is_null(place)), out),
    }
}

fn floats(values: &PrimitiveArray<Float64Type>, flags: u8, out: &mut Vec<u8>) {
    let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
    for (digits, scale) in SCALES {
        let whole = match nulls {
            None => whole_numbers(values.values(), scale),
            Some(nulls) => {
                let shown = |(place, value): (usize, &f64)| if nulls.is_null(place) { 0.0 } else { *value };
                whole_numbers(&values.values().iter().enumerate().map(shown).collect::<Vec<_>>(), scale)
            }
        };
        if let Some(whole) = whole {
            head(Form::Decimals, flags, values, out);
            out.push(digits);
            meaningful(values, &whole, out);
            return;
        }
    }
    head(Form::Floats, flags, values, out);
    for value in values.values() {
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

/// The values as whole numbers of 1 / `scale`, if dividing these by it gives every value back to the last bit.
///
/// Rounding is done by adding a number so large that the sum has no digits behind the point left, which processors do
/// several at a time; whatever comes of values too large for it, the comparison finds.
fn whole_numbers(values: &[f64], scale: f64) -> Option<Vec<i32>> {
    const LARGE: f64 = 6_755_399_441_055_744.0;
    const AT_ONCE: usize = 512;
    let mut whole = Vec::with_capacity(values.len());
    for part in values.chunks(AT_ONCE) {
        let start = whole.len();
        // The low half of the sum's bits is the rounded number.
        whole.extend(part.iter().map(|value| (value * scale + LARGE).to_bits() as i32));
        let differs =
            |(whole, value): (&i32, &f64)| u64::from((f64::from(*whole) / scale).to_bits() != value.to_bits());
        if whole[start..].iter().zip(part).map(differs).sum::<u64>() > 0 {
            return None;
        }
    }
    Some(whole)
}

/// Texts: how many (u32), the bytes of each as numbers, all their bytes, then for each value the place of its text. Only
/// texts that some value uses, in the order of their first use.
fn dictionary<K: ArrowDictionaryKeyType>(values: &DictionaryArray<K>, flags: u8, out: &mut Vec<u8>) {
    const UNUSED: u32 = u32::MAX;
    head(Form::Texts, flags, values, out);
    let texts: &StringArray = values.values().as_string();
    let mut places = vec![UNUSED; texts.len()];
    let mut used = Vec::new();
    let keys = values.keys();
    let mut place_of = |key: usize| {
        if places[key] == UNUSED {
            places[key] = used.len() as u32;
            used.push(key);
        }
        places[key]
    };
    // Under a null lies any key at all, also one past the end.
    let keys: Vec<u32> = match keys.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => keys.values().iter().map(|key| place_of(key.as_usize())).collect(),
        Some(_) => keys.iter().map(|key| key.map_or(0, |key| place_of(key.as_usize()))).collect(),
    };
    let lengths: Vec<u32> = used.iter().map(|text| texts.value(*text).len() as u32).collect();
    out.extend_from_slice(&(used.len() as u32).to_le_bytes());
    numbers::write(&lengths, None, out);
    for text in used {
        out.extend_from_slice(texts.value(text).as_bytes());
    }
    meaningful(values, &keys, out);
}
