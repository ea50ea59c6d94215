//! `overlay bench fairness`: the promises of the Leader's control, measured from outside, and first come first served
//! beside them.
//!
//! It decides which nodes are measured with which strategy, in which order, and prints what came of it. Each strategy
//! gets fresh nodes on the same generated data and its own peak, which the loads are multiples of; where much depends on it
//! the peak is measured again right before. What a scenario is,
//! [`scenarios`] says; what a figure means, [`measures`]; what is to be reached, [`goals`].
//!
//! Nothing is hidden: a scenario that could not be run has no figure, one that missed its goal prints it, and the load
//! generator's own part of the machine stands below the table, because it runs on the same cores.

mod cancel;
mod configuration;
mod data;
mod goals;
mod measures;
mod scenarios;
mod shares;
#[cfg(test)]
mod simulated;
mod slow_reader;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value, json};

use super::load::Board;
use super::load::generator::{self, Run};
use super::load::machine::{self, CpuMeter};
use super::load::record::{self, Record};
use super::load::request::{Manner, Question, send};
use super::load::{about, rows_as_text};
use super::nodes::Nodes;
use crate::cli::error::{CliError, Exit};
use crate::client::Client;
use crate::delivery::encoding;
use crate::engine::session::Ask;
use crate::node::os;
use configuration::{Shape, configuration, strategy};
use data::GeneratedData;
use goals::{Measured, Memory};
use measures::{CONSERVATION, Conserving, Costs, OVERLOAD_PEAKS, PEAK_SCAN, Runs};
use scenarios::{Lengths, Scenarios};

/// How the run with six processes is told from that with one.
const SIX: &str = "-six";
/// What can be asked for by `--only`.
const SCENARIOS: [&str; 7] =
    ["equal_10x", "equal_100x", "weights", "overload", "slow_reader", "conservation", "cancel"];
/// The strategy that the others are compared with.
const FIFO: &str = "fifo";
/// How long a change of strategy may take.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// Different small queries, so that no single answer is remembered.
const SMALLS: usize = 16;

#[derive(Debug, Args)]
pub struct FairnessArgs {
    /// One JSON object instead of the table
    #[arg(long)]
    pub json: bool,
    /// Write every request to this file, as CSV: run, team, kind, due, start and end in microseconds, rows, status …
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
    /// Measure nothing: compute the figures again from a file that --raw wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "quick", "only", "alone", "six", "strategy", "sites", "parameter"])]
    pub from: Option<PathBuf>,
    /// Half the time for ours as well, for a first look
    #[arg(long)]
    pub quick: bool,
    /// Only these scenarios, by their keys in the JSON object
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Without first come, first served beside it
    #[arg(long)]
    pub alone: bool,
    /// Measure the six processes of configs/one_host.json as well
    #[arg(long)]
    pub six: bool,
    /// The strategy that is measured
    #[arg(long, value_name = "NAME", default_value = "fair_queue")]
    pub strategy: String,
    /// Sites of the generated data set: more make scans longer. With these it has a million rows
    #[arg(long, value_name = "N", default_value_t = 1200)]
    pub sites: u32,
    /// The parameter that scans ask for
    #[arg(long, value_name = "NAME", default_value = "OZONE")]
    pub parameter: String,
    /// Random numbers of data, arrivals and cancels
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// What came of one strategy on one shape of nodes.
struct Outcome {
    label: String,
    records: Vec<Record>,
    memory: Option<Memory>,
    /// Cores that generator and nodes had on average.
    cores_used: Option<(f64, f64)>,
}

/// Measures, or computes again.
pub fn run(arguments: &FairnessArgs) -> Result<Exit, CliError> {
    if let Some(path) = &arguments.from {
        return again(path, arguments.json);
    }
    // One thread: the generator is to have as little of the machine as it can.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::caused(Exit::FAILED, "the program cannot start", &error))?;
    runtime.block_on(async {
        tokio::select! {
            done = measure(arguments) => done,
            // Dropping what runs ends the nodes and removes the folder.
            _ = os::asked_to_end() => Err(CliError::new(Exit::INTERRUPTED, "interrupted")),
        }
    })
}

async fn measure(arguments: &FairnessArgs) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let ours = strategy(&arguments.strategy)?;
    known_scenarios(&arguments.only)?;
    eprintln!("generating data …");
    let data = GeneratedData::make(arguments.sites, arguments.seed)?;
    let first = one(arguments, &data, Shape::Embedded, ours, ours).await?;
    let beside = if ours == FIFO || arguments.alone {
        None
    } else {
        Some(one(arguments, &data, Shape::Embedded, FIFO, FIFO).await?)
    };
    let six = if arguments.six {
        Some(one(arguments, &data, Shape::Six, ours, &format!("{ours}{SIX}")).await?)
    } else {
        None
    };

    let outcomes: Vec<Outcome> = [Some(first), beside, six].into_iter().flatten().collect();
    let (costs, columns) = columns(&outcomes)?;
    let mut about = about(arguments.seed);
    about.insert("strategy".to_owned(), json!(ours));
    about.insert("rows".to_owned(), json!(data.rows));
    about.insert("sites".to_owned(), json!(arguments.sites));
    about.insert("seconds".to_owned(), json!(begun.elapsed().as_secs_f64()));
    about.insert("quick".to_owned(), json!(arguments.quick));
    if let Some(path) = &arguments.raw {
        write_raw(path, &outcomes)?;
    }
    print(arguments.json, &columns, costs, &outcomes, about);
    Ok(Exit::OK)
}

fn known_scenarios(names: &[String]) -> Result<(), CliError> {
    match names.iter().find(|name| !SCENARIOS.contains(&name.as_str())) {
        Some(name) => Err(CliError::new(Exit::USAGE, format!("there is no scenario {name:?}"))
            .hint(format!("there are {}", SCENARIOS.join(", ")))),
        None => Ok(()),
    }
}

/// The figures of requests that were written down earlier. What the nodes' memory was, no request tells.
fn again(path: &Path, json: bool) -> Result<Exit, CliError> {
    let text = std::fs::read_to_string(path);
    let text =
        text.map_err(|error| CliError::caused(Exit::USAGE, format!("{} cannot be read", path.display()), &error))?;
    let records = record::read(&text).map_err(|why| {
        CliError::new(Exit::USAGE, format!("{}: {why}", path.display())).hint("such files are written by --raw")
    })?;
    let outcomes = outcomes_of(records);
    let (costs, columns) = columns(&outcomes)?;
    print(json, &columns, costs, &outcomes, Map::new());
    Ok(Exit::OK)
}

/// The records by the strategy in the names of their runs, in the order of the file.
fn outcomes_of(records: Vec<Record>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for record in records {
        let label = record.run.split('/').next().unwrap_or_default();
        match outcomes.iter_mut().find(|outcome| outcome.label == label) {
            Some(outcome) => outcome.records.push(record),
            None => {
                let label = label.to_owned();
                outcomes.push(Outcome { label, records: vec![record], memory: None, cores_used: None });
            }
        }
    }
    outcomes
}

/// The figures of each strategy, the measured one first, and its costs.
fn columns(outcomes: &[Outcome]) -> Result<(Costs, Vec<(String, Measured)>), CliError> {
    let costs = |outcome: &Outcome| {
        let found = Runs::of(&outcome.label, &outcome.records).costs();
        found.ok_or_else(|| CliError::new(Exit::FAILED, format!("{}: no query was answered", outcome.label)))
    };
    let first = outcomes.first().ok_or_else(|| CliError::new(Exit::USAGE, "there is no request"))?;
    let our_costs = costs(first)?;
    let mut columns = Vec::new();
    for outcome in outcomes {
        // Strategies on the same nodes are judged with the same costs; six processes have their own.
        let costs = if outcome.label.ends_with(SIX) { costs(outcome)? } else { our_costs };
        let runs = Runs::of(&outcome.label, &outcome.records);
        columns.push((outcome.label.clone(), Measured::of(&runs, costs, outcome.memory)));
    }
    Ok((our_costs, columns))
}

fn print(json: bool, columns: &[(String, Measured)], costs: Costs, outcomes: &[Outcome], about: Map<String, Value>) {
    if json {
        println!("{}", as_json(columns, costs, outcomes, about));
    } else {
        print_table(columns, costs, outcomes, &about);
    }
}

/// Every scenario with one strategy on fresh nodes.
async fn one(
    arguments: &FairnessArgs,
    data: &GeneratedData,
    shape: Shape,
    strategy: &str,
    label: &str,
) -> Result<Outcome, CliError> {
    let start = async |label: &str| {
        let folder = data.folder().join(label);
        Nodes::start(&configuration(data, shape, strategy, &folder), &folder).await
    };
    let nodes = start(label).await?;
    let meter = CpuMeter::start(nodes.pids());
    let (scan, smalls) = questions(&nodes.leader, &arguments.parameter).await?;
    // What first come, first served comes to needs no third digit.
    let lengths = if arguments.quick || strategy == FIFO { Lengths::QUICK } else { Lengths::FULL };
    let scenarios = Scenarios { label: label.to_owned(), scan, smalls, lengths, seed: arguments.seed };
    let mut records = Vec::new();
    records.extend(play(&nodes, scenarios.peak_small()).await);
    records.extend(play(&nodes, scenarios.peak_scan(PEAK_SCAN)).await);
    let costs = Runs::of(label, &records)
        .costs()
        .ok_or_else(|| CliError::new(Exit::FAILED, format!("{label}: no query was answered")))?;
    let is_wanted = |key: &str| arguments.only.is_empty() || arguments.only.iter().any(|name| name == key);
    if is_wanted("equal_10x") || is_wanted("equal_100x") {
        records.extend(play(&nodes, scenarios.alone(costs)).await);
    }
    // A shared machine is now quicker, now slower: a load that was many times what it could do before may be another
    // multiple now, and a team that was modest want more than its share. So what it can do is asked again each time.
    for (name, factor) in [("equal_10x", 10.0), ("equal_100x", 100.0)].into_iter().filter(|(name, _)| is_wanted(name)) {
        let now = again_at_peak(&nodes, &scenarios, &format!("peak_before_{name}"), costs, &mut records).await;
        records.extend(play(&nodes, scenarios.equal(name, factor, now)).await);
    }
    if is_wanted("weights") {
        records.extend(play(&nodes, scenarios.weights(costs)).await);
    }
    if is_wanted("overload") {
        let now = again_at_peak(&nodes, &scenarios, OVERLOAD_PEAKS[0], costs, &mut records).await;
        records.extend(play(&nodes, scenarios.overload(now)).await);
        records.extend(play(&nodes, scenarios.peak_scan(OVERLOAD_PEAKS[1])).await);
    }
    if is_wanted("slow_reader") {
        records.extend(play(&nodes, scenarios.others("slow_reader_without", costs)).await);
    }
    if strategy != FIFO && is_wanted("conservation") {
        records.extend(conservation(&nodes, &scenarios, strategy, costs).await?);
    }
    let mut memory = None;
    if is_wanted("slow_reader") {
        let run = scenarios.others("slow_reader", costs);
        match slow_reader::beside(&nodes, play(&nodes, run)).await {
            Ok((found, resident)) => {
                records.extend(found);
                memory = resident;
            }
            Err(why) => eprintln!("  there was no slow reader, so nothing was measured beside it: {why}"),
        }
    }
    let cores_used = meter.cores_used();
    if !is_wanted("cancel") {
        return Ok(Outcome { label: label.to_owned(), records, memory, cores_used });
    }
    // What was opened in the last moment of a run, and never read, is a result that stays until it is abandoned. Cancels
    // are to find nothing of others.
    drop(nodes);
    let nodes = start(&format!("{label}-cancel")).await?;
    eprintln!("{label}/cancel …");
    let scan_time = Duration::from_secs_f64(costs.scan);
    records.extend(cancel::run(&nodes, &scenarios, lengths.cancels, scan_time).await);
    Ok(Outcome { label: label.to_owned(), records, memory, cores_used })
}

/// The strategy and first come, first served in turn on the same nodes: what differs is nothing but the strategy, and what
/// the machine is like at the time is shared by both.
async fn conservation(
    nodes: &Nodes,
    scenarios: &Scenarios,
    strategy: &str,
    costs: Costs,
) -> Result<Vec<Record>, CliError> {
    let leader = Client::new(&nodes.leader);
    let mut records = Vec::new();
    let order = CONSERVATION.iter().map(|(name, which)| (Some(*name), *which)).chain([(None, Conserving::Ours)]);
    for (name, which) in order {
        let in_force = if which == Conserving::Fifo { FIFO } else { strategy };
        let switched = leader.node().control(Some(in_force), CONTROL_TIMEOUT).await;
        switched.map_err(|failure| CliError::from_failure(&failure, leader.address()))?;
        if let Some(name) = name {
            records.extend(play(nodes, scenarios.saturated(name, costs)).await);
        }
    }
    Ok(records)
}

/// Costs by what the machine does now: the scans of another closed loop, under this name. Those of before if none was
/// answered in it.
async fn again_at_peak(
    nodes: &Nodes,
    scenarios: &Scenarios,
    name: &str,
    before: Costs,
    records: &mut Vec<Record>,
) -> Costs {
    let found = play(nodes, scenarios.peak_scan(name)).await;
    let peak = Runs::of(&scenarios.label, &found).peak(name);
    records.extend(found);
    Costs { scan: peak.map_or(before.scan, |peak| 1.0 / peak), ..before }
}

async fn play(nodes: &Nodes, run: Run) -> Vec<Record> {
    eprintln!("{} …", run.name);
    let board = Arc::new(Board::default());
    let records = generator::run(run, &nodes.leader, &board).await;
    for ((status, words), count) in &board.look().failures {
        // Refusals belong to most scenarios; the rest should be seen.
        if *status != "refused" && *status != "expired" {
            eprintln!("  {count} {status}: {words}");
        }
    }
    settle(nodes).await;
    records
}

/// Waits until nothing of a run is left, so that the next one begins on idle nodes.
async fn settle(nodes: &Nodes) {
    const SETTLE_MAX: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    let client = Client::new(&nodes.leader);
    while begun.elapsed() < SETTLE_MAX {
        let idle = client.metrics(Duration::from_secs(1)).await;
        if idle.is_ok_and(|metrics| metrics.active_requests == 0 && metrics.queue_size == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The queries, with the row counts that were asked for first.
async fn questions(leader: &str, parameter: &str) -> Result<(Arc<Question>, Vec<Arc<Question>>), CliError> {
    let client = Client::new(leader);
    let points = Ask::Sql(format!(
        "SELECT full_aqs_id, parameter, utc FROM observations WHERE parameter = 'PM2.5' LIMIT {SMALLS}"
    ));
    let points = rows_as_text(&client, points).await?;
    let smalls = points.iter().filter_map(|row| match &row[..] {
        [site, parameter, utc] => Some(data::point(site, parameter, utc)),
        _ => None,
    });
    let mut counted = Vec::new();
    for mut question in std::iter::once(data::scan(parameter)).chain(smalls) {
        let manner = Manner { deadline: Duration::from_secs(60), retry: true, encoding: encoding::DEFAULT };
        let sent = send(&client, &question, None, manner).await;
        if sent.status != record::Status::Ok || sent.rows == 0 {
            let why = sent.why.unwrap_or_else(|| "it has no rows".to_owned());
            return Err(CliError::new(
                Exit::FAILED,
                format!("the query {:?} cannot be measured: {why}", question.name),
            ));
        }
        question.expected = Some(sent.rows);
        counted.push(Arc::new(question));
    }
    let smalls = counted.split_off(1);
    let scan = counted.pop().filter(|_| !smalls.is_empty());
    let scan = scan.ok_or_else(|| CliError::new(Exit::FAILED, "the generated data have no row to point at"))?;
    Ok((scan, smalls))
}

fn write_raw(path: &Path, outcomes: &[Outcome]) -> Result<(), CliError> {
    let records: Vec<Record> = outcomes.iter().flat_map(|outcome| outcome.records.iter().cloned()).collect();
    let written = std::fs::File::create(path).and_then(|file| record::write(&records, file));
    written.map_err(|error| CliError::caused(Exit::FAILED, format!("{} cannot be written", path.display()), &error))
}

/// The keys of the first column at the top; the others below their own names.
fn as_json(columns: &[(String, Measured)], costs: Costs, outcomes: &[Outcome], about: Map<String, Value>) -> String {
    let mut object = columns[0].1.json();
    for (label, measured) in &columns[1..] {
        let key = if label.ends_with(SIX) { "six" } else { label };
        object.insert(key.to_owned(), Value::Object(measured.json()));
    }
    object.insert("peak".to_owned(), json!({ "scans_s": 1.0 / costs.scan, "smalls_s": 1.0 / costs.small }));
    let used = outcomes.iter().filter_map(|outcome| {
        let (generator, nodes) = outcome.cores_used?;
        Some((outcome.label.clone(), json!({ "generator": generator, "nodes": nodes })))
    });
    object.insert("cores_used".to_owned(), Value::Object(used.collect()));
    object.insert("about".to_owned(), Value::Object(about));
    serde_json::to_string_pretty(&object).unwrap_or_default()
}

fn print_table(columns: &[(String, Measured)], costs: Costs, outcomes: &[Outcome], about: &Map<String, Value>) {
    let mut out = std::io::stdout();
    let columns: Vec<_> = columns.iter().map(|(label, measured)| (label.as_str(), measured.goals())).collect();
    // A closed stdout is nobody's loss.
    let _ = write!(out, "{}", goals::table(&columns));
    let [scans, smalls] = [1.0 / costs.scan, 1.0 / costs.small];
    let _ = writeln!(out, "\npeak: {scans:.1} scans/s or {smalls:.0} small queries/s; {} cores", machine::cores());
    for outcome in outcomes {
        if let Some((generator, nodes)) = outcome.cores_used {
            let _ =
                writeln!(out, "{}: cores used by the generator {generator:.2}, by the nodes {nodes:.2}", outcome.label);
        }
    }
    if let Some(seconds) = about.get("seconds").and_then(Value::as_f64) {
        let _ = writeln!(out, "{seconds:.0} s in all");
    }
}
