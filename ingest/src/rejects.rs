//! The rows that were not taken: why, and how they are kept.
//!
//! A rejects file is JSON Lines: one object per row with `file` (path below the data set's folder), `line` (from 1),
//! `reason`, and the row's bytes without their line end as `raw`, or as `raw_hex` where they are not UTF-8. Nothing is
//! shortened: from the file the row can be had back to the byte.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// Why a row was rejected. A row has the first reason, in this order, that applies anywhere in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A quoted field is still open at the end of the line, or has text after its closing quote.
    UnterminatedQuote,
    /// A field has more than [`FIELD_BYTES_MAX`] bytes.
    FieldTooLong,
    NulByte,
    InvalidUtf8,
    /// Fewer than 13 fields.
    MissingFields,
    /// More than 13 fields.
    ExtraFields,
    /// The first field is the word "latitude".
    Header,
    /// `utc` is not a real time written `yyyy-MM-ddTHH:mm`.
    BadTimestamp,
    /// `utc` is on another day than the folder says.
    WrongDay,
    /// A numeric field is empty or no number, or `aqi` or `category` is no whole number.
    BadNumber,
    /// A number is infinite, not a number, or too large for 64 bits.
    NotFinite,
    /// Latitude beyond ±90, longitude beyond ±180, `aqi` beyond 16 or `category` beyond 8 bits.
    OutOfRange,
    /// An accepted row of the same file has the same `full_aqs_id`, `parameter` and `utc`.
    Duplicate,
}

/// The longest field that is accepted, in bytes, without quotes and with `""` counted once.
pub const FIELD_BYTES_MAX: usize = 1 << 20;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::UnterminatedQuote => "unterminated_quote",
            Reason::FieldTooLong => "field_too_long",
            Reason::NulByte => "nul_byte",
            Reason::InvalidUtf8 => "invalid_utf8",
            Reason::MissingFields => "missing_fields",
            Reason::ExtraFields => "extra_fields",
            Reason::Header => "header",
            Reason::BadTimestamp => "bad_timestamp",
            Reason::WrongDay => "wrong_day",
            Reason::BadNumber => "bad_number",
            Reason::NotFinite => "not_finite",
            Reason::OutOfRange => "out_of_range",
            Reason::Duplicate => "duplicate",
        })
    }
}

/// One rejected row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Path below the data set's folder.
    pub file: String,
    /// Line in the file, from 1.
    pub line: u64,
    pub reason: Reason,
    /// The line without its line end, and without a byte order mark before it.
    pub raw: Vec<u8>,
}

#[derive(Serialize)]
struct Written<'a> {
    file: &'a str,
    line: u64,
    reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_hex: Option<String>,
}

/// Appends the rows as JSON Lines.
pub fn write_lines(rejects: &[Reject], out: &mut Vec<u8>) {
    for reject in rejects {
        let raw = std::str::from_utf8(&reject.raw).ok();
        let raw_hex = raw.is_none().then(|| hex(&reject.raw));
        let written = Written { file: &reject.file, line: reject.line, reason: reject.reason, raw, raw_hex };
        serde_json::to_writer(&mut *out, &written).expect("a struct of plain values written to memory");
        out.push(b'\n');
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_as_text_and_other_bytes_as_hex() {
        let reject = |raw: &[u8]| Reject { file: "f".into(), line: 3, reason: Reason::NulByte, raw: raw.to_vec() };
        let mut out = Vec::new();
        write_lines(&[reject("a\"\0é".as_bytes()), reject(b"a\xff\x00")], &mut out);
        let expected = "{\"file\":\"f\",\"line\":3,\"reason\":\"nul_byte\",\"raw\":\"a\\\"\\u0000é\"}\n\
                        {\"file\":\"f\",\"line\":3,\"reason\":\"nul_byte\",\"raw_hex\":\"61ff00\"}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_reason_is_printed_as_it_is_written_to_json() {
        for reason in [Reason::UnterminatedQuote, Reason::InvalidUtf8, Reason::NotFinite, Reason::Duplicate] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}
