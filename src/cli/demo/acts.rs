//! The acts of the play, one function each: says what it shows and why, does it, and shows what came of it.

use std::time::Instant;

use super::super::error::{CliError, Exit};
use super::super::table::{TextTable, bytes, grouped};
use super::Broken;
use super::asking::{Asked, ask, run_as_shell};
use super::place::{Made, Place};
use super::stage::{Stage, Style};
use super::{picture, telling};
use crate::client::Client;
use crate::engine::filter::RangeFilter;
use crate::engine::session::Ask;
use crate::failure::Failure;
use crate::node::status::NodeStatus;
use crate::routing::{NodeId, Role};

/// What is asked throughout: air that is good to moderate, the classic question of the data set.
const PARAMETER: &str = "PM2.5";
const MIN: f64 = 5.0;
const MAX: f64 = 35.0;
const COLUMNS: [&str; 4] = ["utc", "site_name", "concentration", "aqi"];
/// The first days are left out of the question, so that there is something to prune.
const DAYS_LEFT_OUT: usize = 2;
const ROWS_SHOWN: usize = 4;
/// Where the shell's answers go.
const ROWS_FILE: &str = "rows.csv";
const SQL: &str = "SELECT parameter, count(*) AS readings, \
    round(avg(concentration), 1) AS mean, max(concentration) AS highest \
    FROM observations GROUP BY parameter ORDER BY readings DESC";

/// The question of the demo in its two forms.
pub struct Question {
    filter: RangeFilter,
    from: String,
}

impl Question {
    /// About the days of this data set.
    pub fn over(made: &Made) -> Question {
        let from = made.dates[DAYS_LEFT_OUT.min(made.dates.len() - 1)];
        let filter = RangeFilter {
            parameter: Some(PARAMETER.to_owned()),
            min: Some(MIN),
            max: Some(MAX),
            dates: Some(overlay_ingest::DateRange { from, ..overlay_ingest::DateRange::ALL }),
            bbox: None,
            columns: COLUMNS.map(str::to_owned).to_vec(),
        };
        Question { filter, from: from.to_string() }
    }

    /// As it is typed.
    pub fn command<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["query", PARAMETER, "5", "35", "--from", &self.from], more].concat()
    }
}

pub fn a_data_set(stage: &mut Stage, made: &Made) -> Result<(), Broken> {
    stage.act(
        "A data set",
        "Hourly air-quality readings, made up just now, as skewed and dirty as a real fire season. Ingest turns each \
         day into one checksummed partition.",
    )?;
    let dates = format!("{} to {}", made.dates[0], made.dates[made.dates.len() - 1]);
    let partitions = made.dates.len();
    stage.fact(
        "generated",
        &format!(
            "{} rows in {} CSV files, {}, {dates}",
            grouped(made.generated.rows),
            grouped(made.generated.files),
            bytes(made.generated.bytes),
        ),
    )?;
    stage.fact(
        "ingested",
        &format!(
            "{partitions} partitions, {}, {} rows rejected",
            bytes(made.parquet_bytes),
            grouped(made.rows_rejected),
        ),
    )?;
    Ok(())
}

pub fn six_processes(stage: &mut Stage, place: &Place, status: &NodeStatus) -> Result<(), Broken> {
    stage.act(
        "Six processes",
        "One program, six times; each talks to its neighbours only and holds some days in \
         memory, except A, the Leader, which takes the questions.",
    )?;
    let mut table = TextTable::new(&["id", "role", "team", ">days", ">rows", ">port", ">pid"]);
    for member in &status.members {
        let port = member.address.rsplit(':').next().unwrap_or_default().to_owned();
        let pid = place.pid(&member.process_id).map(|pid| pid.to_string()).unwrap_or_default();
        table.row(vec![
            member.process_id.to_string(),
            member.role.to_string(),
            member.team.to_string(),
            member.partitions.to_string(),
            grouped(member.rows),
            port,
            pid,
        ]);
    }
    stage.verbatim(Style::Plain, &picture::beside(&picture::overlay(None), &table.render()))?;
    Ok(())
}

/// Asks, shows and gives the rows as sorted text, to compare later answers with.
pub async fn a_range(stage: &mut Stage, client: &Client, question: &Question) -> Result<Vec<String>, Broken> {
    stage.act(
        "A range query",
        "The Leader finds which days can match and asks the holder of each. All scan at \
         once; rows come back over the same route, in chunks.",
    )?;
    stage.command(&question.command(&["--columns", &COLUMNS.join(",")]))?;
    let asked = asked(client, Ask::Range(question.filter.clone())).await?;
    stage.verbatim(Style::Plain, &telling::first_rows(&asked, ROWS_SHOWN)?)?;
    stage.plain("")?;
    stage.fact("answer", &telling::answer(&asked))?;
    for (index, line) in telling::routes(&asked).lines().enumerate() {
        stage.fact(if index == 0 { "routes" } else { "" }, line)?;
    }
    stage.fact("coverage", &telling::coverage(&asked))?;
    stage.fact("chunks", &telling::chunks(&asked))?;
    Ok(asked.rows_as_text()?)
}

pub async fn some_sql(stage: &mut Stage, client: &Client) -> Result<(), Broken> {
    stage.act(
        "The same data in SQL",
        "Columns and filters travel to the nodes, rows come back, the Leader aggregates.",
    )?;
    stage.command(&["sql", SQL])?;
    let asked = asked(client, Ask::Sql(SQL.to_owned())).await?;
    stage.verbatim(Style::Plain, &telling::first_rows(&asked, asked.footer.rows as usize)?)?;
    stage.plain("")?;
    stage.fact("answer", &telling::answer(&asked))?;
    stage.fact("coverage", &telling::coverage(&asked))?;
    stage.fact("chunks", &telling::chunks(&asked))?;
    Ok(())
}

pub async fn a_worker_dies(
    stage: &mut Stage,
    place: &mut Place,
    question: &Question,
    status: &NodeStatus,
    victim: &NodeId,
) -> Result<(), Broken> {
    stage.act(
        "A worker dies",
        "An answer without its rows would look just like a right one. So there is no answer: the command fails and \
         names the node, the route and the days.",
    )?;
    let pid = place.kill(victim)?;
    stage.command_text(&format!("kill -9 {pid}"))?;
    stage.plain("")?;
    let held = dates_held(status, victim);
    let gone = format!("{victim} is gone, and with it the only copies of {} days:\n{}", held.len(), in_lines(&held, 5));
    stage.verbatim(Style::Plain, &picture::beside(&picture::overlay(Some(victim)), &gone))?;
    stage.plain("")?;
    let arguments = question.command(&["-o", ROWS_FILE]);
    stage.command(&arguments)?;
    let ended = run_as_shell(place, &arguments, ROWS_FILE).await?;
    stage.shell_says(&ended.stderr)?;
    stage.plain("")?;
    stage.fact("exit code", &ended.code.to_string())?;
    if ended.code != i32::from(Exit::FAILED.0) || ended.rows.is_some() {
        return Err(unexpected("a query without a node was not refused", &ended.stderr).into());
    }
    stage.fact(ROWS_FILE, "does not exist: a file appears only when its answer is complete")?;
    Ok(())
}

pub async fn with_gaps(stage: &mut Stage, place: &Place, question: &Question, whole: &[String]) -> Result<(), Broken> {
    stage.act(
        "What there is",
        "Who can live with gaps says so, and gets all other rows and the gaps by name. Scripts see it by the exit code.",
    )?;
    let arguments = question.command(&["--allow-partial", "-o", ROWS_FILE]);
    stage.command(&arguments)?;
    let ended = run_as_shell(place, &arguments, ROWS_FILE).await?;
    stage.shell_says(&ended.stderr)?;
    stage.plain("")?;
    stage.fact("exit code", &ended.code.to_string())?;
    let rows = ended.rows.filter(|_| ended.code == i32::from(Exit::PARTIAL.0));
    let rows = rows.ok_or_else(|| unexpected("a partial answer did not end as one", &ended.stderr))?;
    stage.fact(ROWS_FILE, &format!("{} of the {} rows", grouped(rows), grouped(whole.len() as u64)))?;
    Ok(())
}

pub async fn it_comes_back(
    stage: &mut Stage,
    place: &mut Place,
    client: &Client,
    question: &Question,
    victim: &NodeId,
    whole: &[String],
) -> Result<(), Broken> {
    stage.act(
        "It comes back",
        "Started again, it finds in its folder what it held, and loads it. Nobody else restarts, and the answer is \
         whole again.",
    )?;
    let start = Instant::now();
    stage.command(&["node", "--id", victim.as_str()])?;
    place.start_again(victim).await?;
    stage.fact("ready", &format!("{victim} after {:.1} s; every day is held again", start.elapsed().as_secs_f64()))?;
    let asked = asked(client, Ask::Range(question.filter.clone())).await?;
    stage.fact("asked again", &telling::answer(&asked))?;
    stage.fact("coverage", &telling::coverage(&asked))?;
    let rows = asked.rows_as_text()?;
    if rows != whole {
        return Err(unexpected("the answer is another one than before", "").into());
    }
    stage.fact("compared", &format!("all {} rows are those of the first answer", grouped(rows.len() as u64)))?;
    Ok(())
}

async fn asked(client: &Client, question: Ask) -> Result<Asked, CliError> {
    ask(client, question).await.map_err(|failure: Failure| CliError::from_failure(&failure, client.address()))
}

/// What the demo promised did not come true: a defect, or a machine too slow to tell.
fn unexpected(what: &str, said: &str) -> CliError {
    let detail = said.trim();
    let gap = if detail.is_empty() { "" } else { "; it said:\n" };
    CliError::new(Exit::FAILED, format!("{what}{gap}{detail}")).hint("report this; --seed and --days repeat it")
}

/// The worker to kill: the last one that holds anything, so that the others are not behind it.
pub fn victim(status: &NodeStatus) -> Result<NodeId, CliError> {
    let mut workers = status.members.iter().filter(|member| member.role == Role::Worker && member.partitions > 0);
    let last = workers.next_back().map(|member| member.process_id.clone());
    last.ok_or_else(|| CliError::new(Exit::FAILED, "no worker holds anything").hint("give it more --days"))
}

fn in_lines(words: &[String], per_line: usize) -> String {
    words.chunks(per_line).map(|line| line.join(" ")).collect::<Vec<_>>().join("\n")
}

fn dates_held(status: &NodeStatus, node: &NodeId) -> Vec<String> {
    let held = status.partitions.iter().filter(|partition| partition.holders.contains(node));
    held.map(|partition| partition.date.clone()).collect()
}
