//! Rows with their texts spelled out, for readers that know no dictionaries.
//!
//! A text becomes a view of 16 bytes: its length, and the text itself or where it stands. The views of a dictionary's
//! texts are made once a dictionary; a row only copies the view of its key. Numbers are not touched.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringViewArray};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

/// The schema with plain texts in place of dictionaries of texts.
pub fn plain_schema(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &Arc<Field>| match is_text_dictionary(field.data_type()) {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        false => Arc::clone(field),
    };
    Arc::new(Schema::new_with_metadata(
        schema.fields().iter().map(plain).collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}

fn is_text_dictionary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(_, values) if **values == DataType::Utf8)
}

/// The same rows in plain types; as they are if there is no dictionary among them.
pub fn spell_out(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(plain_column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(plain_schema(&batch.schema()), columns, &options)
}

/// One column in plain types.
pub fn plain_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !is_text_dictionary(column.data_type()) {
        return Ok(Arc::clone(column));
    }
    let column = column.as_any_dictionary();
    // Of the whole dictionary, which is small beside the rows; the views point into the dictionary's own bytes.
    let views = StringViewArray::from(column.values().as_string::<i32>());
    take(&views, column.keys(), None)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, DictionaryArray, Int64Array};
    use arrow::compute::cast;
    use arrow::datatypes::{Int32Type, UInt8Type};

    use super::*;

    #[test]
    fn a_text_reads_as_arrows_own_cast_spells_it() {
        let check = |column: ArrayRef| {
            let batch = RecordBatch::try_from_iter([
                ("t", Arc::clone(&column)),
                ("n", Arc::new(Int64Array::from_iter_values(0..column.len() as i64)) as ArrayRef),
            ])
            .unwrap();
            let plain = spell_out(&batch).unwrap();
            assert_eq!(plain.column(0), &cast(&column, &DataType::Utf8View).unwrap());
            assert_eq!(plain.column(1), batch.column(1));
        };
        let long = "a text that does not fit into a view of sixteen bytes";
        let texts = ["short", long, "", "short", "O'Fallon é"];
        let dictionary: DictionaryArray<Int32Type> = texts.into_iter().collect();
        check(Arc::new(dictionary.slice(1, 3)));
        check(Arc::new(dictionary));
        let nulls: DictionaryArray<UInt8Type> = [Some("a"), None, Some(long), None].into_iter().collect();
        check(Arc::new(nulls));
        check(Arc::new(Vec::<Option<&str>>::new().into_iter().collect::<DictionaryArray<Int32Type>>()));
    }
}
