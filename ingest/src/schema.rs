//! What a row is: the columns of `observations`, and how rows are laid out in zones.
//!
//! Everything here is part of a partition's id: changing it makes every cache a different one.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Version of parser, order and layout. Raise it when equal bytes of CSV would give other rows or other zones.
pub const LAYOUT_VERSION: u32 = 2;

/// Rows of a zone, the unit of scan, acceptance and retry. Fewer: finer pruning and quicker cancels, but more jobs
/// and messages. More: the opposite.
pub const ZONE_ROWS: usize = 8192;

/// Columns of a record, and so fields of a line.
pub(crate) const COLUMN_COUNT: usize = 13;

/// The part of the layout that tests may lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Rows of every zone of a partition but the last; at least 1.
    pub zone_rows: usize,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout { zone_rows: ZONE_ROWS }
    }
}

/// The 13 columns of `observations`, in the order of the file.
///
/// Null stands for -999 and exists only in the four measured columns. Text is a dictionary: a day has six parameters
/// and a few thousand sites.
pub fn observations() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let number = DataType::Float64;
        Arc::new(Schema::new(vec![
            Field::new("latitude", number.clone(), false),
            Field::new("longitude", number.clone(), false),
            Field::new("utc", DataType::Timestamp(TimeUnit::Second, Some("UTC".into())), false),
            Field::new("parameter", text.clone(), false),
            Field::new("concentration", number.clone(), true),
            Field::new("unit", text.clone(), false),
            Field::new("raw_concentration", number, true),
            Field::new("aqi", DataType::Int16, true),
            Field::new("category", DataType::Int8, true),
            Field::new("site_name", text.clone(), false),
            Field::new("agency", text.clone(), false),
            Field::new("aqs_id", text.clone(), false),
            Field::new("full_aqs_id", text, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The schema as the text that goes into a partition's id. Written by hand from names, types and nullability, so that
/// a new release of arrow, which may print types otherwise, does not rename every partition.
pub(crate) fn schema_text() -> &'static str {
    "latitude f64, longitude f64, utc timestamp(second, UTC), parameter text, concentration f64 null, unit text, \
     raw_concentration f64 null, aqi i16 null, category i8 null, site_name text, agency text, aqs_id text, \
     full_aqs_id text"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_the_schema_says() {
        let schema = observations();
        let written: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| {
                let kind = match field.data_type() {
                    DataType::Float64 => "f64",
                    DataType::Int16 => "i16",
                    DataType::Int8 => "i8",
                    DataType::Timestamp(TimeUnit::Second, Some(zone)) if &**zone == "UTC" => "timestamp(second, UTC)",
                    DataType::Dictionary(_, _) => "text",
                    other => panic!("{other}"),
                };
                format!("{} {kind}{}", field.name(), if field.is_nullable() { " null" } else { "" })
            })
            .collect();
        assert_eq!(written.join(", "), schema_text());
        assert_eq!(schema.fields().len(), COLUMN_COUNT);
    }
}
