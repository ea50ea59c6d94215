//! Rows in few bytes, as they cross from node to node and to this program's own client.
//!
//! A *block* holds some rows of one schema and stands alone. What stays the same over many rows is sent once a *run*
//! (the rows of a site and what it measures on one day), numbers as small steps above the least of them, decimals as the
//! whole number of their last digit, texts once a block. A row of the observations takes about 10 bytes that way instead
//! of 67, which matters where it crosses three links, and the bytes can be passed on unread. What the format has no
//! narrow form for travels as Arrow IPC inside the block, so every type can be packed.
//!
//! [`write`] makes blocks, [`read`] finds their columns and proves them, [`join`] gives the rows back, [`numbers`] is the
//! form of a column of numbers, [`message`] the encoding of chunks.
//!
//! Invariant: rows come out equal to those that went in, to the last bit, in the schema's types. A block that was made here
//! or that [`Packed::open`] took holds as many rows as it says, and reading it cannot fail for its bytes.

mod join;
mod message;
mod numbers;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{DecodeError, EncodeError};
pub(super) use message::PackedEncoding;

/// What the encoding of chunks is called.
pub const NAME: &str = "packed";

/// What a block begins with; the last byte counts versions.
const MAGIC: [u8; 4] = *b"ovp\x01";

/// The most rows of a block. The sender divides what has more; a receiver believes no more, because a few bytes can stand
/// for all of them.
pub const BLOCK_ROWS_MAX: usize = 1 << 20;

/// Rows on their way into a block, with what is the same for many of them kept once.
pub struct RowsByRun {
    pub schema: SchemaRef,
    pub rows: usize,
    /// Rows of each run, all at least 1, together `rows`; empty if no column is by run.
    pub runs: Vec<u32>,
    pub columns: Vec<Column>,
}

/// One column of [`RowsByRun`].
pub enum Column {
    /// A value for each row.
    ByRow(ArrayRef),
    /// A value for each run.
    ByRun(ArrayRef),
    /// Numbers of a table, named by their places.
    ByPlace(Placed),
}

/// Numbers that were found in a table and not looked up yet: most of them never need to be.
pub struct Placed {
    /// In ascending order; those that no row has may be among them.
    pub table: ArrayRef,
    /// For each row a place in the table; its length stands for no value.
    pub places: Vec<u16>,
}

impl Placed {
    /// The numbers themselves.
    ///
    /// # Errors
    /// A place further past the end of the table.
    pub fn look_up(&self) -> Result<ArrayRef, ArrowError> {
        let none = self.table.len();
        if none == 0 {
            // Arrow takes nothing from an empty array, not even nulls.
            return Ok(new_null_array(self.table.data_type(), self.places.len()));
        }
        let places = self.places.iter().map(|place| Some(u32::from(*place)).filter(|place| *place as usize != none));
        take(&self.table, &places.collect::<UInt32Array>(), None)
    }
}

impl RowsByRun {
    /// The rows of a batch, no column by run.
    pub fn of_batch(batch: &RecordBatch) -> RowsByRun {
        let columns = batch.columns().iter().map(|column| Column::ByRow(Arc::clone(column))).collect();
        RowsByRun { schema: batch.schema(), rows: batch.num_rows(), runs: Vec::new(), columns }
    }

    /// As a block.
    ///
    /// # Errors
    /// A type that not even Arrow IPC knows, or more than [`BLOCK_ROWS_MAX`] rows. Trying again does not help.
    pub fn pack(&self) -> Result<Vec<u8>, EncodeError> {
        write::block(self).map_err(|source| EncodeError { encoding: NAME, source })
    }

    /// The same, known to be readable because it was made here.
    ///
    /// # Errors
    /// As those of [`RowsByRun::pack`].
    pub fn block(&self) -> Result<Packed, EncodeError> {
        let bytes = self.pack()?.into();
        Ok(Packed { bytes, schema: Arc::clone(&self.schema), rows: self.rows })
    }
}

/// A block that was proven readable, or made here. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    bytes: Bytes,
    schema: SchemaRef,
    rows: usize,
}

impl Packed {
    /// Looks whether these bytes are a block of this schema, without making the rows. They must have passed their
    /// checksum: what is looked for here is a sender at fault, not damage.
    pub fn open(bytes: Bytes, schema: &SchemaRef) -> Result<Packed, DecodeError> {
        let rows = read::prove(&bytes, schema).map_err(|reason| unreadable(&bytes, reason))?;
        Ok(Packed { bytes, schema: Arc::clone(schema), rows })
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The same rows in a schema whose columns have the same names and types, but other remarks, and may be null if they are
    /// here. None if they differ.
    pub fn in_schema(mut self, schema: &SchemaRef) -> Option<Packed> {
        if !Arc::ptr_eq(&self.schema, schema) {
            let is_same = |(own, other): (&FieldRef, &FieldRef)| {
                (own.name(), own.data_type()) == (other.name(), other.data_type())
                    && (other.is_nullable() || !own.is_nullable())
            };
            let (own, other) = (self.schema.fields(), schema.fields());
            if own.len() != other.len() || !own.iter().zip(other).all(is_same) {
                return None;
            }
            self.schema = Arc::clone(schema);
        }
        Some(self)
    }

    /// The schema of its rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The block itself.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether it is not only equal, but the same bytes.
    pub fn is_same(&self, other: &Packed) -> bool {
        std::ptr::eq(self.bytes.as_ref(), other.bytes.as_ref())
    }

    /// The rows.
    pub fn to_batch(&self) -> Result<RecordBatch, DecodeError> {
        join::rows(&self.bytes, &self.schema).map_err(|reason| unreadable(&self.bytes, reason))
    }
}

fn unreadable(bytes: &[u8], reason: String) -> DecodeError {
    DecodeError::Unreadable { encoding: NAME, bytes: bytes.len(), reason }
}

/// A digest of names and types: what must agree between the two ends of a block.
fn columns_digest(schema: &Schema) -> u64 {
    let mut digest = Xxh3::new();
    for field in schema.fields() {
        digest.update(field.name().as_bytes());
        digest.update(&[0]);
        digest.update(field.data_type().to_string().as_bytes());
        digest.update(&[0]);
    }
    digest.digest()
}

/// How a column lies in a block: the first byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One column as an Arrow IPC stream.
    Ipc = 0,
    /// Whole numbers.
    Integers = 1,
    /// 64-bit floats, bit by bit.
    Floats = 2,
    /// 64-bit floats as whole numbers of their last decimal digit.
    Decimals = 3,
    /// Texts, each once, and for each row which one.
    Texts = 4,
}

impl Form {
    fn of(byte: u8) -> Option<Form> {
        [Form::Ipc, Form::Integers, Form::Floats, Form::Decimals, Form::Texts]
            .into_iter()
            .find(|form| *form as u8 == byte)
    }
}

/// Set beside the form of a column that has a value a run.
const BY_RUN: u8 = 0x80;
/// Set beside the form of a column with nulls: its validity bits come first.
const HAS_NULLS: u8 = 0x40;
