//! Writes rows as JSON objects, one after the other.
//!
//! A text that many rows share is escaped once a batch, when the first row needs it; after that a row copies it with its
//! name. Numbers and times are written by hand where that is sure to give what Arrow's own writer gives; whatever is left
//! over, a single value or a whole column, is written by that. The differential test below holds both equal byte by byte.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, DictionaryArray, Float64Array, PrimitiveArray, RecordBatch,
    StringArray, downcast_dictionary_array,
};
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, DataType, FieldRef, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use overlay_ingest::Date;

/// Appends each row as an object, separated by commas. `is_first`: no row was written before these; false afterwards if
/// there were any.
pub(super) fn rows(batch: &RecordBatch, is_first: &mut bool, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let options = EncoderOptions::default();
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(batch.columns()).enumerate();
    let columns = fields.map(|(place, (field, column))| Column::of(place, field, column, &options));
    let mut columns = columns.collect::<Result<Vec<Column<'_>>, ArrowError>>()?;
    for row in 0..batch.num_rows() {
        if !std::mem::take(is_first) {
            out.push(b',');
        }
        if columns.is_empty() {
            out.push(b'{');
        }
        for column in &mut columns {
            column.write(row, out);
        }
        out.push(b'}');
    }
    Ok(())
}

struct Column<'a> {
    /// What stands before each value: its name, and what divides it from the value before.
    name: Vec<u8>,
    quick: Option<Box<dyn Quick + 'a>>,
    /// Arrow's own way, for what has no quicker one. It also knows which values are missing.
    arrow: NullableEncoder<'a>,
    has_nulls: bool,
}

/// A quick way to write the values of a column.
trait Quick {
    /// Writes a value that is not missing, and before it `name`, which is the same for all; false, having written nothing,
    /// if the value is not one for this way.
    fn write(&mut self, name: &[u8], row: usize, out: &mut Vec<u8>) -> bool;
}

impl<'a> Column<'a> {
    fn of(
        place: usize,
        field: &'a FieldRef,
        values: &'a ArrayRef,
        options: &'a EncoderOptions,
    ) -> Result<Column<'a>, ArrowError> {
        let mut name = vec![if place == 0 { b'{' } else { b',' }];
        escape(field.name(), &mut name);
        name.push(b':');
        let arrow = make_encoder(field, values.as_ref(), options)?;
        Ok(Column { name, quick: quick(values), has_nulls: arrow.has_nulls(), arrow })
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        let is_null = self.has_nulls && self.arrow.is_null(row);
        if !is_null && self.quick.as_mut().is_some_and(|quick| quick.write(&self.name, row, out)) {
            return;
        }
        out.extend_from_slice(&self.name);
        match is_null {
            true => out.extend_from_slice(b"null"),
            false => self.arrow.encode(row, out),
        }
    }
}

fn quick(values: &ArrayRef) -> Option<Box<dyn Quick + '_>> {
    Some(match values.data_type() {
        DataType::Int8 => Box::new(Integers(values.as_primitive::<Int8Type>())),
        DataType::Int16 => Box::new(Integers(values.as_primitive::<Int16Type>())),
        DataType::Int32 => Box::new(Integers(values.as_primitive::<Int32Type>())),
        DataType::Int64 => Box::new(Integers(values.as_primitive::<Int64Type>())),
        DataType::Float64 => Box::new(Floats(values.as_primitive())),
        DataType::Timestamp(TimeUnit::Second, Some(zone)) if zone.as_ref() == "UTC" => {
            Box::new(Times { values: values.as_primitive(), day: i64::MIN, text: [0; DAY_BYTES] })
        }
        DataType::Dictionary(_, texts) if **texts == DataType::Utf8 => downcast_dictionary_array!(
            values => Box::new(Texts::of(values)?),
            _ => return None
        ),
        _ => return None,
    })
}

struct Integers<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType> Quick for Integers<'_, T>
where
    T::Native: Into<i64>,
{
    fn write(&mut self, name: &[u8], row: usize, out: &mut Vec<u8>) -> bool {
        let value: i64 = self.0.value(row).into();
        out.extend_from_slice(name);
        if value < 0 {
            out.push(b'-');
        }
        digits(value.unsigned_abs(), out);
        true
    }
}

struct Floats<'a>(&'a Float64Array);

/// Numbers from here on may be written with an exponent. Those below have at most nine digits before the point, and so
/// with six behind it at most 15.
const FLOAT_MAX: f64 = 1e9;
/// The same for small ones.
const FLOAT_MIN: f64 = 1e-3;

impl Quick for Floats<'_> {
    /// Writes whole tenths and whole millionths: what is measured, and places.
    ///
    /// A decimal number of at most 15 digits is told from every other such number by the double nearest to it. So if
    /// `whole / scale` is the value to the last bit, its digits are the shortest that stand for this value and no other:
    /// fewer digits would be another number of at most 15 digits, and another double.
    fn write(&mut self, name: &[u8], row: usize, out: &mut Vec<u8>) -> bool {
        let value = self.0.value(row);
        let size = value.abs();
        // Not for NaN, and not for a zero below zero.
        if !(FLOAT_MIN..FLOAT_MAX).contains(&size) && value.to_bits() != 0 {
            return false;
        }
        for (scale, places) in [(10, 1), (1_000_000, 6)] {
            let whole = (size * scale as f64).round() as u64;
            if whole as f64 / scale as f64 == size {
                out.extend_from_slice(name);
                if value < 0.0 {
                    out.push(b'-');
                }
                digits(whole / scale, out);
                out.push(b'.');
                fraction(whole % scale, places, out);
                return true;
            }
        }
        false
    }
}

/// The digits behind the point without zeros at their end, but at least one.
fn fraction(mut number: u64, places: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + places, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    let kept = out[start + 1..].iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 2);
    out.truncate(start + kept);
}

fn digits(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// Of `"2020-08-18T`.
const DAY_BYTES: usize = 12;
const DAY_SECONDS: i64 = 86_400;

/// Times in UTC: neighbours are of the same day.
struct Times<'a> {
    values: &'a PrimitiveArray<TimestampSecondType>,
    /// Days since 1970-01-01 of `text`; the least number there is: of none.
    day: i64,
    text: [u8; DAY_BYTES],
}

impl Quick for Times<'_> {
    fn write(&mut self, name: &[u8], row: usize, out: &mut Vec<u8>) -> bool {
        let seconds = self.values.value(row);
        let day = seconds.div_euclid(DAY_SECONDS);
        if day != self.day {
            let Some(date) = Date::of_unix_seconds(seconds) else { return false };
            let (year, month, of_month) = date.ymd();
            let text = format!("\"{year:04}-{month:02}-{of_month:02}T");
            let Ok(text) = text.into_bytes().try_into() else { return false };
            (self.day, self.text) = (day, text);
        }
        let second = seconds.rem_euclid(DAY_SECONDS) as u64;
        let [hour, minute, second] = [second / 3600, second / 60 % 60, second % 60].map(two_digits);
        out.extend_from_slice(name);
        out.extend_from_slice(&self.text);
        out.extend_from_slice(&[hour[0], hour[1], b':', minute[0], minute[1], b':', second[0], second[1], b'Z', b'"']);
        true
    }
}

fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]
}

/// Texts of a dictionary.
struct Texts<'a, K: ArrowDictionaryKeyType> {
    keys: &'a PrimitiveArray<K>,
    texts: &'a StringArray,
    /// Where each text lies in `escaped`, with the column's name before it and its quotes; nowhere before a row needed it: rows of a few sites bring the
    /// dictionary of a whole day along.
    places: Vec<(usize, usize)>,
    escaped: Vec<u8>,
}

impl<'a, K: ArrowDictionaryKeyType> Texts<'a, K> {
    /// `None`: there is a null among the texts, which is Arrow's to write.
    fn of(dictionary: &'a DictionaryArray<K>) -> Option<Texts<'a, K>> {
        let texts: &StringArray = dictionary.values().as_string();
        let places = vec![(0, 0); texts.len()];
        (texts.null_count() == 0).then_some(Texts { keys: dictionary.keys(), texts, places, escaped: Vec::new() })
    }
}

impl<K: ArrowDictionaryKeyType> Quick for Texts<'_, K> {
    fn write(&mut self, name: &[u8], row: usize, out: &mut Vec<u8>) -> bool {
        let key = self.keys.value(row).as_usize();
        let place = &mut self.places[key];
        // Even an empty text has two quotes.
        if place.1 == 0 {
            let start = self.escaped.len();
            self.escaped.extend_from_slice(name);
            escape(self.texts.value(key), &mut self.escaped);
            *place = (start, self.escaped.len());
        }
        out.extend_from_slice(&self.escaped[place.0..place.1]);
        true
    }
}

/// As a JSON text, quotes included.
fn escape(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text can be written, and memory takes all of it");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Date32Array, StringViewArray, TimestampSecondArray};
    use arrow::array::{Int8Array, Int16Array, Int32Array, Int64Array};
    use arrow::json::writer::{JsonArray, WriterBuilder};

    use super::*;

    /// Holds the bytes equal to those of Arrow's writer, for the batch whole and for parts of it.
    fn check(columns: Vec<(&str, ArrayRef)>) {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
                .unwrap();
        for (from, rows) in [(0, batch.num_rows()), (1, 3), (batch.num_rows() / 2, 5), (0, 0)] {
            let rows = rows.min(batch.num_rows().saturating_sub(from));
            let part = batch.slice(from.min(batch.num_rows()), rows);
            let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
            writer.write(&part).unwrap();
            writer.write(&part).unwrap();
            writer.finish().unwrap();
            let (mut ours, mut is_first) = (vec![b'['], true);
            super::rows(&part, &mut is_first, &mut ours).unwrap();
            super::rows(&part, &mut is_first, &mut ours).unwrap();
            ours.push(b']');
            assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(writer.into_inner()).unwrap());
        }
    }

    fn sometimes<T>(random: &mut fastrand::Rng, value: T) -> Option<T> {
        Some(value).filter(|_| random.u8(..) > 20)
    }

    const TEXTS: [&str; 9] = [
        "",
        "Deer Park",
        "O'Fallon \"North\"",
        "back\\slash / slash",
        "tab\t newline\n return\r bell\u{7} null\u{0} delete\u{7f}",
        "São Paulo, 北京, 🦀",
        "line\u{2028}paragraph\u{2029}",
        "null",
        "</script>",
    ];

    #[test]
    fn every_byte_is_that_of_arrows_writer() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let random = &mut random;
            let count = random.usize(0..200);
            let mut floats = |make: &mut dyn FnMut(&mut fastrand::Rng) -> f64| -> ArrayRef {
                let values = (0..count).map(|_| {
                    let value = make(random);
                    sometimes(random, value)
                });
                Arc::new(Float64Array::from_iter(values))
            };
            let tenths = floats(&mut |random| f64::from(random.i32(-30_000..30_000)) / 10.0);
            let places = floats(&mut |random| f64::from(random.i32(-180_000_000..180_000_000)) / 1e6);
            let bits = floats(&mut |random| f64::from_bits(random.u64(..)));
            let wide = floats(&mut |random| random.f64() * 10_f64.powi(random.i32(-12..16)));
            let whole = floats(&mut |random| (random.f64() * 10_f64.powi(random.i32(0..18))).round());
            let edges = [
                0.0,
                -0.0,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                1e9,
                999_999_999.9,
                1e-3,
                0.000_999,
                1e-6,
                1e-5,
                0.1 + 0.2,
                1.0,
                -1.0,
                5e-324,
                f64::MAX,
                999_999_999.999_999,
                123_456_789.123_456,
                1e15,
                1e16,
                0.5,
            ];
            let edges = floats(&mut |random| edges[random.usize(..edges.len())]);
            let texts: DictionaryArray<Int32Type> = (0..count)
                .map(|_| {
                    let text = TEXTS[random.usize(..TEXTS.len())];
                    sometimes(random, text)
                })
                .collect();
            let few: DictionaryArray<Int8Type> = (0..count).map(|_| Some(TEXTS[random.usize(..3)])).collect();
            let seconds: Vec<i64> = (0..count)
                .map(|_| match random.u8(0..8) {
                    0 => random.i64(-62_167_219_200..253_402_300_800),
                    1 => [-1, 0, -62_167_219_200, -62_167_219_201, 253_402_300_799, 253_402_300_800][random.usize(..6)],
                    _ => 1_597_017_600 + 3600 * random.i64(0..1000),
                })
                .collect();
            let utc = TimestampSecondArray::from(seconds.clone()).with_timezone("UTC");
            let offset = TimestampSecondArray::from(seconds.clone()).with_timezone("+00:00");
            let local = TimestampSecondArray::from(seconds);
            let plain: StringViewArray = (0..count).map(|_| Some(TEXTS[random.usize(..TEXTS.len())])).collect();
            check(vec![
                ("tenths", tenths),
                ("places", places),
                ("bits", bits),
                ("wide", wide),
                ("whole", whole),
                ("edges", edges),
                ("texts \"quoted\"", Arc::new(texts)),
                ("few", Arc::new(few)),
                ("utc", Arc::new(utc)),
                ("offset", Arc::new(offset)),
                ("local", Arc::new(local)),
                ("plain", Arc::new(plain)),
                ("i8", Arc::new((0..count).map(|_| sometimes(random, random.clone().i8(..))).collect::<Int8Array>())),
                ("i16", Arc::new((0..count).map(|_| Some(random.i16(..))).collect::<Int16Array>())),
                ("i32", Arc::new((0..count).map(|_| Some(random.i32(..))).collect::<Int32Array>())),
                (
                    "i64",
                    Arc::new(
                        (0..count).map(|row| [Some(i64::MIN), Some(i64::MAX), None][row % 3]).collect::<Int64Array>(),
                    ),
                ),
                ("day", Arc::new((0..count).map(|_| Some(random.i32(-9999..99_999))).collect::<Date32Array>())),
                ("is", Arc::new((0..count).map(|_| Some(random.bool())).collect::<BooleanArray>())),
            ]);
        }
    }

    #[test]
    fn a_null_among_the_texts_is_written_as_arrow_does() {
        let texts = Arc::new(StringArray::from(vec![Some("a"), None]));
        let dictionary = DictionaryArray::<Int32Type>::try_new(vec![0, 1, 0, 1].into(), texts).unwrap();
        check(vec![("t", Arc::new(dictionary))]);
        check(vec![("n", Arc::new(arrow::array::NullArray::new(3)))]);
    }
}
