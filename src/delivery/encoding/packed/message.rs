//! `packed`: a message is some blocks, each with which of its rows are meant.
//!
//! Layout of each: rows left out before (u32), rows meant (u32), bytes of the block (u32), the block. The rows meant, one
//! block's after the other's, are the rows of the message's chunks. So a block that came from another node goes on as it
//! is, also where a chunk ends within it: its rows are cut apart by the one who reads them.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;

use super::join::{self, Part};
use super::read::{Block, Input};
use super::{BLOCK_ROWS_MAX, NAME, Packed, RowsByRun, unreadable, write};
use crate::delivery::encoding::pieces::Writer;
use crate::delivery::encoding::{
    ChunkMeta, DecodeError, EncodeError, Encoding, Pieces, check_counts, compact, packing, without_panic,
};
use crate::delivery::{Arrived, Chunk, columns};

/// Rows that came as batches are put together until there are so many: they share a block, and its texts.
const LARGE_ROWS: usize = 1_000;

pub(in crate::delivery::encoding) struct PackedEncoding;

impl Encoding for PackedEncoding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn message(&self, chunks: &[Chunk], schema: &SchemaRef) -> Result<(Pieces, Vec<ChunkMeta>), EncodeError> {
        write_chunks(chunks, schema).map_err(|source| EncodeError { encoding: NAME, source })
    }

    fn decode(&self, bytes: &[u8], metas: &[ChunkMeta], schema: &SchemaRef) -> Result<Vec<RecordBatch>, DecodeError> {
        let read = without_panic(NAME, bytes, || Ok(read_chunks(bytes, metas, schema)))?;
        let (chunks, left) = read.map_err(|reason| unreadable(bytes, reason))?;
        let announced = metas.iter().map(|meta| meta.rows).sum::<u64>();
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

fn write_chunks(chunks: &[Chunk], schema: &SchemaRef) -> Result<(Pieces, Vec<ChunkMeta>), ArrowError> {
    let mut metas: Vec<ChunkMeta> = chunks
        .iter()
        .map(|chunk| ChunkMeta { index: chunk.index, rows: chunk.rows() as u64, is_last: chunk.is_last, bytes: 0 })
        .collect();
    let segments = segments(chunks);
    let mut out = Writer::default();
    for (at, segment) in segments {
        let start = out.len();
        match &segment {
            &Segment::Of { block, from, to } if segment.passes_on() => {
                put(from, to - from, block.bytes(), &mut out);
            }
            &Segment::Of { block, from, to } => {
                let batch = Arrived::Packed { block: block.clone(), from, rows: to - from }.to_batch()?;
                put(0, to - from, &write::block(&RowsByRun::of_batch(&batch))?.into(), &mut out);
            }
            Segment::Joined { batches, rows } => {
                let joined = compact::join(batches, schema)?;
                for from in (0..*rows).step_by(BLOCK_ROWS_MAX) {
                    let part = joined.slice(from, BLOCK_ROWS_MAX.min(rows - from));
                    put(0, part.num_rows(), &write::block(&RowsByRun::of_batch(&part))?.into(), &mut out);
                }
            }
        }
        metas[at].bytes += (out.len() - start) as u64;
    }
    Ok((out.finish(), metas))
}

fn put(left_out: usize, rows: usize, block: &Bytes, out: &mut Writer) {
    for number in [left_out, rows, block.len()] {
        out.put(&(number as u32).to_le_bytes());
    }
    out.share(block);
}

/// A batch for each of `metas`, and how many rows were left over.
fn read_chunks(bytes: &[u8], metas: &[ChunkMeta], schema: &SchemaRef) -> Result<(Vec<RecordBatch>, u64), String> {
    let parts = read_parts(bytes, schema)?;
    let mut rest = Rest { parts: &parts, at: 0 };
    let chunks = metas.iter().map(|meta| join::batch(&rest.chunk(meta.rows), schema));
    let chunks = chunks.collect::<Result<Vec<_>, String>>()?;
    Ok((chunks, rest.rows()))
}

/// Blocks, and which of their rows are meant.
fn read_parts<'a>(bytes: &'a [u8], schema: &'a SchemaRef) -> Result<Vec<(Block<'a>, Range<usize>)>, String> {
    let mut input = Input::new(bytes);
    let mut parts = Vec::new();
    while !input.is_empty() {
        let (left_out, rows, length) = (input.count()?, input.count()?, input.count()?);
        let block = Block::find(input.bytes(length)?, schema)?;
        match left_out.checked_add(rows).filter(|end| *end <= block.rows()) {
            Some(end) => parts.push((block, left_out..end)),
            None => return Err(format!("rows {left_out} and {rows} more of {}", block.rows())),
        }
    }
    Ok(parts)
}

/// The rows of a message that were not handed out yet.
struct Rest<'a> {
    parts: &'a [(Block<'a>, Range<usize>)],
    /// Rows of the first part that were.
    at: usize,
}

impl<'a> Rest<'a> {
    fn rows(&self) -> u64 {
        self.parts.iter().map(|(_, rows)| rows.len() as u64).sum::<u64>() - self.at as u64
    }

    /// The next rows; fewer if there are no more.
    fn chunk(&mut self, rows: u64) -> Vec<Part<'a>> {
        let mut wanted = usize::try_from(rows).unwrap_or(usize::MAX);
        let mut pieces = Vec::new();
        while let [(block, rows), after @ ..] = self.parts {
            let taken = wanted.min(rows.len() - self.at);
            if taken > 0 {
                let start = rows.start + self.at;
                pieces.push(block.part(start..start + taken));
                wanted -= taken;
                self.at += taken;
            }
            if self.at < rows.len() {
                break;
            }
            (self.parts, self.at) = (after, 0);
        }
        pieces
    }
}
