//! What can be typed: the commands, and the flags of those that start, end and look.

mod answers;
mod strategies;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::bench::BenchArgs;
use super::system_test::TestArgs;
use crate::node::log::LINES_MAX;
use strategies::fairness_help;

pub use answers::{AnswerArgs, RangeArgs, RowFormat, SqlArgs, encoding, encoding_help, seconds};
pub use strategies::OverrideArgs;

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
    /// refusals are counted apart. Ctrl-C ends it with a report of what was sent until then.
    #[command(verbatim_doc_comment)]
    Bench(Box<BenchArgs>),
    /// Test a running Leader from outside: a request, its status, chunks, many requests at once, a cancel
    Test(TestArgs),
    /// Work with configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
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
    /// table, csv or json
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

fn seconds_or_none(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { seconds(text) }
}
