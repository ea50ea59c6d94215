//! What is known of a partition without reading it. Unknown is `None`, and unknown never prunes.

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int8Type, Int16Type, Int32Type, TimestampSecondType};
use serde::{Deserialize, Serialize};

/// More distinct parameters than this are not listed.
pub const PARAMETERS_MAX: usize = 64;

/// The least and the greatest value that is not null, both included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds<T> {
    pub min: T,
    pub max: T,
}

/// Rows and bounds of a partition. A column without a value (no rows, or only nulls) has no bounds.
#[derive(Default, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionStats {
    pub rows: u64,
    /// The distinct spellings, sorted; `None` if there are more than [`PARAMETERS_MAX`].
    pub parameters: Option<Vec<String>>,
    /// Degrees north.
    pub latitude: Option<Bounds<f64>>,
    /// Degrees east.
    pub longitude: Option<Bounds<f64>>,
    /// Unix seconds.
    pub utc: Option<Bounds<i64>>,
    pub concentration: Option<Bounds<f64>>,
    pub raw_concentration: Option<Bounds<f64>>,
    pub aqi: Option<Bounds<i64>>,
    pub category: Option<Bounds<i64>>,
}

impl PartitionStats {
    /// Of a batch of `observations`.
    ///
    /// # Panics
    /// If a column is missing or has another type.
    pub fn of(batch: &RecordBatch) -> PartitionStats {
        let column = |name| batch.column_by_name(name).expect("a batch of observations has its 13 columns");
        let floats = |name| bounds::<Float64Type, f64>(column(name));
        PartitionStats {
            rows: batch.num_rows() as u64,
            parameters: distinct(column("parameter")),
            latitude: floats("latitude"),
            longitude: floats("longitude"),
            utc: bounds::<TimestampSecondType, i64>(column("utc")),
            concentration: floats("concentration"),
            raw_concentration: floats("raw_concentration"),
            aqi: bounds::<Int16Type, i64>(column("aqi")),
            category: bounds::<Int8Type, i64>(column("category")),
        }
    }
}

fn bounds<A: ArrowPrimitiveType, T: From<A::Native> + PartialOrd + Copy>(array: &ArrayRef) -> Option<Bounds<T>> {
    let array: &PrimitiveArray<A> = array.as_primitive();
    let mut values = array.iter().flatten().map(T::from);
    let first = values.next()?;
    Some(values.fold(Bounds { min: first, max: first }, |Bounds { min, max }, value| Bounds {
        min: if value < min { value } else { min },
        max: if value > max { value } else { max },
    }))
}

fn distinct(array: &ArrayRef) -> Option<Vec<String>> {
    let array = array.as_dictionary::<Int32Type>();
    let values = array.values().as_string::<i32>();
    // A dictionary lists only what is used (see `crate::dictionary`), but a slice of a batch keeps it whole.
    let keys: BTreeSet<i32> = array.keys().values().iter().copied().collect();
    (keys.len() <= PARAMETERS_MAX).then(|| keys.iter().map(|&key| values.value(key as usize).to_owned()).collect())
}
