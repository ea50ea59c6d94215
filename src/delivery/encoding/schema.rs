//! A schema alone, as the first message of an answer carries it.

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;

use super::arrow_ipc::read_stream;
use super::{DecodeError, EncodeError};

const NAME: &str = "a schema";

/// A schema as an Arrow IPC stream without batches.
pub fn encode_schema(schema: &Schema) -> Result<Vec<u8>, EncodeError> {
    let writer = StreamWriter::try_new(Vec::new(), schema);
    writer.and_then(StreamWriter::into_inner).map_err(|source| EncodeError { encoding: NAME, source })
}

/// The schema of a stream; batches are ignored.
pub fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, DecodeError> {
    Ok(read_stream(bytes)?.0)
}
