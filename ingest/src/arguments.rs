//! The command line: what was typed, and together with the configuration file the job that it means.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use overlay_ingest::generate::GenerateOptions;
use overlay_ingest::receipt::Team;
use overlay_ingest::run::RunOptions;
use overlay_ingest::{Date, DateRange, Layout};

use crate::config::{Config, ConfigError};

/// Read the CSV files of a data set into checksummed Parquet partitions, one per UTC day.
///
/// Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 done with rejected rows or refused files.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    generate: Option<Generate>,
    #[command(flatten)]
    ingest: Ingest,
}

#[derive(Debug, Subcommand)]
enum Generate {
    /// Write a synthetic data set of the same format; the same arguments give the same bytes.
    Generate {
        /// Folder of the new data set; it must not exist yet, or be empty.
        dir: PathBuf,
        /// Days from 20200810 on, twelve files each; 46 fill the dates of both shipped teams.
        #[arg(long, default_value_t = GenerateOptions::default().days)]
        days: u32,
        /// Monitoring sites; a site measures one to six parameters, about 18 rows a day.
        #[arg(long, default_value_t = GenerateOptions::default().sites)]
        sites: u32,
        #[arg(long, default_value_t = GenerateOptions::default().seed)]
        seed: u64,
    },
}

#[derive(Debug, Args)]
struct Ingest {
    /// Folder of the data set: DATASET_DIR/data/YYYYMMDD/YYYYMMDD-HH.csv.
    dataset_dir: Option<PathBuf>,
    /// Configuration file, for teams and the cache's folder [default: configs/one_host.json, if there].
    #[arg(long, env = "OVERLAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only the days of this team of the configuration file.
    #[arg(long)]
    team: Option<String>,
    /// Only this day and later ones (YYYYMMDD).
    #[arg(long, value_name = "DATE")]
    from: Option<Date>,
    /// Only this day and earlier ones (YYYYMMDD).
    #[arg(long, value_name = "DATE")]
    to: Option<Date>,
    /// Folder of the Parquet cache [default: the configuration's for this data set, else DATASET_DIR/.overlay].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Read every day of the range again, and start over if the manifest cannot be used.
    #[arg(long)]
    force: bool,
    /// Threads that parse; 0 means one per core.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1024))]
    threads: u16,
    /// Print the receipt as JSON, with every file.
    #[arg(long)]
    json: bool,
}

/// What to do.
pub enum Command {
    Generate { dir: PathBuf, options: GenerateOptions },
    Ingest(Job),
}

/// A run, ready to start.
pub struct Job {
    pub dataset: PathBuf,
    /// What the configuration calls the data set; else its folder's name counts.
    pub name: Option<String>,
    pub options: RunOptions,
    pub teams: Vec<Team>,
    pub threads: usize,
    pub json: bool,
}

/// The arguments mean nothing, or nothing that can be done.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("no data set folder was given")]
    NoDataset,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("there is no team {team:?}; known are: {known}")]
    UnknownTeam { team: String, known: String },
    #[error("no day is in the range from {from} to {to}")]
    EmptyRange { from: Date, to: Date },
}

impl Arguments {
    /// Reads the configuration file too.
    pub fn command(self) -> Result<Command, UsageError> {
        match self.generate {
            Some(Generate::Generate { dir, days, sites, seed }) => {
                let options = GenerateOptions { days, sites, seed, ..GenerateOptions::default() };
                Ok(Command::Generate { dir, options })
            }
            None => self.ingest.job().map(Command::Ingest),
        }
    }
}

impl Ingest {
    fn job(self) -> Result<Job, UsageError> {
        let dataset = self.dataset_dir.ok_or(UsageError::NoDataset)?;
        let config = Config::read(self.config.as_deref())?;
        let mut range = match &self.team {
            Some(name) => team_range(&config.teams, name)?,
            None => DateRange::ALL,
        };
        range.from = range.from.max(self.from.unwrap_or(DateRange::ALL.from));
        range.to = range.to.min(self.to.unwrap_or(DateRange::ALL.to));
        if range.from > range.to {
            return Err(UsageError::EmptyRange { from: range.from, to: range.to });
        }
        let cache = self.cache.or_else(|| config.cache_of(&dataset)).unwrap_or_else(|| dataset.join(".overlay"));
        let options = RunOptions { cache, range, layout: Layout::default(), force: self.force };
        let name = config.name_of(&dataset);
        Ok(Job { dataset, name, options, teams: config.teams, threads: self.threads.into(), json: self.json })
    }
}

fn team_range(teams: &[Team], name: &str) -> Result<DateRange, UsageError> {
    teams.iter().find(|team| team.name == name).map(|team| team.range).ok_or_else(|| {
        let known: Vec<&str> = teams.iter().map(|team| team.name.as_str()).collect();
        let known = if known.is_empty() { "none (no configuration file names any)".into() } else { known.join(", ") };
        UsageError::UnknownTeam { team: name.to_owned(), known }
    })
}
