//! A synthetic data set of the same format as the real one, for tests, demos, benches and machines without it.
//!
//! It has what makes the real one hard, about as often: six parameters of very different frequency, values as skewed as
//! in a fire season, -999 in each measured column on its own terms, real negatives, commas and trailing spaces in text,
//! sites called `N/A`, monitors that come and go, hours missing, outliers, odd hours only. `pollutant` has the values,
//! `identity` who a site is, `site` what it says hour by hour; this file writes the tree.
//!
//! Invariants: the same options give the same bytes on every machine, so no floating point is used. (full_aqs_id,
//! parameter, utc) is unique; rows ascend by longitude and a site's rows are contiguous. Memory is that of the sites and
//! of one file, whatever the number of days. A folder `data` that exists is whole.

mod identity;
mod pollutant;
mod site;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use fastrand::Rng;

use crate::date::Date;
use crate::error::Error;
use crate::progress::{Progress, Silent};
use site::{Region, Site};

/// The most days and sites of a generated data set: 1.4 billion rows.
pub const DAYS_MAX: u32 = 3660;
pub const SITES_MAX: u32 = 20_000;

const FILES_PER_DAY: u32 = 12;
/// Where files are written until all of them are there.
const UNFINISHED: &str = ".generating";

/// What to make. Size: about 1.5 rows of 160 bytes per day, site and each of twelve hours; 30 million rows are 1100 days
/// of 1500 sites.
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
    pub bytes: u64,
}

/// Writes `dir/data/YYYYMMDD/YYYYMMDD-HH.csv`. [`Error::NotEmpty`] if anything is in `dir`: two data sets in one folder
/// are neither.
pub fn generate(dir: &Path, options: &GenerateOptions) -> Result<Generated, Error> {
    generate_with(dir, options, &Silent)
}

/// The same, and tells how far it is. The bytes it expects are an estimate, a few percent too many. After an error
/// nothing of it is left.
pub fn generate_with(dir: &Path, options: &GenerateOptions, progress: &dyn Progress) -> Result<Generated, Error> {
    if !(1..=DAYS_MAX).contains(&options.days) || !(1..=SITES_MAX).contains(&options.sites) {
        let reason = format!("days must be 1 to {DAYS_MAX}, sites 1 to {SITES_MAX}");
        return Err(Error::Generate { days: options.days, sites: options.sites, reason });
    }
    let is_new = is_new(dir)?;
    let unfinished = dir.join(UNFINISHED);
    fs::create_dir_all(&unfinished).map_err(Error::io("create the folder", &unfinished))?;
    let data = dir.join("data");
    let written = write_days(&unfinished, options, progress)
        .and_then(|made| fs::rename(&unfinished, &data).map(|()| made).map_err(Error::io("rename to", &data)));
    progress.finish();
    if written.is_err() {
        // The error that is told is the first one; what cannot be removed is hidden and no data set.
        let _ = fs::remove_dir_all(&unfinished);
        let _ = if is_new { fs::remove_dir(dir) } else { Ok(()) };
    }
    written
}

/// Whether the folder does not exist yet; refuses one that holds anything.
fn is_new(dir: &Path) -> Result<bool, Error> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(false),
            Some(_) => Err(Error::NotEmpty(dir.to_owned())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(Error::NotAFolder(dir.to_owned())),
        Err(source) => Err(Error::Io { action: "list", path: dir.to_owned(), source }),
    }
}

fn write_days(data: &Path, options: &GenerateOptions, progress: &dyn Progress) -> Result<Generated, Error> {
    let random = &mut Rng::with_seed(options.seed);
    let hours = options.days * FILES_PER_DAY;
    let mut sites: Vec<Site> = (0..options.sites).map(|number| Site::new(number, hours, random)).collect();
    sites.sort_by_key(|site| site.longitude);
    let mut regions = [Region::default(); Region::COUNT];
    let bytes_expected = sites.iter().map(|site| site.hour_bytes() * site.hours_expected()).sum();
    progress.start(hours.into(), bytes_expected);

    let mut made = Generated { files: 0, rows: 0, bytes: 0 };
    let mut text = Vec::new();
    let mut date = options.from;
    for day in 0..options.days {
        let folder = data.join(date.to_string());
        fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        let (year, month, day_of_month) = date.ymd();
        for file in 0..FILES_PER_DAY {
            let hour = 2 * file + 1;
            let utc = format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:00");
            regions.iter_mut().for_each(|region| region.pass_hour(random));
            text.clear();
            let mut rows = 0;
            for site in &mut sites {
                rows += site.write_hour(day * FILES_PER_DAY + file, hour, &utc, &regions, random, &mut text);
            }
            let path = folder.join(format!("{date}-{hour:02}.csv"));
            fs::write(&path, &text).map_err(Error::io("write", &path))?;
            made.files += 1;
            made.rows += rows;
            made.bytes += text.len() as u64;
            progress.file_done(text.len() as u64, rows);
        }
        date = date.next();
    }
    Ok(made)
}
