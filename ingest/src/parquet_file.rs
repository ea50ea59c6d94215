//! A partition as a Parquet file: written, and read back only if it is the file that was written.
//!
//! arrow-rs writes no page checksums and trusts what it reads, so the digest of the whole file stands between the disk
//! and the decoder. Invariant: what is read equals what was written, types and dictionaries too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::dictionary::canonical;
use crate::schema::observations;

/// Values that a column's writer takes at once, where a zone is a multiple of that.
const VALUES_AT_ONCE: usize = 1024;

/// The file's bytes: one row group, pages that end where zones end, zstd, statistics, and the Arrow schema in its
/// metadata, so that dictionaries come back as dictionaries.
pub(crate) fn encode(batch: &RecordBatch, zone_rows: usize) -> Result<Vec<u8>, ParquetError> {
    // A page can only end where values were handed to the column's writer.
    let at_once = if zone_rows.is_multiple_of(VALUES_AT_ONCE) { VALUES_AT_ONCE } else { zone_rows };
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(batch.num_rows().max(1)))
        .set_data_page_row_count_limit(zone_rows)
        .set_write_batch_size(at_once)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.into_inner()
}

/// The rows of a file whose digest was checked, or why they cannot be had.
pub(crate) fn decode(file: Vec<u8>) -> Result<RecordBatch, String> {
    // A decoder's panic is a corrupt file, not a dead process.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_batches(file.into())));
    let batch = decoded.map_err(|_| "the Parquet decoder panicked".to_owned())?.map_err(|error| error.to_string())?;
    if batch.schema().fields() != observations().fields() {
        return Err("its columns are not those of observations".into());
    }
    let columns = batch.columns().iter().map(canonical_column).collect::<Option<Vec<_>>>();
    columns
        .and_then(|columns| RecordBatch::try_new(observations(), columns).ok())
        .ok_or_else(|| "it has nulls, or keys without a value, where there can be none".into())
}

fn decode_batches(file: Bytes) -> Result<RecordBatch, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let schema = Arc::clone(builder.schema());
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(1).max(1);
    let mut batches = builder.with_batch_size(rows).build()?.collect::<Result<Vec<_>, _>>()?;
    match batches.len() {
        1 => Ok(batches.remove(0)),
        _ => Ok(concat_batches(&schema, &batches)?),
    }
}

fn canonical_column(column: &ArrayRef) -> Option<ArrayRef> {
    match column.data_type() {
        DataType::Dictionary(_, _) => Some(Arc::new(canonical(column.as_dictionary_opt::<Int32Type>()?)?)),
        _ => Some(Arc::clone(column)),
    }
}
