//! What is known of a partition without reading it. Unknown is `None`, and unknown never prunes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch};
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
    /// The distinct spellings, sorted; `None` if there are more than [`PARAMETERS_MAX`]. Shared, because every query takes
    /// the statistics of every partition along.
    pub parameters: Option<Arc<[String]>>,
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

fn bounds<A: ArrowPrimitiveType<Native: PartialOrd>, T: From<A::Native>>(array: &ArrayRef) -> Option<Bounds<T>> {
    let array: &PrimitiveArray<A> = array.as_primitive();
    let values = array.values();
    let found = match array.nulls() {
        None => bounds_of(values, None),
        Some(nulls) => nulls.valid_slices().fold(None, |found, (start, end)| bounds_of(&values[start..end], found)),
    }?;
    Some(Bounds { min: found.min.into(), max: found.max.into() })
}

/// The bounds of values without NaN, and of what was found before. Eight of each at once, so that one comparison need
/// not wait for the one before.
fn bounds_of<T: PartialOrd + Copy>(values: &[T], found: Option<Bounds<T>>) -> Option<Bounds<T>> {
    let found = found.or_else(|| values.first().map(|&first| Bounds { min: first, max: first }))?;
    let (mut min, mut max) = ([found.min; 8], [found.max; 8]);
    let widen = |value: T, min: &mut T, max: &mut T| {
        *min = if value < *min { value } else { *min };
        *max = if value > *max { value } else { *max };
    };
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for ((value, min), max) in eight.iter().zip(&mut min).zip(&mut max) {
            widen(*value, min, max);
        }
    }
    for value in rest {
        widen(*value, &mut min[0], &mut max[0]);
    }
    let [mut least, mut greatest] = [min[0], max[0]];
    for value in min.into_iter().chain(max) {
        widen(value, &mut least, &mut greatest);
    }
    Some(Bounds { min: least, max: greatest })
}

fn distinct(array: &ArrayRef) -> Option<Arc<[String]>> {
    let array = array.as_dictionary::<Int32Type>();
    let values = array.values().as_string::<i32>();
    // A dictionary lists only what is used (see `crate::dictionary`), but a slice of a batch keeps it whole.
    let mut used = vec![false; values.len()];
    for &key in array.keys().values() {
        used[key as usize] = true;
    }
    let used: Vec<&str> = (0..values.len()).filter(|&key| used[key]).map(|key| values.value(key)).collect();
    (used.len() <= PARAMETERS_MAX).then(|| used.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn bounds_are_those_of_a_plain_loop() {
        let seed = std::env::var("OVERLAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_048_576);
        let mut random = fastrand::Rng::with_seed(seed);
        for case in 0..5000 {
            let values: Vec<Option<f64>> = (0..random.usize(0..40))
                .map(|_| (random.u8(0..4) > 0).then(|| f64::from(random.i32(-1000..1000)) / 10.0))
                .collect();
            let expected = values.iter().flatten().fold(None, |found: Option<Bounds<f64>>, &value| {
                let Bounds { min, max } = found.unwrap_or(Bounds { min: value, max: value });
                Some(Bounds { min: value.min(min), max: value.max(max) })
            });
            let array: ArrayRef = Arc::new(Float64Array::from(values.clone()));
            assert_eq!(bounds::<Float64Type, f64>(&array), expected, "seed {seed}, case {case}: {values:?}");
        }
    }
}
