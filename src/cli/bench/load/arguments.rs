//! What `overlay bench` without a subcommand takes.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser};

use super::request::Question;
use super::schedule::Weighted;
use crate::cli::arguments::{RangeArgs, SqlArgs, encoding, encoding_help, seconds};
use crate::cli::error::{CliError, Exit};
use crate::cli::query::range_ask;
use crate::delivery::encoding;
use crate::engine::session::Ask;
use crate::routing::Team;

/// A run keeps every request in memory to tell exact percentiles.
pub const REQUESTS_MAX: u64 = 1_000_000;
/// What is asked when nothing is said.
const DEFAULT_QUERY: &str = "PM2.5 5 35";

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Closed loop: so many requests in all [default: 100]
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "duration"], value_parser = clap::value_parser!(u64).range(1..=REQUESTS_MAX))]
    pub requests: Option<u64>,
    /// Closed loop: so many at once, each next one when one has ended [default: 10]
    #[arg(long, value_name = "C", conflicts_with_all = ["rate", "duration"], value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub concurrency: Option<u64>,
    /// Open loop: so many requests a second, at random times; latency counts from when each was due
    #[arg(long, value_name = "R", value_parser = positive)]
    pub rate: Option<f64>,
    /// Open loop: for so many seconds [default: 10]
    #[arg(long, value_name = "SECONDS", requires = "rate", value_parser = seconds)]
    pub duration: Option<f64>,
    /// A team that is billed, and its part of the requests; may be repeated. Default: none
    #[arg(long = "as", value_name = "TEAM[=WEIGHT]", value_parser = team)]
    pub teams: Vec<(String, f64)>,
    /// What is asked, as after `overlay query`; may be repeated, each as often as the others [default: "PM2.5 5 35"]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub query: Vec<String>,
    /// What is asked, as after `overlay sql`; may be repeated
    #[arg(long, value_name = "STATEMENT")]
    pub sql: Vec<String>,
    /// The rows of a right answer; default: those of the first complete answer, asked for before the run
    #[arg(long, value_name = "ROWS")]
    pub expect: Option<u64>,
    /// The same load for so long before anything is measured
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds_or_none)]
    pub warm_up: f64,
    /// The time that each request has
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub timeout: f64,
    /// Send a refused request again when the Leader's hint says, within its time; default: count it as refused
    #[arg(long)]
    pub retry: bool,
    /// Open loop: requests under way at the most; what is due beyond is counted as unissued
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub outstanding: u64,
    #[arg(long, default_value = encoding::DEFAULT, value_name = "NAME", value_parser = encoding, help = encoding_help())]
    pub encoding: &'static str,
    /// Between two looks at the nodes and figures while it runs
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub update_interval: f64,
    /// The report goes there as text and as JSON, named after the time
    #[arg(long, value_name = "DIR", default_value = "logs")]
    pub output_dir: PathBuf,
    /// Write every request to this file, as CSV: team, kind, due, start and end in microseconds, rows, status …
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
    /// The report as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Random numbers of arrivals and choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl LoadArgs {
    /// The teams, by their weights.
    pub fn team_mix(&self) -> Weighted<Option<Team>> {
        if self.teams.is_empty() {
            return Weighted::one(None);
        }
        Weighted::new(self.teams.iter().map(|(team, weight)| (Some(Team::from(team.as_str())), *weight)).collect())
    }

    /// The queries, named by their number and text.
    pub fn questions(&self) -> Result<Vec<Question>, CliError> {
        let default = [DEFAULT_QUERY.to_owned()];
        let is_silent = self.query.is_empty() && self.sql.is_empty();
        let texts = if is_silent { &default[..] } else { &self.query[..] };
        let mut questions = texts.iter().map(|text| range_question(text)).collect::<Result<Vec<_>, _>>()?;
        for sql in &self.sql {
            // A statement that clap's own rules for `overlay sql` would refuse is refused here, with their words.
            parse::<SqlArgs>("sql", &[sql])?;
            let ask = Ask::Sql(sql.clone());
            questions.push(Question { name: name(sql), ask, limit: None, allow_partial: false, expected: None });
        }
        for question in &mut questions {
            question.expected = self.expect;
        }
        Ok(questions)
    }
}

fn range_question(text: &str) -> Result<Question, CliError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let range: RangeArgs = parse("query", &words)?;
    let answer = &range.answer;
    if answer.local || answer.output.is_some() || answer.format.is_some() || answer.team.is_some() {
        let what = format!("--query {text:?}: --local, --output, --format and --as do not belong into it");
        return Err(CliError::new(Exit::USAGE, what).hint("teams are given by --as beside --query"));
    }
    let (limit, allow_partial) = (answer.limit, answer.allow_partial);
    Ok(Question { name: name(text), ask: range_ask(range)?, limit, allow_partial, expected: None })
}

/// Reads words as a command does.
fn parse<T: Args>(command: &'static str, words: &[&str]) -> Result<T, CliError> {
    #[derive(Parser)]
    #[command(no_binary_name = true, disable_help_flag = true)]
    struct Words<T: Args> {
        #[command(flatten)]
        read: T,
    }
    Words::try_parse_from(words).map(|words| words.read).map_err(|error| {
        let said = error.to_string();
        let what = said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        CliError::new(Exit::USAGE, format!("--{command} {:?}: {what}", words.join(" ")))
            .hint(format!("see `overlay {command} --help` for what can be asked"))
    })
}

/// Stands in files of comma-separated values.
fn name(text: &str) -> Arc<str> {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(',', ";").into()
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("write a number above 0".to_owned()),
    }
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { seconds(text) }
}

fn team(text: &str) -> Result<(String, f64), String> {
    match text.split_once('=') {
        Some((team, weight)) if !team.is_empty() => Ok((team.to_owned(), positive(weight)?)),
        None if !text.is_empty() => Ok((text.to_owned(), 1.0)),
        _ => Err("write TEAM or TEAM=WEIGHT".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(words: &[&str]) -> Result<LoadArgs, CliError> {
        parse("bench", words)
    }

    fn refused(words: &[&str]) -> String {
        match load(words).and_then(|load| load.questions().map(|_| ())) {
            Ok(()) => panic!("{words:?} is taken"),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn a_mix_is_read_as_the_commands_read_it() {
        let read = load(&["--as", "green=10", "--as", "pink", "--query", "no2 -5 0 --limit 7", "--sql", "SELECT 1, 2"]);
        let read = read.unwrap();
        assert_eq!(read.teams, [("green".to_owned(), 10.0), ("pink".to_owned(), 1.0)]);
        let questions = read.questions().unwrap();
        assert_eq!(questions.iter().map(|q| &*q.name).collect::<Vec<_>>(), ["no2 -5 0 --limit 7", "SELECT 1; 2"]);
        let Ask::Range(filter) = &questions[0].ask else { panic!("{:?}", questions[0]) };
        assert_eq!((filter.parameter.as_deref(), filter.min, filter.max), (Some("no2"), Some(-5.0), Some(0.0)));
        assert_eq!((questions[0].limit, &questions[1].ask), (Some(7), &Ask::Sql("SELECT 1, 2".into())));
        let default = load(&["--expect", "9"]).unwrap();
        assert_eq!((default.questions().unwrap().len(), default.questions().unwrap()[0].expected), (1, Some(9)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (words, said) in [
            (&["--rate", "5", "--requests", "3"][..], "cannot be used with"),
            (&["--duration", "5"], "required"),
            (&["--rate", "0"], "above 0"),
            (&["--requests", "0"], "0"),
            (&["--requests", "1000001"], "1000001"),
            (&["--as", "=3"], "TEAM"),
            (&["--as", "green=-1"], "above 0"),
            (&["--query", "PM2.5 five"], "five"),
            (&["--query", "PM2.5 35 5"], "the range is empty"),
            (&["--query", "PM2.5 --local"], "--local"),
            (&["--query", "PM2.5 --as green"], "beside --query"),
        ] {
            let told = refused(words);
            assert!(told.contains(said), "{words:?}: {told}");
        }
    }
}
