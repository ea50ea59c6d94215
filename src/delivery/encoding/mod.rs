//! What the bytes of a chunk look like.
//!
//! An encoding turns chunks into messages and back; several chunks in one message share what they can. It decides
//! nothing about where chunks end, and does not compress: that is the connection's business. To add an encoding, write
//! its file and its line in [`ENCODINGS`]: config check, `--help`, contract test and benches walk that table.
//!
//! What is decoded here must have passed its [`checksum`] first: arrow's reader believes the lengths it reads, and
//! although every decoder here turns a panic into an error, damage is to be found before, not by, the decoder.
//!
//! Invariant: decoding what was encoded gives the same rows in the same order, one batch per chunk, and the `bytes` of
//! a message's chunks add up to its length.

mod arrow_ipc;
mod compact;
mod json;
pub mod packed;
pub mod packing;
pub mod pieces;
pub mod schema;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;

use super::{Chunk, OtherColumns};
pub use pieces::Pieces;

/// What a message says about one of its chunks, beside the message's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// The chunk's index in its result.
    pub index: u64,
    /// Its rows.
    pub rows: u64,
    /// No chunk follows it.
    pub is_last: bool,
    /// The bytes it adds to the message. JSON chunks are cut apart by it; an Arrow or packed chunk cannot be read without
    /// the chunks before it in the same message.
    pub bytes: u64,
}

/// An encoding of chunks.
///
/// Contract: decoding a message gives one batch for each chunk, also for one without rows; a message of one chunk stands
/// alone; what is made for it, dictionaries hold only values that some row of the message uses.
pub trait Encoding: Send + Sync {
    /// The name on the wire and in the configuration.
    fn name(&self) -> &'static str;

    /// Encodes chunks of one result, in the order given. At least one chunk.
    fn message(&self, chunks: &[Chunk], schema: &SchemaRef) -> Result<(Pieces, Vec<ChunkMeta>), EncodeError>;

    /// Decodes a whole message: one batch with the columns of this schema for each of `metas`. The bytes must have
    /// passed their [`checksum`].
    fn decode(&self, bytes: &[u8], metas: &[ChunkMeta], schema: &SchemaRef) -> Result<Vec<RecordBatch>, DecodeError>;

    /// Encodes one chunk so that it stands alone.
    fn chunk(&self, chunk: &Chunk, schema: &SchemaRef) -> Result<Bytes, EncodeError> {
        Ok(self.message(std::slice::from_ref(chunk), schema)?.0.joined())
    }

    /// Whether these chunks are only copied into their message: nothing is computed then.
    fn passes_on(&self, _chunks: &[Chunk]) -> bool {
        false
    }

    /// About how many bytes this chunk takes in a message, rather too many than too few.
    fn estimate(&self, chunk: &Chunk) -> u64;
}

/// One line of the table of encodings.
pub struct Line {
    /// The name on the wire and in the configuration.
    pub name: &'static str,
    /// Makes the encoding.
    pub make: fn() -> Box<dyn Encoding>,
    /// One line for `--help`.
    pub help: &'static str,
}

/// Every encoding there is.
pub const ENCODINGS: &[Line] = &[
    Line {
        name: "arrow_ipc",
        make: || Box::new(arrow_ipc::ArrowIpc),
        help: "Arrow IPC streams: typed, compact, read without parsing",
    },
    Line {
        name: "packed",
        make: || Box::new(packed::PackedEncoding),
        help: "for this program's own client: typed, in a fifth of the bytes of arrow_ipc",
    },
    Line { name: "json", make: || Box::new(json::Json), help: "arrays of objects: readable by anything" },
];

/// The one that is used unless another is asked for.
pub const DEFAULT: &str = "packed";

/// The encoding of that name; none if there is no such encoding.
pub fn by_name(name: &str) -> Option<Box<dyn Encoding>> {
    ENCODINGS.iter().find(|line| line.name == name).map(|line| (line.make)())
}

/// The checksum that travels outside the bytes it covers (xxh3, 64 bits). It finds accidents, not forgeries.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// Rows that cannot be encoded: a type the encoding does not know, or a dictionary with more values than its keys can
/// tell apart. Trying again does not help.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode rows as {encoding}: {source}")]
pub struct EncodeError {
    encoding: &'static str,
    source: ArrowError,
}

/// Bytes that are not what they should be. Nothing of them is to be used; another copy may be fine.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not readable at all.
    #[error("cannot read {bytes} bytes of {encoding}: {reason}")]
    Unreadable {
        /// The encoding they should have.
        encoding: &'static str,
        /// How many there are.
        bytes: usize,
        /// What the reader says.
        reason: String,
    },
    /// Readable, with other columns than expected.
    #[error(transparent)]
    OtherColumns(#[from] OtherColumns),
    /// Readable, with another number of chunks, rows or bytes than announced.
    #[error("{what}: {actual}, announced {expected}")]
    OtherCount {
        /// What was counted.
        what: &'static str,
        /// What was announced.
        expected: u64,
        /// What came.
        actual: u64,
    },
}

/// Runs a reader and makes an error of its panic.
fn without_panic<R>(
    encoding: &'static str,
    bytes: &[u8],
    read: impl FnOnce() -> Result<R, ArrowError>,
) -> Result<R, DecodeError> {
    let unreadable = |reason| DecodeError::Unreadable { encoding, bytes: bytes.len(), reason };
    // Nothing the reader touched outlives a panic, so there is no half-changed state to be seen.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(unreadable(error.to_string())),
        Err(_) => Err(unreadable("its reader panicked".to_owned())),
    }
}

/// Whether what came is what was announced.
fn check_counts(bytes: &[u8], batches: &[RecordBatch], metas: &[ChunkMeta]) -> Result<(), DecodeError> {
    let same = |what, expected, actual| match expected == actual {
        true => Ok(()),
        false => Err(DecodeError::OtherCount { what, expected, actual }),
    };
    let announced = metas.iter().fold(0, |sum: u64, meta| sum.saturating_add(meta.bytes));
    same("bytes of the message", announced, bytes.len() as u64)?;
    same("chunks of the message", metas.len() as u64, batches.len() as u64)?;
    for (batch, meta) in batches.iter().zip(metas) {
        same("rows of a chunk", meta.rows, batch.num_rows() as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
