//! Two ways to ask: through the client, chunk by chunk; and as a shell does, which sees an exit code.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::super::error::{CliError, Exit};
use super::super::output::cells;
use super::place::Place;
use crate::client::Client;
use crate::engine::session::Ask;
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{Footer, QuerySpec};

/// A command that takes longer hangs.
const COMMAND_MAX: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A whole answer.
pub struct Asked {
    pub schema: SchemaRef,
    /// One for each chunk, as they were cut at the Leader.
    pub batches: Vec<RecordBatch>,
    pub footer: Footer,
}

impl Asked {
    /// Every row as one text, sorted: equal for equal answers in whatever order they came.
    pub fn rows_as_text(&self) -> Result<Vec<String>, CliError> {
        let shown = |error| CliError::caused(Exit::FAILED, "the rows cannot be shown", &error);
        let mut rows = Vec::new();
        for batch in &self.batches {
            rows.extend(cells(batch).map_err(shown)?.into_iter().map(|row| row.join("\t")));
        }
        rows.sort_unstable();
        Ok(rows)
    }
}

/// Asks the Leader, as `overlay query` and `overlay sql` do, and keeps the chunks apart.
pub async fn ask(client: &Client, ask: Ask) -> Result<Asked, Failure> {
    let spec = QuerySpec { cancel_on_disconnect: true, ..QuerySpec::of(ask) };
    let mut answer = client.open(spec).await?;
    let mut batches = Vec::new();
    while let Some(batch) = answer.next().await {
        batches.push(batch?);
    }
    let schema = answer.schema().cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
    let footer = answer.footer().cloned();
    answer.cancel().await;
    let footer = footer
        .ok_or_else(|| Failure::new(FailureKind::DataLoss, "NO_FOOTER", "the answer ended without its footer"))?;
    Ok(Asked { schema, batches, footer })
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    pub stderr: String,
    /// Rows in the file that it should write; `None` if there is no file.
    pub rows: Option<u64>,
}

/// Ends the command if the demo is given up meanwhile.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error here means that it ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs this program in the demo's folder, with arguments that make it write a CSV file.
pub async fn run_as_shell(place: &Place, arguments: &[&str], file: &str) -> Result<Ended, CliError> {
    let failed = |error: std::io::Error| CliError::caused(Exit::FAILED, "a command cannot be run", &error);
    let stderr = place.folder().join("stderr");
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(arguments).arg("--config").arg(place.config()).current_dir(place.folder());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&stderr).map_err(failed)?);
    let mut running = Running(command.spawn().map_err(failed)?);
    let start = Instant::now();
    let code = loop {
        match running.0.try_wait().map_err(failed)? {
            // A signal leaves no code; a shell counts on from 128.
            Some(status) => break status.code().unwrap_or(128),
            None if start.elapsed() > COMMAND_MAX => {
                let what = format!("`overlay {}` did not end in {} s", arguments.join(" "), COMMAND_MAX.as_secs());
                return Err(CliError::new(Exit::FAILED, what));
            }
            None => tokio::time::sleep(POLL_INTERVAL).await,
        }
    };
    let rows = match fs::read_to_string(place.folder().join(file)) {
        // No field of the data set has a line break; the first line is the header.
        Ok(table) => Some(table.lines().count().saturating_sub(1) as u64),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    Ok(Ended { code, stderr: fs::read_to_string(stderr).map_err(failed)?, rows })
}
