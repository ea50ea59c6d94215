//! What a batch costs in memory.
//!
//! Rows that came packed and stay so cost their block. A batch is often a slice whose parent it shares with others, so what arrow reports for its buffers would count the
//! same bytes many times. Counted here are the bytes of the batch's own rows, plus its dictionaries, which the caller
//! counts once however many batches point to them. Invariant: the cost of a batch is the same whenever it is asked.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;

use super::Arrived;

/// Bookkeeping per column of a batch: the array's own structure and its reference counts, rounded up.
const COLUMN_BYTES: u64 = 128;

/// What one batch costs.
#[derive(Debug, Clone)]
pub(super) struct Footprint {
    /// Bytes of the rows themselves, without dictionaries.
    pub rows_bytes: u64,
    /// The dictionaries the rows point to; the same one may be listed twice.
    pub dictionaries: Vec<Dictionary>,
}

/// A dictionary, told apart by where its values lie. That is good only as long as somebody holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Dictionary {
    address: usize,
    values: usize,
    /// Bytes of its values.
    pub bytes: u64,
}

/// The cost of `arrived`.
pub(super) fn of(arrived: &Arrived) -> Footprint {
    match arrived {
        Arrived::Batch(batch) => of_batch(batch),
        // Some rows of a block keep the whole of it in memory.
        Arrived::Packed { block, .. } => {
            Footprint { rows_bytes: COLUMN_BYTES + block.bytes().len() as u64, dictionaries: Vec::new() }
        }
    }
}

fn of_batch(batch: &RecordBatch) -> Footprint {
    let mut footprint = Footprint { rows_bytes: 0, dictionaries: Vec::new() };
    for column in batch.columns() {
        let keys: ArrayRef = match column.as_any_dictionary_opt() {
            Some(dictionary) => {
                footprint.dictionaries.extend(dictionary_of(dictionary.values()));
                dictionary_keys(dictionary)
            }
            None => Arc::clone(column),
        };
        footprint.rows_bytes += COLUMN_BYTES + array_bytes(&keys);
    }
    footprint
}

fn dictionary_keys(dictionary: &dyn arrow::array::AnyDictionaryArray) -> ArrayRef {
    dictionary.keys().slice(0, dictionary.len())
}

/// None for an empty dictionary: it costs nothing and has no address of its own.
fn dictionary_of(values: &ArrayRef) -> Option<Dictionary> {
    let address = values.to_data().buffers().first()?.as_ptr() as usize;
    (!values.is_empty()).then(|| Dictionary { address, values: values.len(), bytes: array_bytes(values) })
}

/// Bytes of the array's own values, without the rest of what it may be a slice of.
pub(super) fn array_bytes(array: &ArrayRef) -> u64 {
    // Arrow's count of a slice leaves out the bytes behind the views of the two view types. Where it cannot count a
    // type at all, the whole of its buffers is the safe side.
    let data = array.to_data();
    let own = data.get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    let behind_views = match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => array.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    (own + behind_views) as u64
}
