//! Calendar dates as the data set names them, and inclusive ranges of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SECONDS_PER_DAY: i64 = 86_400;

/// A UTC day, kept as days since 1970-01-01. Written `YYYYMMDD`, the form of the folder names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

/// The text is not a date of the form `YYYYMMDD`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a date; write YYYYMMDD, for example 20200810")]
pub struct BadDate(pub String);

impl Date {
    /// The date of a year (0 to 9999), month (from 1) and day (from 1); `None` if the calendar has no such day.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Date> {
        if year > 9999 || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        // Days from civil date in the proleptic Gregorian calendar, with the year starting in March so that the
        // leap day comes last; after H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
        let shifted_year = i32::from(year) - i32::from(month <= 2);
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let month_from_march = (i32::from(month) + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + i32::from(day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Some(Date(era * 146_097 + day_of_era - 719_468))
    }

    /// The day that holds this Unix time in seconds; `None` beyond the years that four digits can write.
    pub fn of_unix_seconds(seconds: i64) -> Option<Date> {
        let days = i32::try_from(seconds.div_euclid(SECONDS_PER_DAY)).ok()?;
        let first = Date::new(0, 1, 1)?;
        let last = Date::new(9999, 12, 31)?;
        (first.0..=last.0).contains(&days).then_some(Date(days))
    }

    /// Unix time in seconds of the day's first instant.
    pub fn unix_seconds(self) -> i64 {
        i64::from(self.0) * SECONDS_PER_DAY
    }

    /// Days since 1970-01-01.
    pub fn days(self) -> i32 {
        self.0
    }

    /// The following day.
    pub fn next(self) -> Date {
        Date(self.0 + 1)
    }

    /// Year, month from 1, day from 1.
    pub fn ymd(self) -> (u16, u8, u8) {
        let shifted = self.0 + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i32::from(month <= 2);
        (year as u16, month as u8, day as u8)
    }
}

fn days_in_month(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u8::from(leap),
        _ => 31,
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.ymd();
        write!(f, "{year:04}{month:02}{day:02}")
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Date {
    type Err = BadDate;

    fn from_str(text: &str) -> Result<Date, BadDate> {
        let bad = || BadDate(text.chars().take(40).collect());
        if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let number: u32 = text.parse().map_err(|_| bad())?;
        let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
        Date::new(year as u16, month as u8, day as u8).ok_or_else(bad)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The days from `from` to `to`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DateRange {
    pub from: Date,
    pub to: Date,
}

impl DateRange {
    /// Every date that can be written.
    pub const ALL: DateRange = DateRange { from: Date(-719_528), to: Date(2_932_896) };

    /// Whether the day lies in the range.
    pub fn contains(&self, date: Date) -> bool {
        self.from <= date && date <= self.to
    }

    /// Whether the two ranges share a day.
    pub fn overlaps(&self, other: &DateRange) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_days_like_the_calendar() {
        let mut date = Date::new(1999, 12, 31).unwrap();
        let mut count = 0;
        for year in 2000..=2100u16 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    date = date.next();
                    count += 1;
                    assert_eq!(date.ymd(), (year, month, day));
                    assert_eq!(Date::new(year, month, day), Some(date));
                }
            }
        }
        assert_eq!(count, 36_525 + 365);
        assert_eq!(Date::new(1970, 1, 1).unwrap().unix_seconds(), 0);
        assert_eq!(Date::new(0, 1, 1).unwrap(), DateRange::ALL.from);
        assert_eq!(Date::new(9999, 12, 31).unwrap(), DateRange::ALL.to);
    }

    #[test]
    fn only_real_days_of_eight_digits_parse() {
        assert_eq!("20200229".parse::<Date>().unwrap().to_string(), "20200229");
        for text in ["20210229", "2020081", "202008100", "2020-8-1", "20201301", "20200800", "2020081x", ""] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }
}
