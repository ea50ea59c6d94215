//! How many chunks go into one message.
//!
//! Small chunks one by one would cost a message each, and an Arrow message repeats schema and dictionaries. So chunks
//! are taken while one more of the size of the last would still fit. A chunk is never divided: one that is larger than
//! the target makes a message of its own, which `chunk_rows_max` bounds.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;

use super::Encoding;
use crate::delivery::{Chunk, footprint};

/// What a message aims at, in bytes of its encoding: large enough that its fixed cost does not show.
pub const MESSAGE_BYTES: u64 = 1 << 20;

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
pub(super) fn arrow_bytes(pieces: &[RecordBatch]) -> u64 {
    sum_over_columns(pieces, |_, column| match column.as_any_dictionary_opt() {
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
pub(super) fn json_bytes(pieces: &[RecordBatch]) -> u64 {
    sum_over_columns(pieces, |name, column| {
        let value_bytes = match column.as_any_dictionary_opt() {
            Some(dictionary) => mean_bytes(dictionary.values()) + 2.0,
            None if is_text(column.data_type()) => mean_bytes(column) + 2.0,
            // The longest float takes 24 digits and signs, a time with its zone as many and two quotes.
            None => 26.0_f64.max(mean_bytes(column) * 3.0),
        };
        ((value_bytes + name.len() as f64 + 4.0) * column.len() as f64).ceil() as u64
    })
}

fn sum_over_columns(pieces: &[RecordBatch], bytes: impl Fn(&str, &ArrayRef) -> u64) -> u64 {
    let mut sum = 0;
    for piece in pieces {
        let schema = piece.schema();
        for (field, column) in schema.fields().iter().zip(piece.columns()) {
            sum += bytes(field.name(), column);
        }
    }
    sum
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
