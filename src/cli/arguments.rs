//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use overlay_ingest::Date;

use super::bench::BenchArgs;
use super::system_test::TestArgs;
use crate::delivery::chunking;
use crate::delivery::encoding::{self, ENCODINGS};
use crate::engine::filter::RangeFilter;
use crate::leader::fairness;
use crate::node::log::LINES_MAX;
use crate::routing::forwarding;

/// A columnar analytics engine behind an overlay network.
///
/// Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 partial result, 4 no node reachable, 5 refused by
/// admission, 124 timeout, 130 interrupted.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// For every command.
#[derive(Debug, Args)]
pub struct Common {
    /// The cluster's configuration file
    #[arg(long, global = true, env = "OVERLAY_CONFIG", default_value = "configs/one_host.json", value_name = "FILE")]
    pub config: PathBuf,
    /// The Leader's address, instead of the one in the configuration
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = address)]
    pub leader: Option<String>,
}

fn address(text: &str) -> Result<String, String> {
    let is_host = |host: &str| !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        _ => Err("write HOST:PORT, such as 127.0.0.1:60051".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show everything at once: data, six processes, queries, a failure; needs nothing and leaves nothing
    Demo(DemoArgs),
    /// Run one process of the configuration
    Node(NodeArgs),
    /// Start every process of the configuration whose host is this machine
    Up(UpArgs),
    /// End the processes that `up` started on this machine
    Down(DownArgs),
    /// Show every process: state, rows, links
    Status(StatusArgs),
    /// Ask for observations by parameter, range, dates and box
    ///
    /// Examples:
    ///   overlay query PM2.5 5 35
    ///   overlay query no2 -5 0 --from 20200901 --columns utc,site_name,concentration
    #[command(verbatim_doc_comment)]
    Query(RangeArgs),
    /// Ask in SQL: one statement that reads
    ///
    /// Examples:
    ///   overlay sql "SELECT parameter, count(*) FROM observations GROUP BY parameter"
    ///   overlay sql -f report.sql -o report.csv
    ///   echo "SELECT 1" | overlay sql -
    #[command(verbatim_doc_comment)]
    Sql(SqlArgs),
    /// Show a node's figures
    Metrics(MetricsArgs),
    /// Visit every node over the paths that a query takes; draws the tree of hops with times
    Trace(TraceArgs),
    /// Show the Leader's queue: places, what runs, and for each team what was admitted and refused and how it waited
    Check(ListArgs),
    /// Change a setting of the running overlay
    #[command(subcommand)]
    Control(ControlCommand),
    /// Show every link of the overlay: configured or adopted, up or down
    Peers(ListArgs),
    /// Show the end of a node's log, wherever it runs
    ///
    /// Exit codes: 0 shown, or the node ended while it was followed; 4 nobody there; 130 Ctrl-C.
    Logs(LogsArgs),
    /// Look for whatever could keep the overlay from working: config, ports, peers, clocks, data, disk
    ///
    /// Each finding that is not ok has a hint of what to do. Exit codes: 0 no problem, 1 a problem.
    Doctor(DoctorArgs),
    /// Show every partition: date, rows, who holds it
    Partitions(ListArgs),
    /// Put a load on the Leader and measure it: latency, throughput, refusals; `fairness` and `compare` below
    ///
    /// Examples:
    ///   overlay bench --requests 400 --concurrency 20 --query "PM2.5 5 35 --limit 2000"
    ///   overlay bench --rate 50 --duration 30 --as green=10 --as pink=100 --retry
    ///   overlay bench --sql "SELECT parameter, count(*) FROM observations GROUP BY parameter" --raw requests.csv
    ///   overlay bench compare logs/bench-1.json logs/bench-2.json
    ///   overlay bench fairness
    ///
    /// Every answer is read to its last chunk, and its rows are counted. Exit 1 if an answer was wrong or failed;
    /// refusals are counted apart.
    #[command(verbatim_doc_comment)]
    Bench(BenchArgs),
    /// Test a running Leader from outside: a request, its status, chunks, many requests at once, a cancel
    Test(TestArgs),
    /// Work with configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
pub struct BenchEngineArgs {
    /// The data set's folder
    #[arg(long, value_name = "DIR")]
    pub dataset: PathBuf,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// What is counted and fetched
    #[arg(long, value_name = "PARAMETER,MIN,MAX", default_value = "PM2.5,5,35", value_parser = bench_range)]
    pub range: BenchRange,
    /// The row that remote_point asks for; default: one of the first day
    #[arg(long, value_name = "FULL_AQS_ID,PARAMETER,UTC", value_parser = bench_point)]
    pub point: Option<BenchPoint>,
    /// Only these workloads
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub only: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ColdCountArgs {
    #[arg(long)]
    pub cache: PathBuf,
    #[arg(long, value_parser = bench_range)]
    pub range: BenchRange,
}

/// A parameter and the range of its concentration, both ends included.
#[derive(Debug, Clone)]
pub struct BenchRange {
    pub parameter: String,
    pub min: f64,
    pub max: f64,
}

impl std::fmt::Display for BenchRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{}", self.parameter, self.min, self.max)
    }
}

impl BenchRange {
    /// The range as a query.
    pub fn filter(&self) -> RangeFilter {
        RangeFilter {
            parameter: Some(self.parameter.clone()),
            min: Some(self.min),
            max: Some(self.max),
            ..RangeFilter::default()
        }
    }
}

fn bench_range(text: &str) -> Result<BenchRange, String> {
    let [parameter, min, max] = text.split(',').collect::<Vec<_>>()[..] else {
        return Err("write PARAMETER,MIN,MAX".to_owned());
    };
    let number = |text: &str| match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is not a number")),
    };
    Ok(BenchRange { parameter: parameter.to_owned(), min: number(min)?, max: number(max)? })
}

/// One site, parameter and hour.
#[derive(Debug, Clone)]
pub struct BenchPoint {
    pub site: String,
    pub parameter: String,
    /// Such as 2020-09-01T05:00:00.
    pub utc: String,
}

fn bench_point(text: &str) -> Result<BenchPoint, String> {
    match text.split(',').collect::<Vec<_>>()[..] {
        [site, parameter, utc] => {
            Ok(BenchPoint { site: site.to_owned(), parameter: parameter.to_owned(), utc: utc.to_owned() })
        }
        _ => Err("write FULL_AQS_ID,PARAMETER,UTC".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub enum ControlCommand {
    /// Another fairness strategy, from now until the Leader ends; no query is dropped
    Fairness {
        #[arg(help = fairness_help())]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a configuration file and report everything that is wrong with it
    Check {
        /// Default: the file of --config
        file: Option<PathBuf>,
    },
}

/// The demo has a configuration of its own: `--config` and `--leader` do not count.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave it running at the end, and say how to go on
    #[arg(long)]
    pub keep: bool,
    /// Days of data to generate, a third of them the first team's
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u32).range(6..=46))]
    pub days: u32,
    /// The same seed gives the same data
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Which process of the configuration
    #[arg(long, value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub overrides: OverrideArgs,
    /// Write the log to stderr instead of logs/ID.log
    #[arg(long)]
    pub log_to_stderr: bool,
    /// End when stdin is closed: a program that starts nodes with a pipe leaves none behind, however it ends
    #[arg(long)]
    pub while_stdin_open: bool,
}

/// Settings of the configuration file that a flag can replace. Strategies count on the Leader.
#[derive(Debug, Args, Clone, Default)]
pub struct OverrideArgs {
    #[arg(long, value_name = "NAME", help = forwarding_help())]
    pub forwarding_strategy: Option<String>,
    /// Ask all next hops at once instead of one after the other
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub async_forwarding: Option<bool>,
    #[arg(long, value_name = "NAME", help = chunking_help())]
    pub chunking_strategy: Option<String>,
    #[arg(long, value_name = "NAME", help = fairness_help())]
    pub fairness_strategy: Option<String>,
    /// Rows of a chunk, the base of every chunking strategy
    #[arg(long, value_name = "ROWS")]
    pub chunk_size: Option<u32>,
    /// Seconds that a finished result stays after it was last read
    #[arg(long, value_name = "SECONDS")]
    pub result_ttl: Option<u64>,
    /// The data set's folder
    #[arg(long, value_name = "DIR")]
    pub dataset_root: Option<PathBuf>,
}

/// What a family is for, and its members, from the family's own table.
fn family_help<'a>(what: &str, table: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let lines: Vec<String> = table.map(|(name, help)| format!("{name}: {help}")).collect();
    format!("{what} [{}]", lines.join("; "))
}

fn forwarding_help() -> String {
    family_help("Who is asked in which order", forwarding::STRATEGIES.iter().map(|line| (line.name, line.help)))
}

fn chunking_help() -> String {
    family_help("How answers are cut", chunking::STRATEGIES.iter().map(|line| (line.name, line.help)))
}

fn fairness_help() -> String {
    family_help("Which query starts next", fairness::STRATEGIES.iter().map(|line| (line.name, line.help)))
}

pub fn encoding_help() -> String {
    family_help("How chunks travel", ENCODINGS.iter().map(|line| (line.name, line.help)))
}

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Start only these processes
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub only: Vec<String>,
    /// Return when they serve; end them later with `overlay down`
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

#[derive(Debug, Args)]
pub struct DownArgs {
    /// End only these processes
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub only: Vec<String>,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Wait until every process is ready and every partition is held, at most so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none)]
    pub wait: Option<f64>,
    /// table or json
    #[arg(long, value_enum)]
    pub format: Option<ListFormat>,
}

#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// The process; default: the Leader
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Every process of the configuration
    #[arg(long, conflicts_with = "id")]
    pub all: bool,
    /// table, csv or json
    #[arg(long, value_enum)]
    pub format: Option<ListFormat>,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Start at this process instead of the Leader
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Seconds to wait for the furthest node
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub timeout: f64,
    /// table or json
    #[arg(long, value_enum)]
    pub format: Option<ListFormat>,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The process
    #[arg(value_name = "ID")]
    pub id: String,
    /// Go on with what it writes, until Ctrl-C or its end
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the lines written before, up to 10000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=i64::from(LINES_MAX)))]
    pub lines: u32,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// For programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// table, csv or json
    #[arg(long, value_enum)]
    pub format: Option<ListFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    Table,
    Csv,
    Json,
}

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

fn seconds_or_none(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { seconds(text) }
}

pub fn encoding(name: &str) -> Result<&'static str, String> {
    let known = ENCODINGS.iter().map(|line| line.name);
    known
        .clone()
        .find(|known| *known == name)
        .ok_or_else(|| format!("there is no encoding {name:?}; there are {}", known.collect::<Vec<_>>().join(", ")))
}
