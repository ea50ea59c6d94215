//! Rows made ready to leave: pieces joined, and dictionaries that hold each used value once.
//!
//! The rows of a result point to the dictionaries of many partitions, each far larger than a chunk. For each dictionary
//! column the values that some row uses are collected from all pieces, made unique, and the keys rewritten to them. The
//! outcome is one batch; chunks are slices of it and so share its dictionaries, which the IPC writer then sends once.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, downcast_dictionary_array,
};
use arrow::compute::{cast, concat, filter};
use arrow::datatypes::{ArrowDictionaryKeyType, ArrowNativeType, DataType, SchemaRef, UInt32Type};
use arrow::error::ArrowError;

/// All pieces as one batch of this schema. Pieces have the schema's types; there may be none.
pub(super) fn join(pieces: &[RecordBatch], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if pieces.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    }
    let columns = (0..schema.fields().len())
        .map(|i| {
            let arrays: Vec<&dyn Array> = pieces.iter().map(|piece| piece.column(i).as_ref()).collect();
            join_column(&arrays)
        })
        .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    let rows = pieces.iter().map(RecordBatch::num_rows).sum();
    RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(rows)),
    )
}

/// Some rows of a joined batch, without the bytes of the others. Only the two view types drag those along: the writer
/// cuts everything else by itself.
pub(super) fn slice(batch: &RecordBatch, offset: usize, rows: usize) -> RecordBatch {
    let slice = batch.slice(offset, rows);
    let is_view = |column: &ArrayRef| matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !slice.columns().iter().any(is_view) {
        return slice;
    }
    let own = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        }
    };
    let columns = slice.columns().iter().map(own).collect();
    RecordBatch::try_new_with_options(slice.schema(), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
        .expect("collecting the values of a column changes neither its type nor its length")
}

/// The same rows, with dictionaries that hold only values that some row uses. Unlike [`join`] it looks at no text: values
/// that were unique stay so.
pub(super) fn trim(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(trim_column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn trim_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    downcast_dictionary_array!(
        column => trim_dictionary(column),
        _ => Ok(Arc::clone(column))
    )
}

fn trim_dictionary<K: ArrowDictionaryKeyType>(dictionary: &DictionaryArray<K>) -> Result<ArrayRef, ArrowError> {
    let used = Used::of(dictionary)?;
    if used.values.len() == dictionary.values().len() {
        return Ok(Arc::new(dictionary.clone()));
    }
    // Under a null lies any key at all, also one past the end; what it becomes does not matter.
    let place_of = |key: K::Native| used.places.get(key.as_usize()).copied().unwrap_or(0);
    let keys: PrimitiveArray<K> = dictionary.keys().unary(|key| K::Native::usize_as(place_of(key)));
    Ok(Arc::new(DictionaryArray::try_new(keys, used.values)?))
}

fn join_column(arrays: &[&dyn Array]) -> Result<ArrayRef, ArrowError> {
    let first = arrays[0];
    downcast_dictionary_array!(
        first => join_dictionaries(first, arrays),
        _ => concat(arrays)
    )
}

/// The first array only tells the type of the keys.
fn join_dictionaries<K: ArrowDictionaryKeyType>(
    _first: &DictionaryArray<K>,
    arrays: &[&dyn Array],
) -> Result<ArrayRef, ArrowError> {
    let pieces: Vec<&DictionaryArray<K>> = arrays.iter().map(|array| array.as_dictionary::<K>()).collect();
    let used: Vec<Used> = pieces.iter().map(|piece| Used::of(piece)).collect::<Result<_, _>>()?;
    let values: Vec<&dyn Array> = used.iter().map(|used| used.values.as_ref()).collect();
    let (unique_keys, unique_values) = make_unique(&concat(&values)?)?;

    let mut keys: Vec<ArrayRef> = Vec::with_capacity(pieces.len());
    let mut values_before = 0;
    for (piece, used) in pieces.iter().zip(&used) {
        let own = unique_keys.slice(values_before, used.values.len());
        values_before += used.values.len();
        keys.push(Arc::new(used.rekey::<K>(piece, &own)?));
    }
    let keys = concat(&keys.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
    Ok(Arc::new(DictionaryArray::try_new(keys.as_primitive::<K>().clone(), unique_values)?))
}

/// The values of one dictionary that some key points to, in their order.
struct Used {
    values: ArrayRef,
    /// For each value of the whole dictionary its place among `values`; of no meaning for unused ones.
    places: Vec<usize>,
}

impl Used {
    fn of<K: ArrowDictionaryKeyType>(dictionary: &DictionaryArray<K>) -> Result<Used, ArrowError> {
        let occupied = dictionary.occupancy();
        let mut places = vec![0; dictionary.values().len()];
        for (place, value) in occupied.set_indices().enumerate() {
            places[value] = place;
        }
        let values = filter(dictionary.values(), &BooleanArray::new(occupied, None))?;
        Ok(Used { values, places })
    }

    /// The keys of `piece` rewritten to those that its used values have among the unique ones.
    fn rekey<K: ArrowDictionaryKeyType>(
        &self,
        piece: &DictionaryArray<K>,
        unique_keys: &PrimitiveArray<UInt32Type>,
    ) -> Result<PrimitiveArray<K>, ArrowError> {
        let new_keys = unique_keys.values().iter().map(|key| narrow::<K>(*key)).collect::<Result<Vec<_>, _>>()?;
        // Under a null lies any key at all, also one past the end; what it becomes does not matter.
        let place_of = |key: K::Native| self.places.get(key.as_usize()).copied().unwrap_or(0);
        let new_key = |key: K::Native| new_keys.get(place_of(key)).copied().unwrap_or_default();
        if unique_keys.null_count() == 0 {
            return Ok(piece.keys().unary(new_key));
        }
        // Rarely a null stands among the values: from here on it stands among the keys.
        Ok(piece.keys().unary_opt(|key| unique_keys.is_valid(place_of(key)).then(|| new_key(key))))
    }
}

/// For each of the values its key among the unique ones, and these.
fn make_unique(values: &ArrayRef) -> Result<(PrimitiveArray<UInt32Type>, ArrayRef), ArrowError> {
    let dictionary_type = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(values.data_type().clone()));
    let dictionary = cast(values, &dictionary_type)?;
    let dictionary = dictionary.as_dictionary::<UInt32Type>();
    Ok((dictionary.keys().clone(), Arc::clone(dictionary.values())))
}

fn narrow<K: ArrowPrimitiveType>(key: u32) -> Result<K::Native, ArrowError> {
    K::Native::from_usize(key as usize).ok_or(ArrowError::DictionaryKeyOverflowError)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use arrow::datatypes::{Field, Int8Type, Int32Type, Schema};

    use super::*;

    fn column<K: ArrowDictionaryKeyType>(values: &[Option<&str>], keys: Vec<Option<K::Native>>) -> RecordBatch {
        let keys = PrimitiveArray::<K>::from_iter(keys);
        let values = Arc::new(StringArray::from(values.to_vec()));
        let column = DictionaryArray::<K>::try_new(keys, values).expect("valid keys");
        let schema = Schema::new(vec![Field::new("t", column.data_type().clone(), true)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).expect("one column")
    }

    /// Texts of all rows, and the texts of the dictionary.
    fn read<K: ArrowDictionaryKeyType>(batch: &RecordBatch) -> (Vec<Option<String>>, Vec<String>) {
        let dictionary = batch.column(0).as_dictionary::<K>();
        let plain = cast(dictionary, &DataType::Utf8).expect("text");
        let own = |text: Option<&str>| text.map(str::to_owned);
        let values = dictionary.values().as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        (plain.as_string::<i32>().iter().map(own).collect(), values)
    }

    #[test]
    fn dictionaries_become_one_without_unused_or_double_values() {
        let a = column::<Int32Type>(&[Some("x"), Some("unused"), Some("y")], vec![Some(0), None, Some(2), Some(0)]);
        let b = column::<Int32Type>(&[Some("y"), Some("z"), Some("y"), None], vec![Some(2), Some(1), Some(0), Some(3)]);
        let (rows, mut values) = read::<Int32Type>(&join(&[a.clone(), b], &a.schema()).expect("joins"));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(rows, [text("x"), None, text("y"), text("x"), text("y"), text("z"), text("y"), None]);
        values.sort();
        assert_eq!(values, ["x", "y", "z"]);
    }

    #[test]
    fn a_slice_uses_only_its_own_values() {
        let texts: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
        let whole = column::<Int32Type>(&texts, (0..100).map(Some).collect());
        let (rows, values) = read::<Int32Type>(&join(&[whole.slice(40, 2)], &whole.schema()).expect("joins"));
        assert_eq!((rows, values), (vec![Some("40".into()), Some("41".into())], vec!["40".into(), "41".into()]));
    }

    #[test]
    fn narrow_keys_overflow_as_an_error() {
        let half = |from: usize| {
            let texts: Vec<String> = (from..from + 100).map(|i| i.to_string()).collect();
            column::<Int8Type>(
                &texts.iter().map(|t| Some(t.as_str())).collect::<Vec<_>>(),
                (0..100).map(Some).collect(),
            )
        };
        let schema = half(0).schema();
        let refused = join(&[half(0), half(100)], &schema).expect_err("200 values behind 8 bits");
        assert!(matches!(refused, ArrowError::DictionaryKeyOverflowError), "{refused}");
        assert!(join(&[half(0), half(0)], &schema).is_ok());
    }

    #[test]
    fn nothing_joins_to_an_empty_batch() {
        let schema = column::<Int32Type>(&[], vec![]).schema();
        let empty = join(&[], &schema).expect("joins");
        assert_eq!((empty.num_rows(), empty.schema()), (0, schema));
    }
}
