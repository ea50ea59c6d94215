//! What a site repeats hour after hour, and rows recognised by it.
//!
//! A *series* is all of a row but its time and its four measured values: where it was measured, what, and by whom. A
//! day has as many series as its sites measure parameters, each with a row an hour, and every file lists them in nearly
//! the same order. So here a row is the number of its series and five values. And its text is mostly known before it
//! is read: [`SeriesTable::recognise`] compares it with that of the series that came next the last time, else of one
//! with its coordinates and parameter, and takes apart only what is left.
//!
//! Why that is right: a text is learnt from the line of an accepted row in which each field is in quotes and none has a
//! quote in it. A line of exactly these bytes and five fields of digits, point and minus would be split into these
//! fields by [`crate::csv`] too, is valid UTF-8 without NUL as they are, and would decode to the same values. Whatever
//! differs is left to the long way; a test holds both ways together.
//!
//! Whether a row is accepted is decided in [`crate::row`].

use std::ops::Range;

use memchr::memchr_iter;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::csv::{Fields, Record};
use crate::dictionary::Interner;
use crate::key_hasher::KeyMap;
use crate::number::{ShortDecimal, short_decimal};

/// Bytes of text that are learnt for one day. Series beyond are read the long way, so that a day in which nothing
/// repeats is not held in memory twice.
const LEARNT_BYTES_MAX: usize = 16 << 20;

/// Coordinates, time and parameter of a series that is looked up are found within so many bytes. A longer text is read
/// the long way where it is not expected.
const LOOKED_UP_BYTES_MAX: usize = 256;

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

/// A parameter at a site.
#[derive(Clone, Copy)]
pub(crate) struct SiteParameter {
    /// Counted from 0.
    pub(crate) number: u32,
    full_aqs_id: u32,
    parameter: u32,
}

/// The series of a day, by number. Two may be alike, where their rows are not written in quotes throughout.
pub(crate) struct SeriesTable {
    pub(crate) texts: Texts,
    series: Vec<Series>,
    site_parameters: KeyMap<(u32, u32), u32>,
    learnt: Vec<u8>,
    /// One for each series.
    patterns: Vec<Pattern>,
    /// The series learnt last of those with equal coordinates and parameter, by the hash of these texts.
    by_text: KeyMap<u64, u32>,
    /// The series of the row before, in this file.
    before: Option<u32>,
    /// The series that is next if this file goes on like the one before.
    expected: Option<u32>,
}

/// Where the text of a series is in `learnt`, up to the time, from there to the concentration, from there to the raw one,
/// and from the category to past the line's end. All are empty if it was not learnt.
#[derive(Default)]
struct Pattern {
    head: Range<u32>,
    parameter: Range<u32>,
    unit: Range<u32>,
    tail: Range<u32>,
    /// The series that came next when this one came last.
    next: Option<u32>,
}

impl Pattern {
    /// Of a line with these fields in quotes, which starts here.
    fn of(fields: &Fields, start: usize) -> Pattern {
        // Commas and quotes: one before the first field, three between two, one behind the last.
        let mut next = start as u32 + 1;
        let places = fields.map(|field| {
            let place = next..next + field.len() as u32;
            next = place.end + 3;
            place
        });
        let between = |from: usize, to: usize| places[from].end..places[to].start;
        Pattern {
            head: start as u32..places[2].start,
            parameter: between(2, 4),
            unit: between(4, 6),
            // Past the quote and the line feed.
            tail: places[8].end..places[12].end + 2,
            next: None,
        }
    }
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
            site_parameters: KeyMap::default(),
            learnt: Vec::new(),
            patterns: Vec::new(),
            by_text: KeyMap::default(),
            before: None,
            expected: None,
        }
    }

    pub(crate) fn all(&self) -> &[Series] {
        &self.series
    }

    pub(crate) fn begin_file(&mut self) {
        self.before = None;
        // The first series of the day's first file; if a site before it has come since, one row is not expected.
        self.expected = Some(0);
    }

    /// The row that `text` starts with, if its series is known and it has nothing unusual about it.
    #[inline]
    pub(crate) fn recognise<'a>(&self, text: &'a [u8]) -> Option<Recognised<'a>> {
        let expected = self.expected.and_then(|expected| self.recognise_as(expected, text));
        expected.or_else(|| self.recognise_as(self.looked_up(text)?, text))
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
        if pattern.head.is_empty() {
            return None;
        }
        let (utc, rest) = text.strip_prefix(self.learnt(&pattern.head))?.split_first_chunk()?;
        let (concentration, rest) = short_decimal(rest.strip_prefix(self.learnt(&pattern.parameter))?)?;
        let (raw_concentration, rest) = short_decimal(rest.strip_prefix(self.learnt(&pattern.unit))?)?;
        let (aqi, rest) = short_decimal(rest.strip_prefix(b"\",\"")?)?;
        let (category, rest) = short_decimal(rest.strip_prefix(b"\",\"")?)?;
        let rest = rest.strip_prefix(self.learnt(&pattern.tail))?;
        let bytes = text.len() - rest.len();
        Some(Recognised { series, utc, concentration, raw_concentration, aqi, category, bytes })
    }

    /// Says that a row of this series was taken, so that the next is expected in its place.
    #[inline]
    pub(crate) fn taken(&mut self, series: u32) {
        if let Some(before) = self.before {
            self.patterns[before as usize].next = Some(series);
        }
        self.before = Some(series);
        self.expected = self.patterns[series as usize].next;
    }

    fn learnt(&self, range: &Range<u32>) -> &[u8] {
        &self.learnt[range.start as usize..range.end as usize]
    }

    pub(crate) fn site_parameter(&mut self, full_aqs_id: &[u8], parameter: &[u8]) -> SiteParameter {
        let pair = (self.texts.full_aqs_id.intern(full_aqs_id), self.texts.parameter.intern(parameter));
        let next = self.site_parameters.len() as u32;
        let number = *self.site_parameters.entry(pair).or_insert(next);
        SiteParameter { number, full_aqs_id: pair.0, parameter: pair.1 }
    }

    /// The series of a row that will be accepted; a new one is learnt.
    pub(crate) fn number_of(&mut self, record: &Record, latitude: f64, longitude: f64, site: SiteParameter) -> u32 {
        let [_, _, _, _, _, unit, _, _, _, site_name, agency, aqs_id, _] = record.fields;
        let texts = &mut self.texts;
        let series = Series {
            latitude,
            longitude,
            parameter: site.parameter,
            unit: texts.unit.intern(unit),
            site_name: texts.site_name.intern(site_name),
            agency: texts.agency.intern(agency),
            aqs_id: texts.aqs_id.intern(aqs_id),
            full_aqs_id: site.full_aqs_id,
            site_parameter: site.number,
        };
        let number = self.series.len() as u32;
        let start = self.learnt.len();
        let mut pattern = Pattern::default();
        if let Some(line) = record.quoted.filter(|line| start + line.len() < LEARNT_BYTES_MAX) {
            let whole = Pattern::of(&record.fields, 0);
            let piece = |range: Range<u32>| &line[range.start as usize..range.end as usize];
            let known = self.by_text.entry(text_hash(piece(whole.head), piece(whole.parameter))).or_insert(number);
            if *known != number && self.series[*known as usize].key() == series.key() {
                return *known;
            }
            *known = number;
            self.learnt.extend_from_slice(line);
            self.learnt.push(b'\n');
            pattern = Pattern::of(&record.fields, start);
        }
        self.series.push(series);
        self.patterns.push(pattern);
        number
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
