//! What a site repeats hour after hour, and rows recognised by it.
//!
//! A *series* is all of a row but its time and its four measured values: where it was measured, what, and by whom. A
//! day has as many series as its sites measure parameters, each with a row an hour, and every file lists them in nearly
//! the same order. So here a row is the number of its series and five values. And its text is mostly known before it
//! is read: [`SeriesTable::recognise`] compares it with that of the series that came next the last time, else of one
//! with its coordinates and parameter, and takes apart only what is left.
//!
//! Why that is right: a text is learnt from the fields of an accepted row, none of which has a quote in it, and put in
//! quotes throughout. A line of exactly these bytes and five fields of digits, point and minus would be split into
//! these fields by [`crate::csv`] too, is valid UTF-8 without NUL as they are, and would decode to the same values.
//! Whatever differs is left to the long way; a test holds both ways together.
//!
//! Whether a row is accepted is decided in [`crate::row`].

use memchr::{memchr, memchr_iter};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::csv::Fields;
use crate::dictionary::Interner;
use crate::key_hasher::KeyMap;
use crate::number::{ShortDecimal, short_decimal};

/// Bytes of text that are learnt for one day. Series beyond are read the long way, so that a day in which nothing
/// repeats is not held in memory twice.
const LEARNT_BYTES_MAX: usize = 16 << 20;

/// Coordinates, time and parameter of a series that is looked up are found within so many bytes. A longer text is read
/// the long way where it is not expected.
const LOOKED_UP_BYTES_MAX: usize = 256;

/// No series: none has this number.
const NONE: u32 = u32::MAX;

pub(crate) const UTC_BYTES: usize = "yyyy-MM-ddTHH:mm".len();

/// One series. Texts are ids of their column's interner.
#[derive(Clone, Copy)]
pub(crate) struct Series {
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) parameter: u32,
    pub(crate) unit: u32,
    pub(crate) site_name: u32,
    pub(crate) agency: u32,
    pub(crate) aqs_id: u32,
    pub(crate) full_aqs_id: u32,
    /// The number of (full_aqs_id, parameter): two series share it where a site changes its name or moves.
    pub(crate) site_parameter: u32,
}

/// The texts of the series' columns, numbered.
pub(crate) struct Texts {
    pub(crate) parameter: Interner,
    pub(crate) unit: Interner,
    pub(crate) site_name: Interner,
    pub(crate) agency: Interner,
    pub(crate) aqs_id: Interner,
    pub(crate) full_aqs_id: Interner,
}

/// The series of a day, by number.
pub(crate) struct SeriesTable {
    pub(crate) texts: Texts,
    series: Vec<Series>,
    by_fields: KeyMap<[u64; 5], u32>,
    site_parameters: KeyMap<(u32, u32), u32>,
    learnt: Vec<u8>,
    /// One for each series.
    patterns: Vec<Pattern>,
    /// The series learnt last of those with equal coordinates and parameter, by the hash of these texts.
    by_text: KeyMap<u64, u32>,
    /// The series of the row before, in this file.
    before: Option<u32>,
    /// The series that is next if this file goes on like the one before.
    expected: u32,
}

/// The text of a series in `learnt`, in four pieces one after the other: up to the time, from there to the
/// concentration, from there to the raw one, and from the category to the line's end. No bytes at all if not learnt.
struct Pattern {
    start: usize,
    ends: [usize; 4],
    /// The series that came next when this one came last.
    next: u32,
}

/// A row whose series was recognised.
pub(crate) struct Recognised<'a> {
    pub(crate) series: u32,
    pub(crate) utc: &'a [u8; UTC_BYTES],
    pub(crate) concentration: ShortDecimal,
    pub(crate) raw_concentration: ShortDecimal,
    pub(crate) aqi: ShortDecimal,
    pub(crate) category: ShortDecimal,
    /// Bytes of the line, its line feed included.
    pub(crate) bytes: usize,
}

impl SeriesTable {
    pub(crate) fn new() -> SeriesTable {
        SeriesTable {
            texts: Texts {
                parameter: Interner::new(),
                unit: Interner::new(),
                site_name: Interner::new(),
                agency: Interner::new(),
                aqs_id: Interner::new(),
                full_aqs_id: Interner::new(),
            },
            series: Vec::new(),
            by_fields: KeyMap::default(),
            site_parameters: KeyMap::default(),
            learnt: Vec::new(),
            patterns: Vec::new(),
            by_text: KeyMap::default(),
            before: None,
            expected: NONE,
        }
    }

    pub(crate) fn all(&self) -> &[Series] {
        &self.series
    }

    pub(crate) fn begin_file(&mut self) {
        self.before = None;
        // The first series of the day's first file; if a site before it has come since, one row is not expected.
        self.expected = 0;
    }

    /// The row that `text` starts with, if its series is known and it has nothing unusual about it.
    #[inline]
    pub(crate) fn recognise<'a>(&self, text: &'a [u8]) -> Option<Recognised<'a>> {
        self.recognise_as(self.expected, text).or_else(|| self.recognise_as(self.looked_up(text)?, text))
    }

    /// A series with the coordinates and the parameter that `text` starts with.
    #[inline(never)]
    fn looked_up(&self, text: &[u8]) -> Option<u32> {
        // Bounded, or every row of a file without quotes would be a search through the rest of it.
        let mut quotes = memchr_iter(b'"', &text[..text.len().min(LOOKED_UP_BYTES_MAX)]);
        // The fifth opens the time; the next four close it, enclose the parameter, and open the concentration.
        let head = quotes.nth(4)? + 1;
        let (parameter, value) = (quotes.next()?, quotes.nth(2)? + 1);
        self.by_text.get(&text_hash(&text[..head], &text[parameter..value])).copied()
    }

    #[inline]
    fn recognise_as<'a>(&self, series: u32, text: &'a [u8]) -> Option<Recognised<'a>> {
        let pattern = self.patterns.get(series as usize)?;
        let [head, parameter, unit, tail] = pattern.ends;
        if head == pattern.start {
            return None;
        }
        let known = |from: usize, to: usize| &self.learnt[from..to];
        let (utc, rest) = text.strip_prefix(known(pattern.start, head))?.split_first_chunk()?;
        let (concentration, rest) = short_decimal(rest.strip_prefix(known(head, parameter))?)?;
        let (raw_concentration, rest) = short_decimal(rest.strip_prefix(known(parameter, unit))?)?;
        let (aqi, rest) = short_decimal(rest.strip_prefix(b"\",\"")?)?;
        let (category, rest) = short_decimal(rest.strip_prefix(b"\",\"")?)?;
        let rest = rest.strip_prefix(known(unit, tail))?;
        let bytes = text.len() - rest.len();
        Some(Recognised { series, utc, concentration, raw_concentration, aqi, category, bytes })
    }

    /// Says that a row of this series was taken, so that the next is expected in its place.
    #[inline]
    pub(crate) fn taken(&mut self, series: u32) {
        if let Some(before) = self.before {
            self.patterns[before as usize].next = series;
        }
        self.before = Some(series);
        self.expected = self.patterns[series as usize].next;
    }

    /// The number of a site's parameter, counted from 0.
    pub(crate) fn site_parameter(&mut self, full_aqs_id: &[u8], parameter: &[u8]) -> u32 {
        let pair = (self.texts.full_aqs_id.intern(full_aqs_id), self.texts.parameter.intern(parameter));
        let next = self.site_parameters.len() as u32;
        *self.site_parameters.entry(pair).or_insert(next)
    }

    /// The series of a row that will be accepted; a new one is learnt.
    pub(crate) fn number_of(&mut self, fields: &Fields, latitude: f64, longitude: f64, site_parameter: u32) -> u32 {
        let [_, _, _, parameter, _, unit, _, _, _, site_name, agency, aqs_id, full_aqs_id] = *fields;
        let texts = &mut self.texts;
        let series = Series {
            latitude,
            longitude,
            parameter: texts.parameter.intern(parameter),
            unit: texts.unit.intern(unit),
            site_name: texts.site_name.intern(site_name),
            agency: texts.agency.intern(agency),
            aqs_id: texts.aqs_id.intern(aqs_id),
            full_aqs_id: texts.full_aqs_id.intern(full_aqs_id),
            site_parameter,
        };
        let next = self.series.len() as u32;
        let number = *self.by_fields.entry(series.key()).or_insert(next);
        if number == next {
            self.series.push(series);
            let pattern = self.learn(fields);
            let [head, parameter, ..] = pattern.ends;
            if head > pattern.start {
                let hash = text_hash(&self.learnt[pattern.start..head], &self.learnt[head..parameter]);
                self.by_text.insert(hash, number);
            }
            self.patterns.push(pattern);
        }
        number
    }

    fn learn(&mut self, fields: &Fields) -> Pattern {
        let start = self.learnt.len();
        let [latitude, longitude, _, parameter, _, unit, _, _, _, site_name, agency, aqs_id, full_aqs_id] = *fields;
        let pieces: [&[&[u8]]; 4] = [
            &[b"\"", latitude, b"\",\"", longitude, b"\",\""],
            &[b"\",\"", parameter, b"\",\""],
            &[b"\",\"", unit, b"\",\""],
            &[b"\",\"", site_name, b"\",\"", agency, b"\",\"", aqs_id, b"\",\"", full_aqs_id, b"\"\n"],
        ];
        let bytes: usize = fields.iter().map(|field| field.len() + 4).sum();
        let quoted = fields.iter().any(|field| memchr(b'"', field).is_some());
        if quoted || start + bytes > LEARNT_BYTES_MAX {
            return Pattern { start, ends: [start; 4], next: NONE };
        }
        let ends = pieces.map(|piece| {
            piece.iter().for_each(|bytes| self.learnt.extend_from_slice(bytes));
            self.learnt.len()
        });
        Pattern { start, ends, next: NONE }
    }
}

fn text_hash(head: &[u8], parameter: &[u8]) -> u64 {
    xxh3_64_with_seed(parameter, xxh3_64(head))
}

impl Series {
    /// What makes it this series. Two zeros of different sign are two latitudes, as their texts are two.
    fn key(&self) -> [u64; 5] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        [
            self.latitude.to_bits(),
            self.longitude.to_bits(),
            pair(self.parameter, self.unit),
            pair(self.site_name, self.agency),
            pair(self.aqs_id, self.full_aqs_id),
        ]
    }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
