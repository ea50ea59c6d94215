//! Makes rows of the columns that [`super::read`] found, of one block or of several as one batch.
//!
//! A chunk often has rows of several blocks. Its columns are made at once, each value written where it stays: to make a
//! batch of every block and put these together copies every value once more, and makes each array twice.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanBufferBuilder, DictionaryArray, Float64Array, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{
    ArrowDictionaryKeyType, DataType, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::numbers::Integer;
use super::read::{Block, Body, Found};

/// Some rows of a block.
pub(super) struct Part<'a> {
    block: &'a Block<'a>,
    rows: Range<usize>,
    /// The runs that reach into them, and of each how many of these rows.
    runs: Range<usize>,
    run_rows: Cow<'a, [u32]>,
}

impl<'a> Block<'a> {
    /// Some of its rows.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn part(&'a self, rows: Range<usize>) -> Part<'a> {
        assert!(rows.start <= rows.end && rows.end <= self.head.rows, "rows {rows:?} of {}", self.head.rows);
        let all = self.head.runs.as_slice();
        if rows == (0..self.head.rows) {
            return Part { block: self, rows, runs: 0..all.len(), run_rows: Cow::Borrowed(all) };
        }
        let (mut first, mut run_rows, mut start) = (0, Vec::new(), 0);
        for (run, count) in all.iter().enumerate() {
            let end = start + *count as usize;
            let within = rows.end.min(end).saturating_sub(rows.start.max(start));
            if within > 0 {
                first = if run_rows.is_empty() { run } else { first };
                run_rows.push(within as u32);
            }
            start = end;
        }
        Part { block: self, rows, runs: first..first + run_rows.len(), run_rows: Cow::Owned(run_rows) }
    }
}

/// The rows of a block.
pub(super) fn rows(bytes: &[u8], schema: &SchemaRef) -> Result<RecordBatch, String> {
    let block = Block::find(bytes, schema)?;
    batch(&[block.part(0..block.rows())], schema)
}

/// The rows of these parts, one after the other: each column is made at once, not put together out of batches.
pub(super) fn batch(parts: &[Part<'_>], schema: &SchemaRef) -> Result<RecordBatch, String> {
    if parts.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    }
    let rows = parts.iter().map(|part| part.rows.len()).sum();
    let columns = schema.fields().iter().enumerate().map(|(place, field)| {
        let column = JoinedColumn { parts, place, rows };
        column.read(field.data_type())
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| error.to_string())
}

/// One column of the parts of some blocks.
struct JoinedColumn<'a> {
    parts: &'a [Part<'a>],
    place: usize,
    /// Of all parts.
    rows: usize,
}

impl<'a> JoinedColumn<'a> {
    fn found(&self) -> impl Iterator<Item = (&'a Part<'a>, &'a Found<'a>)> {
        let place = self.place;
        self.parts.iter().map(move |part| (part, &part.block.columns[place]))
    }

    fn read(&self, data_type: &DataType) -> Result<ArrayRef, String> {
        if self.found().any(|(_, found)| matches!(found.body, Body::Ipc(_))) {
            return self.read_apart(data_type);
        }
        let text = |error: ArrowError| error.to_string();
        Ok(match data_type {
            DataType::Int8 => Arc::new(self.integers::<Int8Type>()?),
            DataType::Int16 => Arc::new(self.integers::<Int16Type>()?),
            DataType::Int32 => Arc::new(self.integers::<Int32Type>()?),
            DataType::Int64 => Arc::new(self.integers::<Int64Type>()?),
            DataType::Timestamp(TimeUnit::Second, zone) => {
                Arc::new(self.integers::<TimestampSecondType>()?.with_timezone_opt(zone.clone()))
            }
            DataType::Float64 => {
                let values = self.values(|found, places, out| match &found.body {
                    Body::Floats(bytes) => {
                        let bits = &bytes.as_chunks::<8>().0[places];
                        out.extend(bits.iter().map(|bits| f64::from_le_bytes(*bits)));
                    }
                    Body::Decimals(scale, numbers) => {
                        numbers.part(places).append(|number: i32| f64::from(number) / scale, out);
                    }
                    _ => {}
                });
                Arc::new(Float64Array::try_new(values.into(), self.nulls()).map_err(text)?)
            }
            DataType::Dictionary(key, _) => match key.as_ref() {
                DataType::Int8 => self.texts::<Int8Type>(data_type)?,
                DataType::Int16 => self.texts::<Int16Type>(data_type)?,
                DataType::Int32 => self.texts::<Int32Type>(data_type)?,
                DataType::Int64 => self.texts::<Int64Type>(data_type)?,
                DataType::UInt8 => self.texts::<UInt8Type>(data_type)?,
                DataType::UInt16 => self.texts::<UInt16Type>(data_type)?,
                DataType::UInt32 => self.texts::<UInt32Type>(data_type)?,
                DataType::UInt64 => self.texts::<UInt64Type>(data_type)?,
                other => return Err(format!("a dictionary with keys of {other}")),
            },
            other => return Err(format!("{other} in a form that is not its own")),
        })
    }

    /// Every part by itself, put together by Arrow.
    fn read_apart(&self, data_type: &DataType) -> Result<ArrayRef, String> {
        let arrays = self.parts.iter().zip(self.found()).map(|(part, (_, found))| match &found.body {
            Body::Ipc(stream) => {
                let values = found.read_ipc(stream)?;
                if !found.by_run {
                    return Ok(values.slice(part.rows.start, part.rows.len()));
                }
                let mut places = Vec::with_capacity(part.rows.len());
                spread((part.runs.start as u32..).zip(part.run_rows.as_ref()), &mut places);
                take(&values, &PrimitiveArray::<UInt32Type>::from(places), None).map_err(|error| error.to_string())
            }
            _ => {
                let alone = std::slice::from_ref(part);
                JoinedColumn { parts: alone, place: self.place, rows: part.rows.len() }.read(data_type)
            }
        });
        let arrays = arrays.collect::<Result<Vec<ArrayRef>, String>>()?;
        match arrays.as_slice() {
            [alone] => Ok(Arc::clone(alone)),
            _ => concat(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(|error| error.to_string()),
        }
    }

    /// A value for each row; `read` appends those of a block's column at these places.
    fn values<U: Clone>(&self, mut read: impl FnMut(&Found<'_>, Range<usize>, &mut Vec<U>)) -> Vec<U> {
        let mut values = Vec::with_capacity(self.rows);
        let mut of_runs = Vec::new();
        for (part, found) in self.found() {
            match found.by_run {
                false => read(found, part.rows.clone(), &mut values),
                true => {
                    of_runs.clear();
                    read(found, part.runs.clone(), &mut of_runs);
                    spread(of_runs.iter().cloned().zip(part.run_rows.as_ref()), &mut values);
                }
            }
        }
        values
    }

    fn integers<T: ArrowPrimitiveType>(&self) -> Result<PrimitiveArray<T>, String>
    where
        T::Native: Integer,
    {
        let values = self.values(|found, places, out| {
            if let Body::Integers(numbers) = &found.body {
                numbers.part(places).append(|number: T::Native| number, out);
            }
        });
        PrimitiveArray::try_new(values.into(), self.nulls()).map_err(|error| error.to_string())
    }

    /// The texts of all blocks one after the other, also those that stand in several: to find them out costs more than it
    /// saves.
    fn texts<K: ArrowDictionaryKeyType>(&self, data_type: &DataType) -> Result<ArrayRef, String>
    where
        K::Native: Integer,
    {
        let (mut together, mut all_lengths) = (Vec::new(), Vec::new());
        let mut texts_max = u64::MAX;
        for (_, found) in self.found() {
            if let Body::Texts { lengths, bytes, .. } = &found.body {
                together.extend_from_slice(bytes);
                lengths.append(|length: u32| length as usize, &mut all_lengths);
                texts_max = found.texts_max();
            }
        }
        if self.parts.len() > 1 && all_lengths.len() as u64 > texts_max {
            return self.read_apart(data_type);
        }
        // Each block is read once, in turn: its keys count from the first of its own texts.
        let mut texts_before = 0;
        let keys = self.values(|found, places, out| {
            if let Body::Texts { lengths, keys, .. } = &found.body {
                keys.raised(texts_before).part(places).append(|key: K::Native| key, out);
                texts_before += lengths.len() as i64;
            }
        });
        let texts = StringArray::try_new(OffsetBuffer::from_lengths(all_lengths), together.into(), None);
        let texts = Arc::new(texts.map_err(|error| error.to_string())?);
        let keys: PrimitiveArray<K> =
            PrimitiveArray::try_new(keys.into(), self.nulls()).map_err(|error| error.to_string())?;
        // Looks at every key again: cheap beside what a key past the end would do.
        Ok(Arc::new(DictionaryArray::try_new(keys, texts).map_err(|error| error.to_string())?))
    }

    /// Which values are there; `None`: all.
    fn nulls(&self) -> Option<NullBuffer> {
        if self.found().all(|(_, found)| found.nulls.is_none()) {
            return None;
        }
        let mut bits = BooleanBufferBuilder::new(self.rows);
        for (part, found) in self.found() {
            match found.nulls {
                None => bits.append_n(part.rows.len(), true),
                Some(own) if !found.by_run => bits.append_packed_range(part.rows.clone(), own),
                Some(own) => {
                    for (run, rows) in part.runs.clone().zip(part.run_rows.as_ref()) {
                        bits.append_n(*rows as usize, own[run / 8] >> (run % 8) & 1 == 1);
                    }
                }
            }
        }
        Some(NullBuffer::new(bits.finish()))
    }
}

/// Appends each value as often as it has rows.
fn spread<'a, T: Clone>(values: impl Iterator<Item = (T, &'a u32)>, out: &mut Vec<T>) {
    for (value, rows) in values {
        out.extend(std::iter::repeat_n(value, *rows as usize));
    }
}
