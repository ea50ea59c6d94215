//! Fields to typed values: the rejections that need meaning, and the rows of a day in the making.
//!
//! Two ways in. [`DayRows::push`] takes any row apart and says why it rejects one; [`DayRows::push_expected`] takes a
//! row whose series is recognised by its text (see [`crate::series`]), and leaves everything else to the first.
//! Invariant: a row that both would take, both take alike; a rejected row
//! leaves no trace, not even in a dictionary.

use crate::csv::Record;
use crate::date::Date;
use crate::key_hasher::KeySet;
use crate::number::{ShortDecimal, number, whole_number};
use crate::rejects::Reason;
use crate::series::{SeriesTable, UTC_BYTES};

/// What stands for a missing value in the measured columns, and only there, in the text as in the columns below.
pub(crate) const MISSING: i16 = -999;

/// The accepted rows of one day, in the order of files and lines.
pub(crate) struct DayRows {
    date: Date,
    last_utc: LastUtc,
    seen: Seen,
    pub(crate) table: SeriesTable,
    pub(crate) rows: Vec<Row>,
}

/// A row: the number of its series, and what is not its series'. Measured values may be [`MISSING`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Row {
    pub(crate) series: u32,
    /// Of the day.
    pub(crate) minute: u16,
    pub(crate) aqi: i16,
    /// Within 8 bits, or missing.
    pub(crate) category: i16,
    pub(crate) concentration: f64,
    pub(crate) raw_concentration: f64,
}

impl DayRows {
    /// For a day with this many bytes of CSV.
    pub(crate) fn new(date: Date, day_bytes: u64) -> DayRows {
        DayRows {
            date,
            last_utc: LastUtc { text: [0; UTC_BYTES], minute: 0 },
            seen: Seen { file: 1, first_minute: None, in_file: Vec::new(), others: KeySet::default() },
            table: SeriesTable::new(),
            // Most rows are longer.
            rows: Vec::with_capacity((day_bytes / 128) as usize),
        }
    }

    pub(crate) fn date(&self) -> Date {
        self.date
    }

    /// From here on rows are duplicates only of each other: two files may say the same.
    pub(crate) fn begin_file(&mut self) {
        self.seen.begin_file();
        self.table.begin_file();
    }

    /// Takes the row that `text` starts with, and says how many bytes it has with its line feed; or takes nothing,
    /// because there is something about it that [`DayRows::push`] must judge.
    #[inline]
    pub(crate) fn push_expected(&mut self, text: &[u8]) -> Option<usize> {
        let row = self.table.recognise(text)?;
        if *row.utc != self.last_utc.text {
            return None;
        }
        let bytes = row.bytes;
        let row = Row {
            series: row.series,
            minute: self.last_utc.minute,
            aqi: short_whole(row.aqi, i16::MIN..=i16::MAX)?,
            category: short_whole(row.category, i8::MIN.into()..=i8::MAX.into())?,
            concentration: row.concentration.value(),
            raw_concentration: row.raw_concentration.value(),
        };
        if !self.seen.insert(self.table.all()[row.series as usize].site_parameter, row.minute) {
            return None;
        }
        self.take(row);
        Some(bytes)
    }

    /// Takes a row, or says the first reason that applies anywhere in it.
    pub(crate) fn push(&mut self, record: &Record) -> Result<(), Reason> {
        let [latitude, longitude, utc, parameter, concentration, _, raw, aqi, category, _, _, _, full_aqs_id] =
            record.fields;
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
        let [latitude, longitude, concentration, raw_concentration] = numbers.map(|value| value.unwrap_or(f64::NAN));
        let [aqi, category] = wholes.map(|value| value.unwrap_or(f64::NAN));
        let aqi = in_bounds(aqi, i16::MIN, i16::MAX)?;
        let category = in_bounds(category, i8::MIN.into(), i8::MAX.into())?;
        if latitude.abs() > 90.0 || longitude.abs() > 180.0 {
            return Err(Reason::OutOfRange);
        }

        // A duplicate repeats texts that are there already, so numbering them first leaves no trace.
        let site_parameter = self.table.site_parameter(full_aqs_id, parameter);
        if !self.seen.insert(site_parameter.number, minute) {
            return Err(Reason::Duplicate);
        }
        let series = self.table.number_of(record, latitude, longitude, site_parameter);
        self.take(Row { series, minute, aqi, category, concentration, raw_concentration });
        Ok(())
    }

    #[inline]
    fn take(&mut self, row: Row) {
        self.table.taken(row.series);
        self.rows.push(row);
    }
}

/// The rows accepted from the file at hand, by site and parameter, and minute of the day.
struct Seen {
    /// Counted from 1.
    file: u32,
    /// The minute of the file's first row, which all of its rows have if it is an hourly file.
    first_minute: Option<u16>,
    /// The file that had a row of that minute last, by site and parameter; 0 for none.
    in_file: Vec<u32>,
    /// The rows of other minutes.
    others: KeySet<(u32, u32)>,
}

impl Seen {
    fn begin_file(&mut self) {
        self.file += 1;
        self.first_minute = None;
        self.others.clear();
    }

    /// Whether there was no such row before.
    #[inline]
    fn insert(&mut self, site_parameter: u32, minute: u16) -> bool {
        if *self.first_minute.get_or_insert(minute) != minute {
            return self.others.insert((site_parameter, minute.into()));
        }
        let index = site_parameter as usize;
        if index >= self.in_file.len() {
            self.in_file.resize(index + 1, 0);
        }
        std::mem::replace(&mut self.in_file[index], self.file) != self.file
    }
}

/// A measured whole number within its bounds, or [`MISSING`], also where the bounds would refuse that.
fn in_bounds(value: f64, min: i16, max: i16) -> Result<i16, Reason> {
    if value == f64::from(MISSING) || (f64::from(min)..=f64::from(max)).contains(&value) {
        // A whole number, so nothing is cut off.
        Ok(value as i16)
    } else {
        Err(Reason::OutOfRange)
    }
}

/// The same, of a number that has no point; `None` for any other.
#[inline]
fn short_whole(number: ShortDecimal, bounds: std::ops::RangeInclusive<i16>) -> Option<i16> {
    let whole = i16::try_from(number.whole()?).ok()?;
    (whole == MISSING || bounds.contains(&whole)).then_some(whole)
}

/// The time that was decoded last: all rows of a file have the same one.
struct LastUtc {
    text: [u8; UTC_BYTES],
    minute: u16,
}

impl LastUtc {
    /// The minute of the day that `yyyy-MM-ddTHH:mm` names, if it is on that day.
    fn decode(&mut self, text: &[u8], date: Date) -> Result<u16, Reason> {
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

fn decode_utc(text: &[u8; UTC_BYTES]) -> Option<(Date, u16)> {
    let digits = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0u16, |n, &byte| byte.is_ascii_digit().then(|| n * 10 + u16::from(byte - b'0')))
    };
    if [text[4], text[7], text[10], text[13]] != *b"--T:" {
        return None;
    }
    let date = Date::new(digits(0, 4)?, digits(5, 7)? as u8, digits(8, 10)? as u8)?;
    let (hour, minute) = (digits(11, 13)?, digits(14, 16)?);
    (hour < 24 && minute < 60).then(|| (date, hour * 60 + minute))
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
