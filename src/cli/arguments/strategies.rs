//! Flags in place of settings of the configuration file, and what the help says of strategies.

use std::path::PathBuf;

use clap::Args;

use crate::delivery::chunking;
use crate::leader::fairness;
use crate::routing::forwarding;

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
pub(super) fn family_help<'a>(what: &str, table: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let lines: Vec<String> = table.map(|(name, help)| format!("{name}: {help}")).collect();
    format!("{what} [{}]", lines.join("; "))
}

fn forwarding_help() -> String {
    family_help("Who is asked in which order", forwarding::STRATEGIES.iter().map(|line| (line.name, line.help)))
}

fn chunking_help() -> String {
    family_help("How answers are cut", chunking::STRATEGIES.iter().map(|line| (line.name, line.help)))
}

pub(super) fn fairness_help() -> String {
    family_help("Which query starts next", fairness::STRATEGIES.iter().map(|line| (line.name, line.help)))
}
