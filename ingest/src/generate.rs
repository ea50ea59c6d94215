//! A synthetic data set of the same format as the real one, for tests, demos and machines without it.
//!
//! It has what makes the real one hard: six parameters of very different frequency, -999 in each measured column on
//! its own terms, real negatives, commas and trailing spaces in text, a site called `N/A`, missing sites and hours,
//! outliers, odd hours only. The same options give the same bytes on every machine. (full_aqs_id, parameter, utc) is
//! unique; rows ascend by longitude and a site's rows are contiguous.

use std::fs;
use std::io::Write;
use std::path::Path;

use fastrand::Rng;

use crate::date::Date;
use crate::error::Error;

/// The most days and sites of a generated data set.
pub const DAYS_MAX: u32 = 3660;
pub const SITES_MAX: u32 = 20_000;

/// What to make. Size: about 1.6 rows of 160 bytes per day, site and each of twelve hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Consecutive days, 1 to [`DAYS_MAX`]. The default reaches into the days of both teams of the shipped configs.
    pub days: u32,
    /// 1 to [`SITES_MAX`].
    pub sites: u32,
    pub seed: u64,
    /// The first day.
    pub from: Date,
}

impl Default for GenerateOptions {
    fn default() -> GenerateOptions {
        let from = Date::new(2020, 8, 10).expect("a day of the calendar");
        GenerateOptions { days: 16, sites: 100, seed: 1, from }
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generated {
    pub files: u64,
    pub rows: u64,
}

/// Writes `dir/data/YYYYMMDD/YYYYMMDD-HH.csv`. Refused if `dir/data` is there already: two data sets in one folder are
/// neither.
pub fn generate(dir: &Path, options: &GenerateOptions) -> Result<Generated, Error> {
    let refuse = |reason: String| Error::Generate { days: options.days, sites: options.sites, reason };
    if !(1..=DAYS_MAX).contains(&options.days) || !(1..=SITES_MAX).contains(&options.sites) {
        return Err(refuse(format!("days must be 1 to {DAYS_MAX}, sites 1 to {SITES_MAX}")));
    }
    let data = dir.join("data");
    if data.exists() {
        return Err(refuse(format!("{} is there already", data.display())));
    }
    let mut random = Rng::with_seed(options.seed);
    let sites = make_sites(options.sites, &mut random);
    let mut made = Generated { files: 0, rows: 0 };
    let mut date = options.from;
    for _ in 0..options.days {
        let folder = data.join(date.to_string());
        fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        for hour in (1..24).step_by(2) {
            let mut text = Vec::new();
            made.rows += sites.iter().map(|site| site.write_hour(date, hour, &mut random, &mut text)).sum::<u64>();
            made.files += 1;
            let path = folder.join(format!("{date}-{hour:02}.csv"));
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        date = date.next();
    }
    Ok(made)
}

/// A parameter, how often sites measure it, and what it looks like. Concentrations in tenths.
struct Kind {
    name: &'static str,
    unit: &'static str,
    /// Of 100 sites.
    share: u32,
    typical: i32,
    /// The lowest real value, below zero: instruments drift.
    lowest: i32,
    /// Tenths per AQI point; none if the parameter has no AQI.
    per_aqi: Option<i32>,
}

const KINDS: [Kind; 6] = [
    Kind { name: "OZONE", unit: "PPB", share: 66, typical: 350, lowest: -220, per_aqi: Some(11) },
    Kind { name: "PM2.5", unit: "UG/M3", share: 46, typical: 120, lowest: -249, per_aqi: Some(4) },
    Kind { name: "PM10", unit: "UG/M3", share: 18, typical: 260, lowest: -680, per_aqi: Some(11) },
    Kind { name: "NO2", unit: "PPB", share: 13, typical: 80, lowest: -48, per_aqi: Some(11) },
    Kind { name: "SO2", unit: "PPB", share: 10, typical: 10, lowest: -34, per_aqi: Some(7) },
    Kind { name: "CO", unit: "PPM", share: 8, typical: 3, lowest: -2, per_aqi: None },
];

const AGENCIES: [&str; 7] = [
    "California Air Resources Board",
    "North Coast Unified Air Quality Management District",
    "Georgia Department of Natural Resources, EPD ",
    "Oregon Department of Environmental Quality",
    "Texas Commission on Environmental Quality",
    "Washington, Department of Ecology ",
    "AIRSIS",
];

const PLACES: [&str; 8] =
    ["Crescent City", "Klamath Glen", "Jacobs", "Park, North", "Eureka I-5", "Riverside", "Lake ", "Main St. & 3rd"];

struct Site {
    /// In 10^-5 degrees.
    latitude: i32,
    longitude: i32,
    name: String,
    agency: &'static str,
    aqs_id: String,
    full_aqs_id: String,
    kinds: Vec<&'static Kind>,
}

fn make_sites(count: u32, random: &mut Rng) -> Vec<Site> {
    let mut sites: Vec<Site> = (0..count).map(|number| make_site(number, random)).collect();
    sites.sort_by_key(|site| site.longitude);
    sites
}

fn make_site(number: u32, random: &mut Rng) -> Site {
    // The site's number is in its key, so keys are unique. Every 40th is a mobile monitor with letters in it.
    let mobile = number % 40 == 7;
    let local = if mobile { format!("MMA{number:06}") } else { format!("{:03}{number:06}", random.u32(10..600)) };
    let full_aqs_id = format!("840{local}");
    let mut kinds: Vec<&Kind> = KINDS.iter().filter(|kind| random.u32(0..100) < kind.share).collect();
    if kinds.is_empty() {
        kinds.push(&KINDS[0]);
    }
    let place = random.choice(PLACES).expect("not empty");
    Site {
        latitude: random.i32(2_874_560..4_540_079),
        longitude: random.i32(-12_420_347..-7_534_110),
        name: if mobile {
            "N/A".into()
        } else {
            format!("{place}{}", if number.is_multiple_of(9) { "" } else { " B" })
        },
        agency: random.choice(AGENCIES).expect("not empty"),
        aqs_id: if random.u8(0..4) == 0 { full_aqs_id.clone() } else { local },
        full_aqs_id,
        kinds,
    }
}

impl Site {
    /// Appends the site's rows of one hour and counts them; none in about 3 of 100 hours.
    fn write_hour(&self, date: Date, hour: u32, random: &mut Rng, text: &mut Vec<u8>) -> u64 {
        if random.u8(0..100) < 3 {
            return 0;
        }
        for kind in &self.kinds {
            self.write_row(kind, date, hour, random, text);
        }
        self.kinds.len() as u64
    }

    fn write_row(&self, kind: &Kind, date: Date, hour: u32, random: &mut Rng, text: &mut Vec<u8>) {
        let (year, month, day) = date.ymd();
        let raw = draw(kind, random);
        // The first column is a moving average for half of the parameters, the hour's own value for the others.
        let averaged = matches!(kind.name, "OZONE" | "PM2.5" | "PM10");
        let value = if averaged { raw + random.i32(-raw.abs() / 5..=raw.abs() / 5) } else { raw };
        let missing = random.u8(0..100);
        let aqi = kind.per_aqi.filter(|_| missing >= 4).map(|tenths| value.max(0) / tenths);
        let category = aqi.map(|aqi| [50, 100, 150, 200, 300].iter().filter(|&&bound| aqi > bound).count() + 1);
        let whole = |number: Option<usize>| number.map_or("-999".to_owned(), |number| number.to_string());
        writeln!(
            text,
            "\"{}\",\"{}\",\"{year:04}-{month:02}-{day:02}T{hour:02}:00\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\",\
             \"{}\",\"{}\",\"{}\",\"{}\"",
            degrees(self.latitude),
            degrees(self.longitude),
            kind.name,
            if missing < 2 { "-999.0".to_owned() } else { tenths(value) },
            kind.unit,
            if (1..5).contains(&missing) { "-999.0".to_owned() } else { tenths(raw) },
            whole(aqi.map(|aqi| aqi as usize)),
            whole(category),
            self.name,
            self.agency,
            self.aqs_id,
            self.full_aqs_id,
        )
        .expect("writing to memory");
    }
}

/// Mostly around the typical value, some drift below zero, and a rare outlier.
fn draw(kind: &Kind, random: &mut Rng) -> i32 {
    match random.u16(0..2000) {
        0 => kind.typical * random.i32(20..120),
        1..40 => random.i32(kind.lowest..=0),
        _ => (kind.typical * random.i32(0..100) + kind.typical * random.i32(0..200)) / 150,
    }
}

fn tenths(number: i32) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}.{}", number.unsigned_abs() / 10, number.unsigned_abs() % 10)
}

/// As few digits as say it: the real files have four to six, without zeros at the end.
fn degrees(number: i32) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let number = number.unsigned_abs();
    let text = format!("{sign}{}.{:05}", number / 100_000, number % 100_000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}
