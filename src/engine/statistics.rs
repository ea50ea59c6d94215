//! Least and greatest values, in the form DataFusion's pruning asks for: of the zones of a held partition, and of
//! the partitions of a manifest. What is not known is null, and null never prunes.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampSecondArray,
    UInt64Array,
};
use arrow::compute::{max, min};
use arrow::datatypes::{
    DataType, Float64Type, Int8Type, Int16Type, Int32Type, SchemaRef, TimeUnit, TimestampSecondType,
};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use overlay_ingest::stats::Bounds;
use overlay_ingest::{PartitionFile, PartitionStats, observations};

use super::store::Zone;

/// Per column, one entry a zone.
#[derive(Debug)]
pub struct ZoneMap {
    schema: SchemaRef,
    columns: Vec<Option<ColumnBounds>>,
    rows: ArrayRef,
}

#[derive(Debug)]
struct ColumnBounds {
    min: ArrayRef,
    max: ArrayRef,
    null_count: ArrayRef,
}

impl ZoneMap {
    /// Reads every value of the zones once.
    pub fn of(zones: &[Zone]) -> ZoneMap {
        let schema = Arc::clone(zones[0].rows.schema());
        let batches: Vec<RecordBatch> = zones.iter().map(Zone::batch).collect();
        let columns = (0..schema.fields().len()).map(|column| bounds_of(&batches, column)).collect();
        let rows = UInt64Array::from_iter_values(zones.iter().map(|zone| zone.rows.len() as u64));
        ZoneMap { schema, columns, rows: Arc::new(rows) }
    }

    /// From what a file says of its pages, without reading any.
    pub fn of_file(file: &PartitionFile) -> ZoneMap {
        let schema = observations();
        let bounds = |column| {
            let bounds = file.bounds(column)?;
            let null_count = Arc::new(bounds.null_count.clone());
            Some(ColumnBounds { min: Arc::clone(&bounds.min), max: Arc::clone(&bounds.max), null_count })
        };
        let columns = (0..schema.fields().len()).map(bounds).collect();
        // A partition without rows has one zone.
        let rows = (0..file.zone_count().max(1)).map(|zone| file.rows_of(zone) as u64);
        ZoneMap { columns, rows: Arc::new(UInt64Array::from_iter_values(rows)), schema }
    }

    /// The table's schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The same of some of the zones, as far as there are so many; nothing is copied.
    pub fn slice(&self, start: usize, zones: usize) -> ZoneMap {
        let start = start.min(self.rows.len());
        let zones = zones.min(self.rows.len() - start);
        let slice = |array: &ArrayRef| array.slice(start, zones);
        let columns = self.columns.iter().map(|column| {
            let column = column.as_ref()?;
            let (min, max) = (slice(&column.min), slice(&column.max));
            Some(ColumnBounds { min, max, null_count: slice(&column.null_count) })
        });
        ZoneMap { schema: Arc::clone(&self.schema), columns: columns.collect(), rows: slice(&self.rows) }
    }

    fn bounds(&self, column: &Column) -> Option<&ColumnBounds> {
        let index = self.schema.index_of(&column.name).ok()?;
        self.columns[index].as_ref()
    }
}

fn bounds_of(zones: &[RecordBatch], column: usize) -> Option<ColumnBounds> {
    let mut mins = Vec::with_capacity(zones.len());
    let mut maxs = Vec::with_capacity(zones.len());
    let ascending = is_ascending(zones, column);
    for zone in zones {
        let (low, high) = range_of(zone, column, ascending)?;
        mins.push(low);
        maxs.push(high);
    }
    let null_count = zones.iter().map(|zone| zone.column(column).null_count() as u64);
    Some(ColumnBounds {
        min: ScalarValue::iter_to_array(mins).ok()?,
        max: ScalarValue::iter_to_array(maxs).ok()?,
        null_count: Arc::new(UInt64Array::from_iter_values(null_count)),
    })
}

/// Whether the zones share one dictionary with its texts in ascending order, as ingest makes them: then the order of keys
/// is that of texts, and no text has to be compared for each zone.
fn is_ascending(zones: &[RecordBatch], column: usize) -> bool {
    let mut dictionaries = zones.iter().map(|zone| Some(zone.column(column).as_any_dictionary_opt()?.values()));
    let Some(Some(first)) = dictionaries.next() else { return false };
    let Some(texts) = first.as_string_opt::<i32>() else { return false };
    let shared = dictionaries.all(|other| other.is_some_and(|other| Arc::ptr_eq(first, other)));
    shared && texts.null_count() == 0 && (1..texts.len()).all(|key| texts.value(key - 1) <= texts.value(key))
}

/// The least and greatest value of a column, null if there is none; `None` for a type that is not looked at.
fn range_of(batch: &RecordBatch, column: usize, ascending: bool) -> Option<(ScalarValue, ScalarValue)> {
    let array = batch.column(column);
    Some(match array.data_type() {
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            (ScalarValue::Float64(min(array)), ScalarValue::Float64(max(array)))
        }
        DataType::Int16 => {
            let array = array.as_primitive::<Int16Type>();
            (ScalarValue::Int16(min(array)), ScalarValue::Int16(max(array)))
        }
        DataType::Int8 => {
            let array = array.as_primitive::<Int8Type>();
            (ScalarValue::Int8(min(array)), ScalarValue::Int8(max(array)))
        }
        DataType::Timestamp(TimeUnit::Second, zone) => {
            let array = array.as_primitive::<TimestampSecondType>();
            let of = |value| ScalarValue::TimestampSecond(value, zone.clone());
            (of(min(array)), of(max(array)))
        }
        DataType::Dictionary(key, _) if **key == DataType::Int32 => {
            let array = array.as_dictionary::<Int32Type>();
            let values = array.values().as_string_opt::<i32>()?;
            let mut used = vec![false; values.len()];
            for key in array.keys().iter().flatten() {
                used[key as usize] = true;
            }
            let of = |value: Option<&str>| ScalarValue::Utf8(value.map(str::to_owned));
            if ascending {
                let text = |key: Option<usize>| of(key.map(|key| values.value(key)));
                (text(used.iter().position(|used| *used)), text(used.iter().rposition(|used| *used)))
            } else {
                let used = || used.iter().enumerate().filter(|(_, used)| **used).map(|(key, _)| values.value(key));
                (of(used().min()), of(used().max()))
            }
        }
        _ => return None,
    })
}

impl PruningStatistics for ZoneMap {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| Arc::clone(&bounds.min))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| Arc::clone(&bounds.max))
    }

    fn num_containers(&self) -> usize {
        self.rows.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| Arc::clone(&bounds.null_count))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::clone(&self.rows))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// The statistics of a list of partitions, one entry each; `None` where nothing is known yet.
pub struct PartitionBounds<'a>(pub Vec<Option<&'a PartitionStats>>);

impl PartitionBounds<'_> {
    fn floats(&self, of: impl Fn(&PartitionStats) -> Option<f64>) -> ArrayRef {
        Arc::new(Float64Array::from_iter(self.0.iter().map(|stats| stats.and_then(&of))))
    }

    fn integers(&self, of: impl Fn(&PartitionStats) -> Option<i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter(self.0.iter().map(|stats| stats.and_then(&of))))
    }

    fn column(&self, name: &str, side: fn(Bounds<f64>) -> f64, whole: fn(Bounds<i64>) -> i64) -> Option<ArrayRef> {
        Some(match name {
            "latitude" => self.floats(|stats| stats.latitude.map(side)),
            "longitude" => self.floats(|stats| stats.longitude.map(side)),
            "concentration" => self.floats(|stats| stats.concentration.map(side)),
            "raw_concentration" => self.floats(|stats| stats.raw_concentration.map(side)),
            "aqi" => self.integers(|stats| stats.aqi.map(whole)),
            "category" => self.integers(|stats| stats.category.map(whole)),
            "utc" => {
                let seconds = self.0.iter().map(|stats| stats.and_then(|stats| stats.utc.map(whole)));
                Arc::new(TimestampSecondArray::from_iter(seconds).with_timezone("UTC"))
            }
            _ => return None,
        })
    }

    fn parameters(&self, pick: fn(&[String]) -> Option<&String>) -> ArrayRef {
        let value = |stats: &&PartitionStats| stats.parameters.as_deref().and_then(pick).cloned();
        Arc::new(StringArray::from_iter(self.0.iter().map(|stats| stats.as_ref().and_then(value))))
    }
}

impl PruningStatistics for PartitionBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name.as_str() {
            "parameter" => Some(self.parameters(|names| names.iter().min())),
            name => self.column(name, |bounds| bounds.min, |bounds| bounds.min),
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name.as_str() {
            "parameter" => Some(self.parameters(|names| names.iter().max())),
            name => self.column(name, |bounds| bounds.max, |bounds| bounds.max),
        }
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter(self.0.iter().map(|stats| stats.map(|stats| stats.rows)))))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name != "parameter" {
            return None;
        }
        let texts: Option<Vec<&str>> = values.iter().map(|value| value.try_as_str().flatten()).collect();
        let texts = texts?;
        // False says that none of the values occurs; true would say that nothing else does, which is not claimed.
        let absent = |stats: &&PartitionStats| {
            let names = stats.parameters.as_ref()?;
            (!names.iter().any(|name| texts.contains(&name.as_str()))).then_some(false)
        };
        Some(BooleanArray::from_iter(self.0.iter().map(|stats| stats.as_ref().and_then(absent))))
    }
}
