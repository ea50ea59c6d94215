//! `overlay query` and `overlay sql`: ask, print, tell how it ended.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use overlay_ingest::DateRange;

use super::arguments::{AnswerArgs, Common, OverrideArgs, RangeArgs, RowFormat, SqlArgs};
use super::error::{CliError, Exit};
use super::footer::{self, Reading};
use super::output::{RowWriter, WriteError, format};
use super::place;
use super::target::{self, Target};
use crate::client::Client;
use crate::engine::filter::{BoundingBox, RangeFilter};
use crate::engine::session::Ask;
use crate::engine::sql_gate::SQL_BYTES_MAX;
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{Footer, QuerySpec, QueryState};
use crate::node::local::LocalOverlay;
use crate::routing::Team;

/// What the client allows beyond the query's own time before it stops waiting for a Leader that says nothing.
const ANSWER_GRACE: Duration = Duration::from_secs(3);

/// `overlay query`.
pub fn run_range(common: &Common, mut arguments: RangeArgs) -> Result<Exit, CliError> {
    let answer = std::mem::take(&mut arguments.answer);
    run(common, range_ask(arguments)?, &answer)
}

/// The query that these arguments mean.
pub fn range_ask(arguments: RangeArgs) -> Result<Ask, CliError> {
    if let (Some(min), Some(max)) = (arguments.min, arguments.max)
        && min > max
    {
        return Err(CliError::new(Exit::USAGE, format!("the range is empty: {min} is above {max}"))
            .hint(format!("overlay query {} {max} {min}", arguments.parameter.as_deref().unwrap_or_default())));
    }
    let dates = (arguments.from.is_some() || arguments.to.is_some()).then(|| DateRange {
        from: arguments.from.unwrap_or(DateRange::ALL.from),
        to: arguments.to.unwrap_or(DateRange::ALL.to),
    });
    if let Some(dates) = dates
        && dates.from > dates.to
    {
        return Err(CliError::new(Exit::USAGE, format!("--from {} is after --to {}", dates.from, dates.to)));
    }
    let filter = RangeFilter {
        parameter: arguments.parameter,
        min: arguments.min,
        max: arguments.max,
        dates,
        bbox: arguments.bbox.map(|bbox| {
            let [south, west, north, east] = bbox.0;
            BoundingBox { south, west, north, east }
        }),
        columns: arguments.columns,
    };
    Ok(Ask::Range(filter))
}

/// `overlay sql`.
pub fn run_sql(common: &Common, arguments: SqlArgs) -> Result<Exit, CliError> {
    let sql = match (&arguments.file, arguments.sql.as_deref()) {
        (Some(path), _) => {
            let opened = std::fs::File::open(path);
            let what = || format!("{} cannot be read", path.display());
            let file = opened.map_err(|error| CliError::caused(Exit::USAGE, what(), &error))?;
            read_statement(file).map_err(|error| CliError::caused(Exit::USAGE, what(), &error))?
        }
        (None, Some("-")) => read_statement(std::io::stdin())
            .map_err(|error| CliError::caused(Exit::USAGE, "stdin cannot be read", &error))?,
        (None, sql) => sql.unwrap_or_default().to_owned(),
    };
    run(common, Ask::Sql(sql), &arguments.answer)
}

/// One byte more than is taken, so that a longer text is refused by its length and not cut.
fn read_statement(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(SQL_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn run(common: &Common, ask: Ask, answer: &AnswerArgs) -> Result<Exit, CliError> {
    if let Some(output) = &answer.output {
        place::check(output).map_err(|why| CliError::new(Exit::USAGE, why))?;
    } else if answer.format == Some(RowFormat::Arrow) && std::io::stdout().is_terminal() {
        return Err(CliError::new(Exit::USAGE, "Arrow is bytes, which a terminal cannot show").hint("use -o FILE"));
    }
    let parameter = match &ask {
        Ask::Range(filter) => filter.parameter.clone(),
        Ask::Sql(_) => None,
    };
    let runtime = target::runtime()?;
    let mut reading = Reading::default();
    let footer = if answer.local {
        let target = Target::read(common, &OverrideArgs::default())?;
        runtime.block_on(ask_local(&target, &ask, answer))
    } else {
        let client = target::leader(common, &runtime)?;
        let asked = runtime.block_on(ask_leader(&client, ask, answer, &mut reading));
        // What is left on the runtime talks to nobody that matters any more.
        runtime.shutdown_timeout(Duration::from_millis(100));
        asked
    }?;
    let Some(footer) = footer else { return Ok(Exit::OK) };
    if !answer.quiet {
        // A closed stderr is no reason to fail.
        let mut stderr = std::io::stderr();
        let _ = stderr.write_all(footer::render(&footer, answer.local).as_bytes());
        if answer.verbose {
            let read = (!answer.local).then_some(reading);
            let _ = stderr.write_all(footer::render_work(&footer, read.as_ref()).as_bytes());
        }
        let coverage = &footer.coverage;
        if let Some(parameter) = parameter.filter(|_| footer.rows == 0 && coverage.pruned == coverage.partitions) {
            let hint = "overlay sql \"SELECT DISTINCT parameter FROM observations\"";
            let _ = writeln!(stderr, "note: no partition can match; is there a parameter {parameter:?}? see {hint}");
        }
    }
    Ok(if footer.state == QueryState::Partial { Exit::PARTIAL } else { Exit::OK })
}

/// Writes rows as they come; opened with the first batch, when the schema is known.
struct Printer<'a> {
    answer: &'a AnswerArgs,
    writer: Option<RowWriter>,
}

impl Printer<'_> {
    fn open(&mut self, schema: &SchemaRef) -> Result<&mut RowWriter, WriteError> {
        if self.writer.is_none() {
            let output = self.answer.output.as_deref();
            let form = format(self.answer.format, output);
            self.writer = Some(RowWriter::new(schema, form, self.answer.format.is_some(), output)?);
        }
        match &mut self.writer {
            Some(writer) => Ok(writer),
            None => Err(WriteError::Failed("nothing to write to".into())),
        }
    }

    /// The answer broke off.
    fn abandon(&mut self, error: CliError) -> CliError {
        match self.writer.take().map(RowWriter::abandon) {
            Some(rows) if rows > 0 => error.after_printing(rows),
            _ => error,
        }
    }
}

async fn ask_leader(
    client: &Client,
    ask: Ask,
    answer: &AnswerArgs,
    reading: &mut Reading,
) -> Result<Option<Footer>, CliError> {
    let asked = Instant::now();
    let timeout = answer.timeout.map(Duration::from_secs_f64);
    let spec = QuerySpec {
        team: answer.team.as_deref().map(Team::from),
        encoding: answer.encoding,
        time_left: timeout,
        allow_partial: answer.allow_partial,
        limit: answer.limit,
        cancel_on_disconnect: true,
        ..QuerySpec::of(ask)
    };
    let shown = |failure: &Failure| CliError::from_failure(failure, client.address());
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let overdue = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout + ANSWER_GRACE).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(overdue);
    let mut stream = tokio::select! {
        opened = client.open_patiently(spec, tell_refusal) => opened.map_err(|failure| shown(&failure))?,
        _ = &mut interrupted => return Err(CliError::new(Exit::INTERRUPTED, "interrupted")),
        () = &mut overdue => return Err(no_answer(client)),
    };
    let mut printer = Printer { answer, writer: None };
    loop {
        let batch = tokio::select! {
            batch = stream.next() => batch,
            _ = &mut interrupted => {
                eprintln!("interrupted: cancelling query {} (Ctrl-C again to leave at once)", stream.id());
                tokio::select! {
                    () = stream.cancel() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                return Err(printer.abandon(CliError::new(Exit::INTERRUPTED, "interrupted")));
            }
            () = &mut overdue => {
                stream.cancel().await;
                return Err(printer.abandon(no_answer(client)));
            }
        };
        let written = match batch {
            Some(Ok(batch)) => {
                reading.first.get_or_insert(asked.elapsed());
                let schema = stream.schema().map(Arc::clone).unwrap_or_else(|| batch.schema());
                printer.open(&schema).and_then(|writer| writer.write(&batch))
            }
            Some(Err(failure)) => return Err(printer.abandon(shown(&failure))),
            None => break,
        };
        match written {
            Ok(()) => {}
            Err(WriteError::Closed) => {
                stream.cancel().await;
                return Ok(None);
            }
            Err(WriteError::Failed(why)) => {
                stream.cancel().await;
                return Err(printer.abandon(CliError::new(Exit::FAILED, format!("writing failed: {why}"))));
            }
        }
    }
    reading.all = asked.elapsed();
    let footer = stream.footer().cloned();
    // Everything is here: the Leader can forget it.
    stream.cancel().await;
    close(printer, footer)
}

fn tell_refusal(failure: &Failure, pause: Duration) {
    eprintln!("refused: {failure}; trying again in {:.1} s", pause.as_secs_f64());
}

fn no_answer(client: &Client) -> CliError {
    CliError::new(Exit::TIMEOUT, format!("no answer from {} in time", client.address()))
        .hint("give it more time with --timeout SECONDS, or look with `overlay status`")
}

/// The answer is whole if its rows are those that its footer counts; then what was written is closed and named.
fn close(mut printer: Printer<'_>, footer: Option<Footer>) -> Result<Option<Footer>, CliError> {
    let rows = printer.writer.as_ref().map_or(0, RowWriter::rows);
    if let Some(counted) = footer.as_ref().map(|footer| footer.rows).filter(|counted| *counted != rows) {
        let error = CliError::new(Exit::FAILED, format!("{rows} rows came, the footer counts {counted}"));
        return Err(printer.abandon(error.hint("do not use this answer, and report it")));
    }
    let Some(writer) = printer.writer else { return Ok(footer) };
    match writer.finish() {
        Ok(()) => Ok(footer),
        Err(WriteError::Closed) => Ok(None),
        Err(WriteError::Failed(why)) => Err(CliError::new(Exit::FAILED, format!("writing failed: {why}"))),
    }
}

async fn ask_local(target: &Target, ask: &Ask, answer: &AnswerArgs) -> Result<Option<Footer>, CliError> {
    let config = Arc::clone(&target.config);
    let opened = tokio::task::spawn_blocking(move || LocalOverlay::open(&config)).await;
    let loaded = opened.map_err(|error| CliError::caused(Exit::FAILED, "loading was interrupted", &error))?;
    let local = loaded.map_err(|error| {
        let shown = CliError::of(Exit::FAILED, &error);
        match error.hint() {
            Some(hint) => shown.hint(hint),
            None => shown,
        }
    })?;
    if let Some(remark) = local.data_remark() {
        eprintln!("{remark}");
    }
    let deadline = answer.timeout.map_or(Duration::from_secs(target.config.limits.deadline_s), Duration::from_secs_f64);
    let mut printer = Printer { answer, writer: None };
    let mut closed = false;
    let answered = local.answer(ask, answer.limit, deadline, |schema, batch| {
        let written = printer.open(schema).and_then(|writer| match &batch {
            Some(batch) => writer.write(batch),
            None => Ok(()),
        });
        written.map_err(|error| {
            closed = matches!(error, WriteError::Closed);
            Failure::new(FailureKind::Cancelled, "WRITE", format!("writing failed: {error}"))
        })
    });
    match answered.await {
        Ok(footer) => close(printer, Some(footer)),
        Err(_) if closed => Ok(None),
        Err(failure) => Err(printer.abandon(CliError::from_failure(&failure, "this process"))),
    }
}
