//! The command line: one file a command, the forms of output, errors and exit codes.
//!
//! stdout is data only. Progress, footers and errors go to stderr.

mod arguments;
mod bench;
mod check;
mod config_check;
mod control;
mod demo;
mod doctor;
mod error;
mod footer;
mod logs;
mod metrics;
mod metrics_table;
mod node;
mod output;
mod partitions;
mod peers;
mod place;
mod query;
mod spawn;
mod status;
mod system_test;
mod table;
mod target;
mod trace;
mod up;

use std::process::ExitCode;

use clap::Parser;

pub use error::{CliError, Exit};

use crate::node::os;
use arguments::{Arguments, Command, ConfigCommand, ControlCommand};

/// Runs the program: a table of contents.
pub fn run() -> ExitCode {
    os::without_huge_pages();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are no errors and go to stdout; the rest is usage, exit 2.
        Err(error) => {
            let code = if error.use_stderr() { Exit::USAGE } else { Exit::OK };
            let _ = error.print();
            return code.into();
        }
    };
    let common = &arguments.common;
    let done = match arguments.command {
        Command::Demo(demo) => demo::run(&demo),
        Command::Node(node) => node::run(common, &node),
        Command::Up(up) => up::run(common, &up),
        Command::Down(down) => up::down(common, &down),
        Command::Status(status) => status::run(common, &status),
        Command::Query(query) => query::run_range(common, query),
        Command::Sql(sql) => query::run_sql(common, sql),
        Command::Metrics(metrics) => metrics::run(common, &metrics),
        Command::Trace(trace) => trace::run(common, &trace),
        Command::Check(check) => check::run(common, &check),
        Command::Control(ControlCommand::Fairness { name }) => control::fairness(common, &name),
        Command::Peers(peers) => peers::run(common, &peers),
        Command::Logs(logs) => logs::run(common, &logs),
        Command::Doctor(doctor) => doctor::run(common, &doctor),
        Command::Partitions(partitions) => partitions::run(common, &partitions),
        Command::Bench(bench) => bench::run(common, &bench),
        Command::Test(test) => system_test::run(&test),
        Command::Config(ConfigCommand::Check { file }) => config_check::run(common, file),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print();
            error.exit.into()
        }
    }
}
