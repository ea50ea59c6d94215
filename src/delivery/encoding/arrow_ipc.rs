//! `arrow_ipc`: a message is one Arrow IPC stream (schema, dictionaries, one record batch per chunk, end mark).

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;

use super::{ChunkMeta, DecodeError, EncodeError, Encoding, check_counts, compact, packing, without_panic};
use crate::delivery::{Chunk, columns};

const NAME: &str = "arrow_ipc";

pub(super) struct ArrowIpc;

impl Encoding for ArrowIpc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn message(&self, chunks: &[Chunk], schema: &SchemaRef) -> Result<(Vec<u8>, Vec<ChunkMeta>), EncodeError> {
        write_chunks(chunks, schema).map_err(|source| EncodeError { encoding: NAME, source })
    }

    fn decode(&self, bytes: &[u8], metas: &[ChunkMeta], schema: &SchemaRef) -> Result<Vec<RecordBatch>, DecodeError> {
        let (actual, batches) = read_stream(bytes)?;
        columns::check(schema, &actual)?;
        check_counts(bytes, &batches, metas)?;
        Ok(batches)
    }

    fn estimate(&self, chunk: &Chunk) -> u64 {
        packing::arrow_bytes(&chunk.pieces)
    }
}

fn write_chunks(chunks: &[Chunk], schema: &SchemaRef) -> Result<(Vec<u8>, Vec<ChunkMeta>), ArrowError> {
    assert!(!chunks.is_empty(), "a message without a chunk");
    let pieces: Vec<RecordBatch> = chunks.iter().flat_map(|chunk| chunk.pieces.iter().cloned()).collect();
    let all = compact::join(&pieces, schema)?;
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    let mut metas = Vec::with_capacity(chunks.len());
    let (mut rows_before, mut bytes_before) = (0, 0);
    for chunk in chunks {
        let rows = chunk.rows();
        writer.write(&compact::slice(&all, rows_before, rows))?;
        rows_before += rows;
        let bytes = (writer.get_ref().len() - bytes_before) as u64;
        bytes_before = writer.get_ref().len();
        metas.push(ChunkMeta { index: chunk.index, rows: rows as u64, is_last: chunk.is_last, bytes });
    }
    let bytes = writer.into_inner()?;
    if let Some(last) = metas.last_mut() {
        last.bytes += (bytes.len() - bytes_before) as u64;
    }
    Ok((bytes, metas))
}

/// One batch as a stream of its own.
pub(super) fn write_batch(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let schema = batch.schema();
    let joined = compact::join(std::slice::from_ref(batch), &schema)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&compact::slice(&joined, 0, joined.num_rows()))?;
    writer.into_inner()
}

/// A stream's schema and all its batches. The stream must be whole: without its end mark it was cut off.
///
/// The push decoder is used because it takes lengths from the bytes at hand; the pulling reader would first allocate
/// whatever a damaged length says.
pub(super) fn read_stream(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), DecodeError> {
    const END_MARK: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    without_panic(NAME, bytes, || {
        if !bytes.ends_with(&END_MARK) {
            return Err(ArrowError::IpcError("the end mark is missing".to_owned()));
        }
        // This copy also brings the values into the alignment that makes them usable in place.
        let mut rest = Buffer::from(bytes);
        let mut decoder = StreamDecoder::new();
        let mut batches = Vec::new();
        while !rest.is_empty() {
            batches.extend(decoder.decode(&mut rest)?);
        }
        decoder.finish()?;
        let schema = decoder.schema().ok_or_else(|| ArrowError::IpcError("there is no schema".to_owned()))?;
        Ok((schema, batches))
    })
}
