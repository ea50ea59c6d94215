//! A load on a running Leader: what users would send, as many as asked for, measured from when each was due to its last
//! chunk.
//!
//! The parts: [`schedule`] says when requests are due, [`request`] sends one and judges its answer, [`generator`] drives
//! both and keeps a [`record`] of each; [`figures`] and [`report`] say what they come to, [`live`] shows it meanwhile.
//! Invariant: every request that was due is in the records once, however it ended.

mod arguments;
mod board;
mod compare;
pub(crate) mod figures;
pub(crate) mod generator;
mod live;
pub(crate) mod machine;
pub(crate) mod record;
mod report;
pub(crate) mod request;
pub(crate) mod schedule;

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::super::arguments::Common;
use super::super::error::{CliError, Exit};
use super::super::output::cells;
use super::super::table::grouped;
use super::super::target;
use crate::client::Client;
use crate::engine::session::Ask;
use crate::failure::Failure;
use crate::leader::answer::QuerySpec;
use crate::routing::Team;
use generator::{Enough, Run, Source};
use live::Live;
use record::{Record, Status};
use report::{Parts, Report, failures};
use request::{Manner, Question, send};
use schedule::{Pace, Timing, Weighted};

pub use arguments::LoadArgs;
pub(crate) use board::Board;
pub use compare::CompareArgs;
pub use compare::run as compare;

const REQUESTS: u64 = 100;
const CONCURRENCY: u64 = 10;
const DURATION: f64 = 10.0;
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// `overlay bench` without a subcommand.
pub fn run(common: &Common, arguments: &LoadArgs) -> Result<Exit, CliError> {
    if let (Some(rate), duration) = (arguments.rate, arguments.duration.unwrap_or(DURATION))
        && rate * (duration + arguments.warm_up) > arguments::REQUESTS_MAX as f64
    {
        let most = grouped(arguments::REQUESTS_MAX);
        return Err(CliError::new(Exit::USAGE, format!("that is more than {most} requests"))
            .hint("a lower --rate, a shorter --duration, or several runs"));
    }
    // One thread: the generator is to take as little of the machine as it can.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::caused(Exit::FAILED, "the program cannot start", &error))?;
    let client = target::leader(common, &runtime)?;
    runtime.block_on(async {
        let (tell, enough) = watch::channel(false);
        let mut measuring = pin!(measure(common, arguments, &client, enough));
        tokio::select! {
            done = &mut measuring => return done,
            _ = tokio::signal::ctrl_c() => tell.send_replace(true),
        };
        // Once more, and not even what there is is kept.
        tokio::select! {
            done = measuring => done,
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
        }
    })
}

fn interrupted() -> CliError {
    CliError::new(Exit::INTERRUPTED, "interrupted")
}

async fn measure(common: &Common, arguments: &LoadArgs, client: &Client, mut enough: Enough) -> Result<Exit, CliError> {
    let mut questions = arguments.questions()?;
    let teams = arguments.team_mix();
    let manner = Manner {
        deadline: Duration::from_secs_f64(arguments.timeout),
        retry: arguments.retry,
        encoding: arguments.encoding,
    };
    for question in questions.iter_mut().filter(|question| question.expected.is_none() && !question.allow_partial) {
        let counted = tokio::select! {
            counted = count(client, question, &teams, manner) => counted?,
            _ = enough.wait_for(|enough| *enough) => return Err(interrupted()),
        };
        question.expected = Some(counted);
    }
    let questions: Vec<Arc<Question>> = questions.into_iter().map(Arc::new).collect();

    let board = Arc::new(Board::default());
    let meter = machine::CpuMeter::start(Vec::new());
    let records = load(arguments, client.address(), &questions, manner, &board, &enough).await;
    let is_interrupted = *enough.borrow();
    if is_interrupted && records.is_empty() {
        return Err(interrupted());
    }
    let mut about = about(arguments.seed);
    if is_interrupted {
        about.insert("interrupted".to_owned(), json!(true));
    }
    let report = Report {
        about,
        settings: settings(arguments, client.address(), &questions),
        nodes: nodes(client).await,
        config: config(common),
        figures: Parts::of(&records),
        generator_cores: meter.cores_used().map(|(generator, _)| generator),
        failures: failures(&board.look()),
    };
    let text = report.render();
    let json = serde_json::to_string_pretty(&report)
        .map_err(|error| CliError::caused(Exit::FAILED, "no JSON could be made", &error))?;
    keep(arguments, &text, &json, &records)?;
    println!("{}", if arguments.json { &json } else { &text });
    if is_interrupted {
        eprintln!("interrupted: these figures are of what was sent until then");
        return Ok(Exit::INTERRUPTED);
    }
    let all = &report.figures.all;
    // Refusals are an answer to overload; an answer that is wrong or missing is a failure of what was measured.
    let is_sound = all.ok > 0 && all.wrong + all.failed == 0;
    Ok(if is_sound { Exit::OK } else { Exit::FAILED })
}

/// The rows of a right answer: those of the first complete one.
async fn count(
    client: &Client,
    question: &Question,
    teams: &Weighted<Option<Team>>,
    manner: Manner,
) -> Result<u64, CliError> {
    let team = teams.items().next().cloned().flatten();
    let spec = question.spec(team.clone(), manner);
    // Opened once by hand: a refusal of the query itself is to be told as `overlay query` tells it.
    let mut answer = client
        .open_patiently(spec, |_, _| ())
        .await
        .map_err(|failure| CliError::from_failure(&failure, client.address()))?;
    answer.cancel().await;
    let sent = send(client, question, team, Manner { retry: true, ..manner }).await;
    match sent.status {
        Status::Ok => Ok(sent.rows),
        status => {
            let why = sent.why.unwrap_or_else(|| status.name().to_owned());
            Err(CliError::new(Exit::FAILED, format!("{:?} has no complete answer: {why}", question.name))
                .hint("name the rows of a right answer with --expect, or look with `overlay status`"))
        }
    }
}

/// The warm-up and the measured requests.
async fn load(
    arguments: &LoadArgs,
    leader: &str,
    questions: &[Arc<Question>],
    manner: Manner,
    board: &Arc<Board>,
    enough: &Enough,
) -> Vec<Record> {
    let warm_up = Duration::from_secs_f64(arguments.warm_up);
    let source = |pace, until| Source {
        client: 0,
        timing: Timing { pace, from: Duration::ZERO, until },
        teams: arguments.team_mix(),
        questions: Weighted::new(questions.iter().map(|question| (Arc::clone(question), 1.0)).collect()),
        manner,
        outstanding_max: arguments.outstanding.max(arguments.concurrency.unwrap_or(0)) as usize,
    };
    let run = |source, warm_up| Run {
        name: "load".into(),
        sources: vec![source],
        warm_up,
        grace: manner.deadline + Duration::from_secs(5),
        seed: arguments.seed,
    };
    let show = || Live::start(leader, Arc::clone(board), Duration::from_secs_f64(arguments.update_interval));
    if let Some(rate) = arguments.rate {
        let duration = Duration::from_secs_f64(arguments.duration.unwrap_or(DURATION));
        let source = source(Pace::Poisson { rate }, warm_up + duration);
        let _live = show();
        return generator::run_until(run(source, warm_up), leader, board, enough.clone()).await;
    }
    let at_once = arguments.concurrency.unwrap_or(CONCURRENCY) as usize;
    if !warm_up.is_zero() {
        let source = source(Pace::Closed { at_once, requests: None }, warm_up);
        generator::run_until(run(source, Duration::ZERO), leader, &Arc::default(), enough.clone()).await;
        if *enough.borrow() {
            return Vec::new();
        }
    }
    let requests = Some(arguments.requests.unwrap_or(REQUESTS));
    let source = source(Pace::Closed { at_once, requests }, Duration::MAX);
    let _live = show();
    generator::run_until(run(source, Duration::ZERO), leader, board, enough.clone()).await
}

/// Versions, cores, when, and how it was called.
pub fn about(seed: u64) -> Map<String, Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let command: Vec<String> = std::env::args().skip(1).collect();
    Map::from_iter([
        ("version".to_owned(), json!(env!("CARGO_PKG_VERSION"))),
        ("build".to_owned(), json!(if cfg!(debug_assertions) { "debug" } else { "optimised" })),
        ("system".to_owned(), json!(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
        ("cores".to_owned(), json!(machine::cores())),
        ("command".to_owned(), json!(format!("overlay {}", command.join(" ")))),
        ("seed".to_owned(), json!(seed)),
        ("at".to_owned(), json!(now.as_secs())),
    ])
}

fn settings(arguments: &LoadArgs, leader: &str, questions: &[Arc<Question>]) -> Map<String, Value> {
    let mut settings = Map::new();
    let mut add = |name: &str, value: Value| settings.insert(name.to_owned(), value);
    add("leader", json!(leader));
    match arguments.rate {
        Some(rate) => {
            add("rate", json!(rate));
            add("duration_s", json!(arguments.duration.unwrap_or(DURATION)));
        }
        None => {
            add("requests", json!(arguments.requests.unwrap_or(REQUESTS)));
            add("concurrency", json!(arguments.concurrency.unwrap_or(CONCURRENCY)));
        }
    }
    add("warm_up_s", json!(arguments.warm_up));
    add("timeout_s", json!(arguments.timeout));
    add("retry", json!(arguments.retry));
    add("encoding", json!(arguments.encoding));
    add("teams", json!(arguments.teams.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()));
    let queries = questions.iter().map(|question| (question.name.to_string(), json!(question.expected)));
    add("queries and their rows", Value::Object(queries.collect()));
    settings
}

/// The configuration file, where the Leader was found by it.
fn config(common: &Common) -> Value {
    let text = if common.leader.is_none() { fs::read(&common.config).ok() } else { None };
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// What each node tells of itself after the run, strategies among it. A node that does not answer is left out.
async fn nodes(client: &Client) -> Map<String, Value> {
    let Ok(status) = client.status(LOOK_TIMEOUT).await else { return Map::new() };
    let asked = status.members.iter().map(|member| async {
        let metrics = Client::new(&member.address).metrics(LOOK_TIMEOUT).await.ok()?;
        Some((member.process_id.to_string(), serde_json::to_value(metrics).ok()?))
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

/// Writes text, JSON and, if asked for, every request.
fn keep(arguments: &LoadArgs, text: &str, json: &str, records: &[Record]) -> Result<(), CliError> {
    let failed = |path: &Path, error: &std::io::Error| {
        CliError::caused(Exit::FAILED, format!("{} cannot be written", path.display()), error)
    };
    let folder = &arguments.output_dir;
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    for (ending, content) in [("txt", text), ("json", json)] {
        let path = folder.join(format!("bench-{seconds}-{}.{ending}", std::process::id()));
        fs::write(&path, content).map_err(|error| failed(&path, &error))?;
        eprintln!("report: {}", path.display());
    }
    let Some(path) = &arguments.raw else { return Ok(()) };
    let written = fs::File::create(path).and_then(|file| record::write(records, file));
    written.map_err(|error| failed(path, &error))
}

/// The rows of a small answer, as text.
pub async fn rows_as_text(client: &Client, ask: Ask) -> Result<Vec<Vec<String>>, CliError> {
    let spec = QuerySpec { time_left: Some(Duration::from_secs(60)), cancel_on_disconnect: true, ..QuerySpec::of(ask) };
    let shown = |failure: Failure| CliError::from_failure(&failure, client.address());
    let mut answer = client.open(spec).await.map_err(shown)?;
    let mut rows = Vec::new();
    while let Some(batch) = answer.next().await {
        let batch = batch.map_err(shown)?;
        let shown = |error| CliError::caused(Exit::FAILED, "an answer cannot be shown", &error);
        rows.extend(cells(&batch).map_err(shown)?);
    }
    answer.cancel().await;
    Ok(rows)
}
