//! Proves a block and gives its rows back. Layout: see [`super::write`].
//!
//! Proving and reading walk the block the same way; proving only looks at what could make reading fail or lie: lengths,
//! counts, texts that are no UTF-8, places of texts that are not there.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, DictionaryArray, Float64Array, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowDictionaryKeyType, DataType, Field, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::numbers::{Integer, Numbers};
use super::{BLOCK_ROWS_MAX, BY_RUN, Form, HAS_NULLS, MAGIC, columns_digest};
use crate::delivery::encoding::arrow_ipc::read_stream;

/// The bytes of a block that were not read yet.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("it is cut off")?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn count(&mut self) -> Result<usize, String> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }
}

/// What a block says before its columns.
struct Head {
    rows: usize,
    /// Rows of each run.
    runs: Vec<u32>,
}

/// A column that was found, not read.
struct Found<'a> {
    data_type: &'a DataType,
    nullable: bool,
    by_run: bool,
    /// Rows, or runs.
    count: usize,
    nulls: Option<&'a [u8]>,
    body: Body<'a>,
}

enum Body<'a> {
    Ipc(&'a [u8]),
    Integers(Numbers<'a>),
    Floats(&'a [u8]),
    Decimals(f64, Numbers<'a>),
    Texts { lengths: Numbers<'a>, bytes: &'a [u8], keys: Numbers<'a> },
}

/// Looks at the whole block; gives its rows.
pub(super) fn prove(bytes: &[u8], schema: &SchemaRef) -> Result<usize, String> {
    let (head, columns) = find(bytes, schema)?;
    for column in &columns {
        column.prove()?;
    }
    Ok(head.rows)
}

/// The rows of a block.
pub(super) fn rows(bytes: &[u8], schema: &SchemaRef) -> Result<RecordBatch, String> {
    let (head, columns) = find(bytes, schema)?;
    let columns = columns.iter().map(|column| column.read(&head)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(head.rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| error.to_string())
}

fn find<'a>(bytes: &'a [u8], schema: &'a SchemaRef) -> Result<(Head, Vec<Found<'a>>), String> {
    let mut input = Input(bytes);
    if input.array()? != MAGIC {
        return Err("it is no block, or of another version".to_owned());
    }
    let (rows, run_count) = (input.count()?, input.count()?);
    if rows > BLOCK_ROWS_MAX || run_count > rows {
        return Err(format!("{rows} rows in {run_count} runs"));
    }
    if u64::from_le_bytes(input.array()?) != columns_digest(schema) {
        return Err("its columns are others".to_owned());
    }
    let runs: Vec<u32> = Numbers::take(&mut input, run_count)?.to_vec();
    let together: u64 = runs.iter().map(|rows| u64::from(*rows)).sum();
    if run_count > 0 && together != rows as u64 {
        return Err(format!("{rows} rows, its runs have {together}"));
    }
    let head = Head { rows, runs };
    let columns = schema.fields().iter().map(|field| Found::take(&mut input, field, &head));
    let columns = columns.collect::<Result<Vec<_>, String>>()?;
    match input.0.is_empty() {
        true => Ok((head, columns)),
        false => Err(format!("{} bytes more than its columns", input.0.len())),
    }
}

impl<'a> Found<'a> {
    fn take(input: &mut Input<'a>, field: &'a Field, head: &Head) -> Result<Found<'a>, String> {
        let [form] = input.array()?;
        let by_run = form & BY_RUN != 0;
        let count = if by_run { head.runs.len() } else { head.rows };
        if by_run && head.runs.is_empty() && head.rows > 0 {
            return Err("a column by run without runs".to_owned());
        }
        let nulls = match form & HAS_NULLS != 0 {
            true => Some(input.bytes(count.div_ceil(8))?),
            false => None,
        };
        let form = Form::of(form & !(BY_RUN | HAS_NULLS)).ok_or_else(|| format!("{form} is no form of a column"))?;
        let body = match form {
            Form::Ipc => {
                let length = input.count()?;
                Body::Ipc(input.bytes(length)?)
            }
            Form::Integers => Body::Integers(Numbers::take(input, count)?),
            Form::Floats => Body::Floats(input.bytes(count * size_of::<f64>())?),
            Form::Decimals => {
                let [digits] = input.array()?;
                Body::Decimals(10_f64.powi(i32::from(digits)), Numbers::take(input, count)?)
            }
            Form::Texts => {
                let texts = input.count()?;
                // A text takes no byte if it is empty, but then there is one such.
                if texts > count {
                    return Err(format!("{texts} texts for {count} values"));
                }
                let lengths = Numbers::take(input, texts)?;
                let together = lengths.to_vec::<u32>().iter().map(|length| u64::from(*length)).sum::<u64>();
                let bytes = input.bytes(usize::try_from(together).map_err(|_| "more texts than memory")?)?;
                Body::Texts { lengths, bytes, keys: Numbers::take(input, count)? }
            }
        };
        let found = Found { data_type: field.data_type(), nullable: field.is_nullable(), by_run, count, nulls, body };
        match found.fits() {
            true => Ok(found),
            false => Err(format!("{} is not written as {form:?}", field.data_type())),
        }
    }

    /// How many texts the keys of its type can tell apart.
    fn texts_max(&self) -> u64 {
        match self.data_type {
            DataType::Dictionary(key, _) => match key.as_ref() {
                DataType::Int8 => i8::MAX as u64 + 1,
                DataType::Int16 => i16::MAX as u64 + 1,
                DataType::UInt8 => u8::MAX as u64 + 1,
                DataType::UInt16 => u16::MAX as u64 + 1,
                // A block has fewer rows than any wider type has numbers.
                _ => u64::MAX,
            },
            _ => 0,
        }
    }

    fn fits(&self) -> bool {
        match (&self.body, self.data_type) {
            (Body::Ipc(_), _) => true,
            (Body::Integers(_), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => true,
            (Body::Integers(_), DataType::Timestamp(TimeUnit::Second, _)) => true,
            (Body::Floats(_) | Body::Decimals(..), DataType::Float64) => true,
            (Body::Texts { .. }, DataType::Dictionary(_, texts)) => **texts == DataType::Utf8,
            _ => false,
        }
    }

    fn prove(&self) -> Result<(), String> {
        if self.nulls.is_some() && !self.nullable {
            return Err("nulls in a column that has none".to_owned());
        }
        match &self.body {
            Body::Ipc(stream) => self.read_ipc(stream).map(drop),
            Body::Integers(_) | Body::Floats(_) | Body::Decimals(..) => Ok(()),
            Body::Texts { lengths, bytes, keys } => {
                let texts = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
                let mut end = 0;
                let lengths: Vec<u32> = lengths.to_vec();
                if !lengths.iter().all(|length| {
                    end += *length as usize;
                    texts.is_char_boundary(end)
                }) {
                    return Err("a text ends within a character".to_owned());
                }
                // Where every value is null there is no text, and what lies below them is 0.
                let texts = (lengths.len() as u64).max(u64::from(self.nulls.is_some())).min(self.texts_max());
                match keys.to_vec::<u64>().into_iter().max() {
                    Some(last) if last >= texts => Err(format!("text {last} of {texts}")),
                    _ => Ok(()),
                }
            }
        }
    }

    fn read(&self, head: &Head) -> Result<ArrayRef, String> {
        let runs = self.by_run.then_some(head.runs.as_slice());
        let nulls = self.nulls.map(|bits| {
            let bits = BooleanBuffer::new(Buffer::from(bits), 0, self.count);
            NullBuffer::new(match runs {
                None => bits,
                Some(runs) => {
                    bits.iter().zip(runs).flat_map(|(bit, rows)| std::iter::repeat_n(bit, *rows as usize)).collect()
                }
            })
        });
        let rows = head.rows;
        Ok(match (&self.body, self.data_type) {
            (Body::Integers(numbers), DataType::Int8) => Arc::new(integers::<Int8Type>(numbers, runs, rows, nulls)?),
            (Body::Integers(numbers), DataType::Int16) => Arc::new(integers::<Int16Type>(numbers, runs, rows, nulls)?),
            (Body::Integers(numbers), DataType::Int32) => Arc::new(integers::<Int32Type>(numbers, runs, rows, nulls)?),
            (Body::Integers(numbers), DataType::Int64) => Arc::new(integers::<Int64Type>(numbers, runs, rows, nulls)?),
            (Body::Integers(numbers), DataType::Timestamp(TimeUnit::Second, zone)) => {
                let values = ScalarBuffer::from(spread(numbers.to_vec(), runs, rows));
                let times = PrimitiveArray::<TimestampSecondType>::try_new(values, nulls);
                Arc::new(times.map_err(|error| error.to_string())?.with_timezone_opt(zone.clone()))
            }
            (Body::Floats(bytes), _) => {
                let values = bytes.as_chunks::<8>().0.iter().map(|bits| f64::from_le_bytes(*bits)).collect();
                float_array(spread(values, runs, rows), nulls)?
            }
            (Body::Decimals(scale, numbers), _) => {
                let values = numbers.map(|number: i32| f64::from(number) / scale);
                float_array(spread(values, runs, rows), nulls)?
            }
            (Body::Texts { lengths, bytes, keys }, DataType::Dictionary(key, _)) => {
                let lengths = lengths.to_vec::<u32>().into_iter().map(|length| length as usize);
                let texts = StringArray::try_new(OffsetBuffer::from_lengths(lengths), Buffer::from(*bytes), None);
                let texts = texts.map_err(|error| error.to_string())?;
                match key.as_ref() {
                    DataType::Int8 => dictionary::<Int8Type>(keys, texts, runs, rows, nulls)?,
                    DataType::Int16 => dictionary::<Int16Type>(keys, texts, runs, rows, nulls)?,
                    DataType::Int32 => dictionary::<Int32Type>(keys, texts, runs, rows, nulls)?,
                    DataType::Int64 => dictionary::<Int64Type>(keys, texts, runs, rows, nulls)?,
                    DataType::UInt8 => dictionary::<UInt8Type>(keys, texts, runs, rows, nulls)?,
                    DataType::UInt16 => dictionary::<UInt16Type>(keys, texts, runs, rows, nulls)?,
                    DataType::UInt32 => dictionary::<UInt32Type>(keys, texts, runs, rows, nulls)?,
                    DataType::UInt64 => dictionary::<UInt64Type>(keys, texts, runs, rows, nulls)?,
                    other => return Err(format!("a dictionary with keys of {other}")),
                }
            }
            (Body::Ipc(stream), _) => {
                let values = self.read_ipc(stream)?;
                match runs {
                    None => values,
                    Some(runs) => {
                        let places = spread((0..runs.len() as u32).collect(), Some(runs), rows);
                        take(&values, &PrimitiveArray::<UInt32Type>::from(places), None)
                            .map_err(|error| error.to_string())?
                    }
                }
            }
            (_, data_type) => return Err(format!("{data_type} in a form that is not its own")),
        })
    }

    fn read_ipc(&self, stream: &[u8]) -> Result<ArrayRef, String> {
        let (_, batches) = read_stream(stream).map_err(|error| error.to_string())?;
        match batches.as_slice() {
            [batch] if batch.num_columns() == 1 && batch.num_rows() == self.count => {
                let column = batch.column(0);
                match column.data_type() == self.data_type && (self.nullable || column.null_count() == 0) {
                    true => Ok(Arc::clone(column)),
                    false => Err(format!("{} in Arrow IPC where {} belongs", column.data_type(), self.data_type)),
                }
            }
            _ => Err("a column in Arrow IPC with other rows".to_owned()),
        }
    }
}

/// A value for each row, where they come by run.
fn spread<T: Clone>(values: Vec<T>, runs: Option<&[u32]>, rows: usize) -> Vec<T> {
    let Some(runs) = runs else { return values };
    let mut spread = Vec::with_capacity(rows);
    for (value, count) in values.into_iter().zip(runs) {
        spread.resize(spread.len() + *count as usize, value);
    }
    spread
}

fn integers<T: ArrowPrimitiveType>(
    numbers: &Numbers<'_>,
    runs: Option<&[u32]>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<PrimitiveArray<T>, String>
where
    T::Native: Integer,
{
    let values: Vec<T::Native> = spread(numbers.to_vec(), runs, rows);
    PrimitiveArray::try_new(ScalarBuffer::from(values), nulls).map_err(|error| error.to_string())
}

fn float_array(values: Vec<f64>, nulls: Option<NullBuffer>) -> Result<ArrayRef, String> {
    Ok(Arc::new(Float64Array::try_new(values.into(), nulls).map_err(|error| error.to_string())?))
}

fn dictionary<K: ArrowDictionaryKeyType>(
    keys: &Numbers<'_>,
    texts: StringArray,
    runs: Option<&[u32]>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, String>
where
    K::Native: Integer,
{
    let keys: PrimitiveArray<K> = integers(keys, runs, rows, nulls)?;
    // Looks at every key again: cheap beside what a key past the end would do.
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(texts)).map_err(|error| error.to_string())?))
}
