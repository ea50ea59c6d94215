//! Fields to typed values: the rejections that need meaning, and the columns of a day in the making.
//!
//! Invariant: a row is pushed to every column or to none, and a rejected row leaves no trace, not even in a
//! dictionary.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::csv::Fields;
use crate::date::Date;
use crate::dictionary::Interner;
use crate::rejects::Reason;

/// What -999 stands for in the measured columns, and only there.
const MISSING: f64 = -999.0;

/// The accepted rows of one day, column by column, in the order of files and lines.
pub(crate) struct DayRows {
    date: Date,
    last_utc: LastUtc,
    /// (full_aqs_id, parameter, minute of the day) of the accepted rows of the file at hand.
    seen: HashSet<(u32, u32, u32), BuildHasherDefault<KeyHasher>>,
    pub(crate) latitude: Vec<f64>,
    pub(crate) longitude: Vec<f64>,
    pub(crate) minute: Vec<u32>,
    pub(crate) concentration: Vec<Option<f64>>,
    pub(crate) raw_concentration: Vec<Option<f64>>,
    pub(crate) aqi: Vec<Option<i16>>,
    pub(crate) category: Vec<Option<i8>>,
    pub(crate) parameter: TextColumn,
    pub(crate) unit: TextColumn,
    pub(crate) site_name: TextColumn,
    pub(crate) agency: TextColumn,
    pub(crate) aqs_id: TextColumn,
    pub(crate) full_aqs_id: TextColumn,
}

/// A text column: numbers, and the interner that knows what they stand for.
pub(crate) struct TextColumn {
    pub(crate) ids: Vec<u32>,
    pub(crate) interner: Interner,
}

impl TextColumn {
    fn new() -> TextColumn {
        TextColumn { ids: Vec::new(), interner: Interner::new() }
    }

    fn push(&mut self, text: &[u8]) {
        let id = self.interner.intern(text);
        self.ids.push(id);
    }
}

impl DayRows {
    pub(crate) fn new(date: Date) -> DayRows {
        DayRows {
            date,
            last_utc: LastUtc { text: [0; UTC_BYTES], minute: 0 },
            seen: HashSet::default(),
            latitude: Vec::new(),
            longitude: Vec::new(),
            minute: Vec::new(),
            concentration: Vec::new(),
            raw_concentration: Vec::new(),
            aqi: Vec::new(),
            category: Vec::new(),
            parameter: TextColumn::new(),
            unit: TextColumn::new(),
            site_name: TextColumn::new(),
            agency: TextColumn::new(),
            aqs_id: TextColumn::new(),
            full_aqs_id: TextColumn::new(),
        }
    }

    pub(crate) fn date(&self) -> Date {
        self.date
    }

    pub(crate) fn len(&self) -> usize {
        self.latitude.len()
    }

    /// From here on rows are duplicates only of each other: two files may say the same.
    pub(crate) fn begin_file(&mut self) {
        self.seen.clear();
    }

    /// Takes a row, or says the first reason that applies anywhere in it.
    pub(crate) fn push(&mut self, fields: &Fields) -> Result<(), Reason> {
        let [latitude, longitude, utc, parameter, concentration, unit, raw, aqi, category, site, agency, aqs, full] =
            *fields;
        if latitude.eq_ignore_ascii_case(b"latitude") {
            return Err(Reason::Header);
        }
        let minute = self.last_utc.decode(utc, self.date)?;

        let numbers = [latitude, longitude, concentration, raw].map(number);
        let wholes = [aqi, category].map(whole_number);
        // Any bad number of the row comes before any that is not finite, whichever column comes first.
        if let Some(reason) = numbers.iter().chain(&wholes).filter_map(|value| value.err()).min() {
            return Err(reason);
        }
        let [latitude, longitude, concentration, raw] = numbers.map(|value| value.unwrap_or(f64::NAN));
        let [aqi, category] = wholes.map(|value| value.unwrap_or(f64::NAN));
        let aqi = in_bounds(aqi, i16::MIN.into(), i16::MAX.into())?;
        let category = in_bounds(category, i8::MIN.into(), i8::MAX.into())?;
        if latitude.abs() > 90.0 || longitude.abs() > 180.0 {
            return Err(Reason::OutOfRange);
        }

        // A duplicate repeats texts that are there already, so numbering them first leaves no trace.
        let parameter = self.parameter.interner.intern(parameter);
        let full = self.full_aqs_id.interner.intern(full);
        if !self.seen.insert((full, parameter, minute)) {
            return Err(Reason::Duplicate);
        }
        self.latitude.push(latitude);
        self.longitude.push(longitude);
        self.minute.push(minute);
        self.concentration.push(measured(concentration));
        self.raw_concentration.push(measured(raw));
        self.aqi.push(aqi.map(|value| value as i16));
        self.category.push(category.map(|value| value as i8));
        self.parameter.ids.push(parameter);
        self.unit.push(unit);
        self.site_name.push(site);
        self.agency.push(agency);
        self.aqs_id.push(aqs);
        self.full_aqs_id.ids.push(full);
        Ok(())
    }
}

fn measured(value: f64) -> Option<f64> {
    (value != MISSING).then_some(value)
}

/// A measured whole number within its bounds, or none if it is missing. -999 is missing also where the bounds would
/// refuse it.
fn in_bounds(value: f64, min: f64, max: f64) -> Result<Option<f64>, Reason> {
    match measured(value) {
        Some(value) if !(min..=max).contains(&value) => Err(Reason::OutOfRange),
        value => Ok(value),
    }
}

fn whole_number(text: &[u8]) -> Result<f64, Reason> {
    let value = number(text)?;
    if value.fract() == 0.0 { Ok(value) } else { Err(Reason::BadNumber) }
}

/// A decimal number, correctly rounded: `BadNumber` if it is none, `NotFinite` if it is infinite or NaN.
///
/// Up to 15 digits with a point among them are read by hand: both the digits as one integer and the power of ten are
/// exact in 64-bit floats then, so their quotient is rounded once and equals what `str::parse` gives. A test says so.
fn number(text: &[u8]) -> Result<f64, Reason> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 16 {
        return any_number(text);
    }
    let mut mantissa = 0u64;
    let mut point = None;
    for (index, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() && index > 0 => point = Some(index),
            _ => return any_number(text),
        }
    }
    let decimals = point.map_or(0, |point| digits.len() - 1 - point);
    if mantissa >= 1 << 53 || (point.is_some() && decimals == 0) {
        return any_number(text);
    }
    let value = mantissa as f64 / POWERS_OF_TEN[decimals];
    Ok(if negative { -value } else { value })
}

const POWERS_OF_TEN: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Everything else that Rust calls a float: exponents, a leading plus, many digits, infinities, NaN.
#[cold]
fn any_number(text: &[u8]) -> Result<f64, Reason> {
    let value: f64 = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Reason::BadNumber)?;
    if value.is_finite() { Ok(value) } else { Err(Reason::NotFinite) }
}

const UTC_BYTES: usize = "yyyy-MM-ddTHH:mm".len();

/// The time that was decoded last: all rows of a file have the same one.
struct LastUtc {
    text: [u8; UTC_BYTES],
    minute: u32,
}

impl LastUtc {
    /// The minute of the day that `yyyy-MM-ddTHH:mm` names, if it is on that day.
    fn decode(&mut self, text: &[u8], date: Date) -> Result<u32, Reason> {
        if text == self.text {
            return Ok(self.minute);
        }
        let text: &[u8; UTC_BYTES] = text.try_into().map_err(|_| Reason::BadTimestamp)?;
        let (found, minute) = decode_utc(text).ok_or(Reason::BadTimestamp)?;
        if found != date {
            return Err(Reason::WrongDay);
        }
        *self = LastUtc { text: *text, minute };
        Ok(minute)
    }
}

fn decode_utc(text: &[u8; UTC_BYTES]) -> Option<(Date, u32)> {
    let digits = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0u16, |n, &byte| byte.is_ascii_digit().then(|| n * 10 + u16::from(byte - b'0')))
    };
    if [text[4], text[7], text[10], text[13]] != *b"--T:" {
        return None;
    }
    let date = Date::new(digits(0, 4)?, digits(5, 7)? as u8, digits(8, 10)? as u8)?;
    let (hour, minute) = (digits(11, 13)?, digits(14, 16)?);
    (hour < 24 && minute < 60).then(|| (date, u32::from(hour) * 60 + u32::from(minute)))
}

/// Mixes three small integers. The keys are numbers that we gave ourselves, so nobody can choose them to collide.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0.rotate_left(23) ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
