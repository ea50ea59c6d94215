//! Finds the columns of a block, and proves them. Layout: see [`super::write`]; what makes rows of them is [`super::join`].
//!
//! Proving and reading walk the block the same way; proving only looks at what could make reading fail or lie: lengths,
//! counts, texts that are no UTF-8, places of texts that are not there.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};

use super::numbers::Numbers;
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
pub(super) struct Head {
    pub rows: usize,
    /// Rows of each run.
    pub runs: Vec<u32>,
}

/// A column that was found, not read.
pub(super) struct Found<'a> {
    data_type: &'a DataType,
    nullable: bool,
    pub by_run: bool,
    /// Rows, or runs.
    count: usize,
    pub nulls: Option<&'a [u8]>,
    pub body: Body<'a>,
}

pub(super) enum Body<'a> {
    Ipc(&'a [u8]),
    Integers(Numbers<'a>),
    Floats(&'a [u8]),
    Decimals(f64, Numbers<'a>),
    Texts { lengths: Numbers<'a>, bytes: &'a [u8], keys: Numbers<'a> },
}

/// A block whose columns were found, not read.
pub(super) struct Block<'a> {
    pub head: Head,
    pub columns: Vec<Found<'a>>,
}

impl<'a> Block<'a> {
    pub fn find(bytes: &'a [u8], schema: &'a SchemaRef) -> Result<Block<'a>, String> {
        let (head, columns) = find(bytes, schema)?;
        Ok(Block { head, columns })
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.head.rows
    }
}

/// Looks at the whole block; gives its rows.
pub(super) fn prove(bytes: &[u8], schema: &SchemaRef) -> Result<usize, String> {
    let (head, columns) = find(bytes, schema)?;
    for column in &columns {
        column.prove()?;
    }
    Ok(head.rows)
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
    pub fn texts_max(&self) -> u64 {
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

    pub fn read_ipc(&self, stream: &[u8]) -> Result<ArrayRef, String> {
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
