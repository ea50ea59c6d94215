//! `packed`: a message is some blocks, each with which of its rows are meant.
//!
//! Layout of each: rows left out before (u32), rows meant (u32), bytes of the block (u32), the block. The rows meant, one
//! block's after the other's, are the rows of the message's chunks. So a block that came from another node goes on as it
//! is, also where a chunk ends within it: its rows are cut apart by the one who reads them.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;

use super::read::{self, Input};
use super::{BLOCK_ROWS_MAX, NAME, Packed, RowsByRun, unreadable, write};
use crate::delivery::encoding::{
    ChunkMeta, DecodeError, EncodeError, Encoding, check_counts, compact, packing, without_panic,
};
use crate::delivery::{Arrived, Chunk, columns};

/// Rows that came as batches are put together until there are so many: they share a block, and its texts.
const LARGE_ROWS: usize = 1_000;

pub(in crate::delivery::encoding) struct PackedEncoding;

impl Encoding for PackedEncoding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn message(&self, chunks: &[Chunk], schema: &SchemaRef) -> Result<(Bytes, Vec<ChunkMeta>), EncodeError> {
        write_chunks(chunks, schema).map_err(|source| EncodeError { encoding: NAME, source })
    }

    fn decode(&self, bytes: &[u8], metas: &[ChunkMeta], schema: &SchemaRef) -> Result<Vec<RecordBatch>, DecodeError> {
        let parts = without_panic(NAME, bytes, || Ok(read_parts(bytes, schema)))?;
        let parts = parts.map_err(|reason| unreadable(bytes, reason))?;
        let mut rest = Rest { parts, at: 0 };
        let chunks = metas.iter().map(|meta| rest.chunk(meta.rows, schema));
        let chunks = chunks.collect::<Result<Vec<_>, ArrowError>>();
        let chunks = chunks.map_err(|error| unreadable(bytes, error.to_string()))?;
        let (left, announced) = (rest.rows(), metas.iter().map(|meta| meta.rows).sum::<u64>());
        if left > 0 {
            return Err(DecodeError::OtherCount {
                what: "rows of the message",
                expected: announced,
                actual: announced + left,
            });
        }
        for chunk in &chunks {
            columns::check(schema, &chunk.schema())?;
        }
        check_counts(bytes, &chunks, metas)?;
        Ok(chunks)
    }

    fn passes_on(&self, chunks: &[Chunk]) -> bool {
        segments(chunks).iter().all(|(_, segment)| segment.passes_on())
    }

    fn estimate(&self, chunk: &Chunk) -> u64 {
        chunk.pieces.iter().map(packing::packed_bytes).sum()
    }
}

/// Neighbouring rows that go into one block.
enum Segment<'a> {
    /// They are these rows of a block that is there.
    Of { block: &'a Packed, from: usize, to: usize },
    /// They are put together.
    Joined { batches: Vec<RecordBatch>, rows: usize },
}

impl Segment<'_> {
    /// Half a block that is sent is less to do than to make another.
    fn passes_on(&self) -> bool {
        matches!(self, Segment::Of { block, from, to } if (to - from) * 2 >= block.rows())
    }
}

/// The segments of these chunks, each with the place of the chunk that it begins in.
fn segments(chunks: &[Chunk]) -> Vec<(usize, Segment<'_>)> {
    let mut segments: Vec<(usize, Segment<'_>)> = Vec::new();
    let pieces = chunks.iter().enumerate().flat_map(|(at, chunk)| chunk.pieces.iter().map(move |piece| (at, piece)));
    for (at, piece) in pieces {
        match (piece, segments.last_mut()) {
            (Arrived::Packed { block: own, from, rows }, Some((_, Segment::Of { block, to, .. })))
                if own.is_same(block) && from == to =>
            {
                *to += rows;
            }
            (Arrived::Packed { block, from, rows }, _) => {
                segments.push((at, Segment::Of { block, from: *from, to: from + rows }));
            }
            (Arrived::Batch(batch), Some((_, Segment::Joined { batches, rows }))) if *rows < LARGE_ROWS => {
                batches.push(batch.clone());
                *rows += batch.num_rows();
            }
            (Arrived::Batch(batch), _) => {
                segments.push((at, Segment::Joined { batches: vec![batch.clone()], rows: batch.num_rows() }));
            }
        }
    }
    segments
}

fn write_chunks(chunks: &[Chunk], schema: &SchemaRef) -> Result<(Bytes, Vec<ChunkMeta>), ArrowError> {
    let mut metas: Vec<ChunkMeta> = chunks
        .iter()
        .map(|chunk| ChunkMeta { index: chunk.index, rows: chunk.rows() as u64, is_last: chunk.is_last, bytes: 0 })
        .collect();
    let segments = segments(chunks);
    let known =
        |segment: &Segment<'_>| if let Segment::Of { block, .. } = segment { block.bytes().len() + 12 } else { 0 };
    let mut out = Vec::with_capacity(segments.iter().map(|(_, segment)| known(segment)).sum());
    for (at, segment) in segments {
        let start = out.len();
        match &segment {
            &Segment::Of { block, from, to } if segment.passes_on() => {
                put(from, to - from, block.bytes(), &mut out);
            }
            &Segment::Of { block, from, to } => {
                let batch = Arrived::Packed { block: block.clone(), from, rows: to - from }.to_batch()?;
                put(0, to - from, &write::block(&RowsByRun::of_batch(&batch))?, &mut out);
            }
            Segment::Joined { batches, rows } => {
                let joined = compact::join(batches, schema)?;
                for from in (0..*rows).step_by(BLOCK_ROWS_MAX) {
                    let part = joined.slice(from, BLOCK_ROWS_MAX.min(rows - from));
                    put(0, part.num_rows(), &write::block(&RowsByRun::of_batch(&part))?, &mut out);
                }
            }
        }
        metas[at].bytes += (out.len() - start) as u64;
    }
    Ok((out.into(), metas))
}

fn put(left_out: usize, rows: usize, block: &[u8], out: &mut Vec<u8>) {
    for number in [left_out, rows, block.len()] {
        out.extend_from_slice(&(number as u32).to_le_bytes());
    }
    out.extend_from_slice(block);
}

fn read_parts(bytes: &[u8], schema: &SchemaRef) -> Result<Vec<RecordBatch>, String> {
    let mut input = Input::new(bytes);
    let mut parts = Vec::new();
    while !input.is_empty() {
        let (left_out, rows, length) = (input.count()?, input.count()?, input.count()?);
        let block = read::rows(input.bytes(length)?, schema)?;
        if left_out.checked_add(rows).is_none_or(|end| end > block.num_rows()) {
            return Err(format!("rows {left_out} and {rows} more of {}", block.num_rows()));
        }
        parts.push(block.slice(left_out, rows));
    }
    Ok(parts)
}

/// The rows of a message that were not handed out yet.
struct Rest {
    parts: Vec<RecordBatch>,
    /// Rows of the first part that were.
    at: usize,
}

impl Rest {
    fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.num_rows() as u64).sum::<u64>() - self.at as u64
    }

    /// The next rows as one batch; fewer if there are no more.
    fn chunk(&mut self, rows: u64, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let mut wanted = usize::try_from(rows).unwrap_or(usize::MAX);
        let mut pieces = Vec::new();
        let mut used = 0;
        for part in &self.parts {
            let taken = wanted.min(part.num_rows() - self.at);
            if taken > 0 {
                pieces.push(part.slice(self.at, taken));
                wanted -= taken;
                self.at += taken;
            }
            if self.at < part.num_rows() {
                break;
            }
            (self.at, used) = (0, used + 1);
        }
        self.parts.drain(..used);
        match pieces.as_slice() {
            [piece] => Ok(piece.clone()),
            // Texts of several blocks may stand twice in a dictionary then: to find that out costs more than it saves.
            _ => concat_batches(schema, &pieces),
        }
    }
}
