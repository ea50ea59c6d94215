//! One batch, self-contained, as it crosses from node to node: its schema, its dictionaries cut down to what its rows
//! use, its rows. And a schema alone, as the reply to a query carries it.
//!
//! Header and checksum travel outside these bytes; verify the [`super::checksum`] before decoding.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use super::arrow_ipc::{read_buffer, read_stream, write_batch};
use super::{DecodeError, EncodeError};

const NAME: &str = "a zone";

/// One batch as an Arrow IPC stream of its own.
pub fn encode_batch(batch: &RecordBatch) -> Result<Vec<u8>, EncodeError> {
    write_batch(batch).map_err(|source| EncodeError { encoding: NAME, source })
}

/// The batch in a stream that holds exactly one.
pub fn decode_batch(bytes: &[u8]) -> Result<RecordBatch, DecodeError> {
    the_one(read_stream(bytes)?.1)
}

fn the_one(mut batches: Vec<RecordBatch>) -> Result<RecordBatch, DecodeError> {
    match (batches.pop(), batches.len()) {
        (Some(batch), 0) => Ok(batch),
        (last, others) => {
            let actual = others as u64 + u64::from(last.is_some());
            Err(DecodeError::OtherCount { what: "batches of a zone", expected: 1, actual })
        }
    }
}

/// The same, with the bytes once more in the memory that the batch lies in, so that both can be kept at the price of one.
pub fn decode_and_hold(bytes: &[u8]) -> Result<(RecordBatch, Bytes), DecodeError> {
    let aligned = Buffer::from(bytes);
    let (_, batches) = read_buffer(aligned.clone())?;
    Ok((the_one(batches)?, Bytes::from_owner(Held(aligned))))
}

/// A buffer as the owner of [`Bytes`].
struct Held(Buffer);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A schema as an Arrow IPC stream without batches.
pub fn encode_schema(schema: &Schema) -> Result<Vec<u8>, EncodeError> {
    let writer = StreamWriter::try_new(Vec::new(), schema);
    writer.and_then(StreamWriter::into_inner).map_err(|source| EncodeError { encoding: NAME, source })
}

/// The schema of a stream; batches are ignored.
pub fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, DecodeError> {
    Ok(read_stream(bytes)?.0)
}
