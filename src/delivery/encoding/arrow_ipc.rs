//! `arrow_ipc`: a message is one Arrow IPC stream (schema, dictionaries, one record batch per chunk, end mark).

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;

use super::{ChunkMeta, DecodeError, EncodeError, Encoding, Pieces, check_counts, compact, packing, without_panic};
use crate::delivery::arrived::Unpacked;
use crate::delivery::{Chunk, columns};

const NAME: &str = "arrow_ipc";

/// What every stream ends with; without it the stream was cut off.
const END_MARK: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// A chunk of so many rows carries dictionaries of its own without a noticeable cost.
const LARGE_ROWS: usize = 1_000;

pub(super) struct ArrowIpc;

impl Encoding for ArrowIpc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn message(&self, chunks: &[Chunk], schema: &SchemaRef) -> Result<(Pieces, Vec<ChunkMeta>), EncodeError> {
        let written = write_chunks(chunks, schema).map_err(|source| EncodeError { encoding: NAME, source })?;
        Ok((written.0.into(), written.1))
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
    let mut unpacked = Unpacked::default();
    let pieces = chunks.iter().flat_map(|chunk| &chunk.pieces).map(|piece| unpacked.batch(piece));
    let pieces = pieces.collect::<Result<Vec<RecordBatch>, ArrowError>>()?;
    // Small chunks share dictionaries. Large ones that came in one piece each bring their own instead: to make one of
    // several costs a look at every text, a second copy of a text in the message costs next to nothing.
    let apart = chunks.iter().all(|chunk| chunk.pieces.len() == 1 && (chunk.rows() >= LARGE_ROWS || chunk.is_last));
    let all = if apart { RecordBatch::new_empty(Arc::clone(schema)) } else { compact::join(&pieces, schema)? };
    let bytes = pieces.iter().map(packing::batch_bytes).sum::<u64>() as usize;
    let mut writer = StreamWriter::try_new(Vec::with_capacity(bytes + bytes / 8 + 4096), schema)?;
    let mut metas = Vec::with_capacity(chunks.len());
    let (mut rows_before, mut bytes_before) = (0, 0);
    let mut pieces = pieces.iter();
    for chunk in chunks {
        let rows = chunk.rows();
        match pieces.next() {
            Some(piece) if apart => {
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let own = RecordBatch::try_new_with_options(Arc::clone(schema), piece.columns().to_vec(), &options)?;
                writer.write(&compact::slice(&compact::trim(&own)?, 0, rows))?;
            }
            _ => writer.write(&compact::slice(&all, rows_before, rows))?,
        }
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
    let trimmed = compact::trim(batch)?;
    let bytes = packing::batch_bytes(&trimmed) as usize;
    let mut writer = StreamWriter::try_new(Vec::with_capacity(bytes + bytes / 8 + 4096), &batch.schema())?;
    writer.write(&compact::slice(&trimmed, 0, trimmed.num_rows()))?;
    writer.into_inner()
}

/// A stream's schema and all its batches. The stream must be whole: without its end mark it was cut off.
///
/// The push decoder is used because it takes lengths from the bytes at hand; the pulling reader would first allocate
/// whatever a damaged length says.
pub(super) fn read_stream(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), DecodeError> {
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
