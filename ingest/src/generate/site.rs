//! The monitors: where they are, what they measure, when they are silent, and what they say hour by hour.
//!
//! A site's values hang together: each of its parameters has a rank of its own that strays slowly, with the hour of the
//! day and with the region, so that the next hour is like this one and neighbours have bad air together. Sites are
//! dealt rather than drawn, so that a few of them have nearly the shares of many; the first measures everything.

use fastrand::Rng;

use super::identity::{agency, degrees, ids, name, place, region_of};
use super::pollutant::{Pollutant, RANK_MAX, category, fold};

/// How far a rank strays in an hour, and in all.
const STRAY_STEP: i32 = 170_000;
const STRAY_MAX: i32 = 300_000;
const REGION_STEP: i32 = 40_000;
const REGION_MAX: i32 = 250_000;
/// One in so many hours a site falls silent, for up to so many hours.
const SILENCE_ONE_IN: u32 = 300;
const SILENCE_HOURS_MAX: u32 = 12;
/// Multiples of the golden ratio, here in millionths, fall evenly between 0 and 1: what numbers are dealt by.
const GOLDEN: u64 = 618_034;
const MILLION: u64 = 1_000_000;

/// What sites measure, and how many of the 1,384 dealt to measure that: about as in the real data, where most sites have
/// one parameter and few have all.
const EQUIPMENT: [(u32, &[&str]); 16] = [
    (50, &["OZONE", "PM2.5", "PM10", "NO2", "SO2", "CO"]),
    (480, &["OZONE"]),
    (255, &["PM2.5"]),
    (205, &["OZONE", "PM2.5"]),
    (62, &["PM10"]),
    (60, &["OZONE", "PM2.5", "PM10"]),
    (32, &["PM2.5", "PM10"]),
    (40, &["SO2"]),
    (35, &["OZONE", "NO2"]),
    (35, &["OZONE", "PM2.5", "NO2"]),
    (30, &["OZONE", "PM10"]),
    (20, &["PM2.5", "NO2", "CO"]),
    (25, &["OZONE", "PM2.5", "NO2", "CO"]),
    (25, &["OZONE", "PM2.5", "SO2"]),
    (20, &["OZONE", "PM2.5", "NO2", "SO2", "CO"]),
    (10, &["NO2"]),
];

/// A stretch of the country that has good and bad air together.
#[derive(Clone, Copy, Default)]
pub struct Region {
    stray: i32,
}

impl Region {
    pub const COUNT: usize = 6;

    pub fn pass_hour(&mut self, random: &mut Rng) {
        self.stray = stray(self.stray, REGION_STEP, REGION_MAX, random);
    }
}

/// A monitor, as far as the hour that was written last.
pub struct Site {
    /// In millionths of a degree.
    pub longitude: i32,
    region: usize,
    /// The hours of the data set at which it is there; the end is not included.
    from_hour: u32,
    to_hour: u32,
    /// It is silent until this hour.
    silent_until: u32,
    series: Vec<Series>,
    /// What a row begins and ends with.
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// A parameter of a site.
struct Series {
    pollutant: &'static Pollutant,
    base: i32,
    stray: i32,
}

impl Site {
    /// The site of that number in a data set of so many hours.
    pub fn new(number: u32, hours: u32, random: &mut Rng) -> Site {
        // Mobile monitors follow the smoke: they come, measure what is worst, and go.
        let mobile = number % 40 == 7;
        let temporary = mobile || number % 13 == 12;
        let hours_there = if temporary { random.u32(1..=hours.div_ceil(2)) } else { hours };
        let from_hour = random.u32(0..=hours - hours_there);
        let (latitude, longitude) = place(random);
        let equipment: &[&str] = if mobile { &["PM2.5"] } else { equipment(number) };
        let pollutants = equipment.iter().filter_map(|name| Pollutant::by_name(name));
        let series: Vec<Series> = pollutants
            .enumerate()
            .map(|(index, pollutant)| {
                let even = (u64::from(number) * GOLDEN + index as u64 * 271_828 + random.u64(0..20_000)) % MILLION;
                let base = if mobile { RANK_MAX - even as i32 / 8 } else { even as i32 };
                Series { pollutant, base, stray: 0 }
            })
            .collect();
        let (name, agency) = (name(number, mobile), agency(number, mobile, random));
        let (aqs_id, full_aqs_id) = ids(number, mobile, random);
        Site {
            longitude,
            region: (random.usize(0..2) + region_of(longitude)).min(Region::COUNT - 1),
            from_hour,
            to_hour: from_hour + hours_there,
            silent_until: 0,
            series,
            head: format!("\"{}\",\"{}\",\"", degrees(latitude), degrees(longitude)).into_bytes(),
            tail: format!("\",\"{name}\",\"{agency}\",\"{aqs_id}\",\"{full_aqs_id}\"\n").into_bytes(),
        }
    }

    /// About the bytes of one hour.
    pub fn hour_bytes(&self) -> u64 {
        /// What lies between head and tail.
        const MIDDLE: usize = 60;
        ((self.head.len() + MIDDLE + self.tail.len()) * self.series.len()) as u64
    }

    /// Hours at which it is there, silent ones included.
    pub fn hours_expected(&self) -> u64 {
        (self.to_hour - self.from_hour).into()
    }

    /// Appends the site's rows of an hour, counted from the first, and counts them. `of_day` is 0 to 23.
    pub fn write_hour(
        &mut self,
        hour: u32,
        of_day: u32,
        utc: &str,
        regions: &[Region],
        random: &mut Rng,
        text: &mut Vec<u8>,
    ) -> u64 {
        if random.u32(0..SILENCE_ONE_IN) == 0 {
            self.silent_until = hour + random.u32(1..=SILENCE_HOURS_MAX);
        }
        if !(self.from_hour..self.to_hour).contains(&hour) || hour < self.silent_until {
            return 0;
        }
        let region = regions[self.region].stray;
        for series in &mut self.series {
            let pollutant = series.pollutant;
            series.stray = stray(series.stray, STRAY_STEP, STRAY_MAX, random);
            let daily = pollutant.daily * (6 - (of_day as i32 + 3).rem_euclid(24).abs_diff(12) as i32) / 6;
            let reading = pollutant.read(fold(series.base + series.stray + region + daily), random);
            for piece in [&self.head[..], utc.as_bytes(), b"\",\"", pollutant.name.as_bytes(), b"\",\""] {
                text.extend_from_slice(piece);
            }
            push_tenths(reading.concentration, text);
            for piece in [b"\",\"", pollutant.unit.as_bytes(), b"\",\""] {
                text.extend_from_slice(piece);
            }
            push_tenths(reading.raw, text);
            text.extend_from_slice(b"\",\"");
            push_whole(reading.aqi.unwrap_or(MISSING), text);
            text.extend_from_slice(b"\",\"");
            push_whole(reading.aqi.map_or(MISSING, category), text);
            text.extend_from_slice(&self.tail);
        }
        self.series.len() as u64
    }
}

/// A step up or down, mirrored at the ends, so that all places between them are equally likely.
fn stray(from: i32, step: i32, max: i32, random: &mut Rng) -> i32 {
    let to = from + random.i32(-step..=step);
    if to > max {
        2 * max - to
    } else if to < -max {
        -2 * max - to
    } else {
        to
    }
}

/// Deals the equipment: the numbers in turn fall evenly on the list, and the first on everything.
fn equipment(number: u32) -> &'static [&'static str] {
    let all: u32 = EQUIPMENT.iter().map(|(count, _)| count).sum();
    let mut place = (u64::from(number) * GOLDEN % MILLION * u64::from(all) / MILLION) as u32;
    for (count, equipment) in EQUIPMENT {
        if place < count {
            return equipment;
        }
        place -= count;
    }
    EQUIPMENT[0].1
}

const MISSING: i32 = -999;

fn push_tenths(number: Option<i32>, text: &mut Vec<u8>) {
    let number = number.unwrap_or(MISSING * 10);
    if number < 0 {
        text.push(b'-');
    }
    push_digits(number.unsigned_abs() / 10, text);
    text.extend_from_slice(&[b'.', b'0' + (number.unsigned_abs() % 10) as u8]);
}

fn push_whole(number: i32, text: &mut Vec<u8>) {
    if number < 0 {
        text.push(b'-');
    }
    push_digits(number.unsigned_abs(), text);
}

fn push_digits(mut number: u32, text: &mut Vec<u8>) {
    let from = text.len();
    loop {
        text.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text[from..].reverse();
}
