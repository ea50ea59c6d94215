//! `json`: a chunk is an array of objects, a message the arrays of its chunks one after another.
//!
//! Every column is present in every object, missing values as `null`; times are RFC 3339 (`2020-08-18T09:00:00Z`),
//! dates `2020-08-18`; a float has as many digits as it takes to get the same float back. JSON has no infinities and no
//! NaN: they become `null`.

mod write;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::reader::ReaderBuilder;

use super::{ChunkMeta, DecodeError, EncodeError, Encoding, Pieces, check_counts, packing, without_panic};
use crate::delivery::arrived::Unpacked;
use crate::delivery::{Arrived, Chunk};

const NAME: &str = "json";

pub(super) struct Json;

impl Encoding for Json {
    fn name(&self) -> &'static str {
        NAME
    }

    fn message(&self, chunks: &[Chunk], _schema: &SchemaRef) -> Result<(Pieces, Vec<ChunkMeta>), EncodeError> {
        assert!(!chunks.is_empty(), "a message without a chunk");
        let estimate: u64 = chunks.iter().map(|chunk| self.estimate(chunk)).sum();
        let mut bytes = Vec::with_capacity(usize::try_from(estimate).unwrap_or(0));
        let mut metas = Vec::with_capacity(chunks.len());
        let mut unpacked = Unpacked::default();
        for chunk in chunks {
            let start = bytes.len();
            write_array(&chunk.pieces, &mut unpacked, &mut bytes)
                .map_err(|source| EncodeError { encoding: NAME, source })?;
            metas.push(ChunkMeta {
                index: chunk.index,
                rows: chunk.rows() as u64,
                is_last: chunk.is_last,
                bytes: (bytes.len() - start) as u64,
            });
        }
        Ok((bytes.into(), metas))
    }

    fn decode(&self, bytes: &[u8], metas: &[ChunkMeta], schema: &SchemaRef) -> Result<Vec<RecordBatch>, DecodeError> {
        let (mut batches, mut rest) = (Vec::with_capacity(metas.len()), bytes);
        for meta in metas {
            let length = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
            let Some((array, after)) = rest.split_at_checked(length) else { break };
            batches.push(without_panic(NAME, array, || read_array(array, schema))?);
            rest = after;
        }
        check_counts(bytes, &batches, metas)?;
        Ok(batches)
    }

    fn estimate(&self, chunk: &Chunk) -> u64 {
        packing::json_bytes(&chunk.pieces)
    }
}

fn write_array(pieces: &[Arrived], unpacked: &mut Unpacked, bytes: &mut Vec<u8>) -> Result<(), ArrowError> {
    bytes.push(b'[');
    let mut is_first = true;
    for piece in pieces {
        write::rows(&unpacked.batch(piece)?, &mut is_first, bytes)?;
    }
    bytes.push(b']');
    Ok(())
}

/// Arrow's reader wants objects without brackets around them. Told that each value of its input is one list of objects,
/// it reads the whole array as a single value, whose items are the rows.
fn read_array(array: &[u8], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let plain: Vec<Field> = schema.fields().iter().map(|field| without_dictionary(field)).collect();
    let row = Field::new("row", DataType::Struct(plain.into()), false);
    let mut decoder = ReaderBuilder::new_with_field(Field::new_list("rows", row, false)).build_decoder()?;
    let read = decoder.decode(array)?;
    if read != array.len() || decoder.len() != 1 {
        return Err(ArrowError::JsonError(format!("{} bytes after the array", array.len() - read)));
    }
    let lists = decoder.flush()?.ok_or_else(|| ArrowError::JsonError("there is no array".to_owned()))?;
    let rows = lists.column(0).as_list::<i32>().value(0);
    let columns = rows
        .as_struct()
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| cast(column, field.data_type()))
        .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema) as Arc<Schema>, columns, &options)
}

/// Nullable whatever the schema says: a value that is missing against it is found when the batch is put together.
fn without_dictionary(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    Field::new(field.name(), data_type.clone(), true)
}
