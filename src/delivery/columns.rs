//! Whether rows have the columns they should have: same names and types in the same order. Nullability and metadata may
//! differ, since the same rows pass through plans that know more or less about them.

use arrow::datatypes::{Fields, Schema};

/// Columns that are not those expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("columns are ({actual}), expected ({expected})")]
pub struct OtherColumns {
    /// What was expected: names and types.
    pub expected: String,
    /// What came.
    pub actual: String,
}

/// Compares the columns of two schemas.
pub(super) fn check(expected: &Schema, actual: &Schema) -> Result<(), OtherColumns> {
    let (expected, actual) = (expected.fields(), actual.fields());
    let same = expected.len() == actual.len()
        && expected.iter().zip(actual).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
    if same { Ok(()) } else { Err(OtherColumns { expected: list(expected), actual: list(actual) }) }
}

fn list(fields: &Fields) -> String {
    let texts: Vec<String> = fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    texts.join(", ")
}
