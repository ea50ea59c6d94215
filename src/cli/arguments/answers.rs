//! What is asked for, and how the answer is wanted.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use overlay_ingest::Date;

use super::strategies::family_help;
use crate::delivery::encoding::{self, ENCODINGS};

/// What rows look like on stdout or in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// For people; at a terminal the first 40 rows, unless asked for by name
    Table,
    /// With a header; NULL is an empty cell
    Csv,
    /// One array of objects
    Json,
    /// An Arrow IPC stream
    Arrow,
}

#[derive(Debug, Args)]
pub struct RangeArgs {
    /// Such as PM2.5 or ozone; letter case does not matter
    pub parameter: Option<String>,
    /// Least concentration, included
    #[arg(allow_negative_numbers = true, value_parser = bound)]
    pub min: Option<f64>,
    /// Greatest concentration, included
    #[arg(allow_negative_numbers = true, value_parser = bound)]
    pub max: Option<f64>,
    /// First day, YYYYMMDD, UTC
    #[arg(long, value_name = "DATE")]
    pub from: Option<Date>,
    /// Last day, YYYYMMDD, UTC, included
    #[arg(long, value_name = "DATE")]
    pub to: Option<Date>,
    /// South,west,north,east in degrees, edges included
    #[arg(long, value_name = "S,W,N,E", allow_hyphen_values = true, value_parser = bbox)]
    pub bbox: Option<Bbox>,
    /// Only these columns, in this order
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub columns: Vec<String>,
    #[command(flatten)]
    pub answer: AnswerArgs,
}

fn bound(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|bound: &f64| !bound.is_nan()).ok_or_else(|| "write a number".to_owned())
}

/// Four numbers of a box.
#[derive(Debug, Clone, Copy)]
pub struct Bbox(pub [f64; 4]);

fn bbox(text: &str) -> Result<Bbox, String> {
    let numbers: Vec<f64> = text
        .split(',')
        .map(|number| number.trim().parse::<f64>().map_err(|_| format!("{number:?} is not a number")))
        .collect::<Result<_, _>>()?;
    let [south, west, north, east] = numbers[..] else {
        return Err(format!("{} numbers; write south,west,north,east", numbers.len()));
    };
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err("the numbers must be finite".to_owned());
    }
    if !(-90.0..=90.0).contains(&south) || !(-90.0..=90.0).contains(&north) {
        return Err("south and north are degrees of latitude, -90 to 90".to_owned());
    }
    if !(-180.0..=180.0).contains(&west) || !(-180.0..=180.0).contains(&east) {
        return Err("west and east are degrees of longitude, -180 to 180".to_owned());
    }
    if south > north || west > east {
        return Err("south must not lie above north, nor west beyond east".to_owned());
    }
    Ok(Bbox([south, west, north, east]))
}

#[derive(Debug, Args)]
pub struct SqlArgs {
    /// The statement, or `-` to read it from stdin
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub sql: Option<String>,
    /// Read the statement from a file
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub answer: AnswerArgs,
}

/// How the answer is wanted.
#[derive(Debug, Default, Args)]
pub struct AnswerArgs {
    /// Default: a table at a terminal, csv in a pipe, with -o what the file's name says
    #[arg(long, value_enum)]
    pub format: Option<RowFormat>,
    /// Write to a file, which appears only when the answer is complete
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Which team the query is billed to
    #[arg(long = "as", value_name = "TEAM")]
    pub team: Option<String>,
    /// Take what there is when nodes are missing; then exit 3
    #[arg(long)]
    pub allow_partial: bool,
    /// Give up after so many seconds; default: the Leader's deadline_s
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<f64>,
    #[arg(long, default_value = encoding::DEFAULT, value_name = "NAME", value_parser = encoding, help = encoding_help())]
    pub encoding: &'static str,
    /// Ask the data of this host, without the overlay: a reference
    #[arg(long)]
    pub local: bool,
    /// No footer
    #[arg(short, long)]
    pub quiet: bool,
    /// A longer footer: time by stage, and rows, bytes and time by node
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
}

pub fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if seconds.is_finite() && seconds > 0.0 && seconds <= 1e9 {
        Ok(seconds)
    } else {
        Err("write a number of seconds above 0".to_owned())
    }
}

pub fn encoding_help() -> String {
    family_help("How chunks travel", ENCODINGS.iter().map(|line| (line.name, line.help)))
}

pub fn encoding(name: &str) -> Result<&'static str, String> {
    let known = ENCODINGS.iter().map(|line| line.name);
    known
        .clone()
        .find(|known| *known == name)
        .ok_or_else(|| format!("there is no encoding {name:?}; there are {}", known.collect::<Vec<_>>().join(", ")))
}
