//! How many chunks go into one message.
//!
//! Small chunks one by one would cost a message each, and an Arrow message repeats schema and dictionaries. So chunks
//! are taken while one more of the size of the last would still fit. A chunk is never divided: one that is larger than
//! the target makes a message of its own, which `chunk_rows_max` bounds.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field};

use super::Encoding;
use crate::delivery::{Arrived, Chunk, footprint};

/// What a message aims at, in bytes of its encoding: large enough that its fixed cost does not show.
pub const MESSAGE_BYTES: u64 = 1 << 20;

/// The longest float takes 24 digits and signs, a time with its zone as many and two quotes.
const JSON_NUMBER_BYTES: f64 = 26.0;

/// A message under way: counts what it holds.
pub struct Packing {
    target_bytes: u64,
    bytes: u64,
}

impl Packing {
    /// An empty message that aims at so many bytes.
    pub fn new(target_bytes: u64) -> Packing {
        Packing { target_bytes, bytes: 0 }
    }

    /// Puts a chunk in, and says whether to ask for one more. The first always goes in: there is no message without one.
    pub fn add(&mut self, encoding: &dyn Encoding, chunk: &Chunk) -> bool {
        let own = encoding.estimate(chunk);
        self.bytes = self.bytes.saturating_add(own);
        self.bytes.saturating_add(own) <= self.target_bytes
    }

    /// About how many bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// About how many bytes these rows take as Arrow.
pub(super) fn arrow_bytes(pieces: &[Arrived]) -> u64 {
    let unread = |field: &Field| match field.data_type() {
        DataType::Dictionary(key, _) => key.primitive_width().unwrap_or(8),
        other => other.primitive_width().unwrap_or(16),
    };
    sum_over_pieces(pieces, batch_bytes, |field| unread(field) as u64)
}

/// About how many bytes a batch takes as Arrow.
pub(super) fn batch_bytes(batch: &RecordBatch) -> u64 {
    sum_over_columns(batch, |_, column| match column.as_any_dictionary_opt() {
        // The keys, and each value once; but not more values than there are rows.
        Some(dictionary) => {
            let keys = dictionary.keys().data_type().primitive_width().unwrap_or(8) as u64 * column.len() as u64;
            let values_used = dictionary.values().len().min(column.len()) as u64;
            keys + (mean_bytes(dictionary.values()) * values_used as f64).ceil() as u64
        }
        None => (mean_bytes(column) * column.len() as f64).ceil() as u64,
    })
}

/// About how many bytes these rows take as JSON: each value with quotes, name, colon and comma.
pub(super) fn json_bytes(pieces: &[Arrived]) -> u64 {
    sum_over_pieces(pieces, json_batch_bytes, |field| field.name().len() as u64 + 4 + JSON_NUMBER_BYTES as u64)
}

fn json_batch_bytes(batch: &RecordBatch) -> u64 {
    sum_over_columns(batch, |name, column| {
        let value_bytes = match column.as_any_dictionary_opt() {
            Some(dictionary) => mean_bytes(dictionary.values()) + 2.0,
            None if is_text(column.data_type()) => mean_bytes(column) + 2.0,
            None => JSON_NUMBER_BYTES.max(mean_bytes(column) * 3.0),
        };
        ((value_bytes + name.len() as f64 + 4.0) * column.len() as f64).ceil() as u64
    })
}

/// Of a block that was not read, its own bytes stand for its texts, and each column has so many bytes a row.
fn sum_over_pieces(pieces: &[Arrived], read: impl Fn(&RecordBatch) -> u64, unread: impl Fn(&Field) -> u64) -> u64 {
    let bytes = |piece: &Arrived| match piece {
        Arrived::Batch(batch) => read(batch),
        Arrived::Packed { block, rows, .. } => {
            let row: u64 = block.schema().fields().iter().map(|field| unread(field)).sum();
            row * *rows as u64 + packed_bytes(piece)
        }
    };
    pieces.iter().map(bytes).sum()
}

/// About how many bytes these rows take in a block.
pub(super) fn packed_bytes(piece: &Arrived) -> u64 {
    match piece {
        Arrived::Batch(batch) => batch_bytes(batch),
        Arrived::Packed { block, rows, .. } => block.bytes().len() as u64 * *rows as u64 / block.rows().max(1) as u64,
    }
}

fn sum_over_columns(batch: &RecordBatch, bytes: impl Fn(&str, &ArrayRef) -> u64) -> u64 {
    let schema = batch.schema();
    schema.fields().iter().zip(batch.columns()).map(|(field, column)| bytes(field.name(), column)).sum()
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn mean_bytes(array: &ArrayRef) -> f64 {
    if array.is_empty() {
        return 0.0;
    }
    footprint::array_bytes(array) as f64 / array.len() as f64
}
