//! `overlay metrics`: the figures of one node or of all.

use std::time::Duration;

use super::arguments::{Common, ListFormat, MetricsArgs, OverrideArgs};
use super::error::{CliError, Exit};
use super::metrics_table;
use super::table::TextTable;
use super::target::{self, Target};
use crate::client::Client;
use crate::failure::Failure;
use crate::node::status::Metrics;
use crate::routing::NodeId;

const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Shows them.
pub fn run(common: &Common, arguments: &MetricsArgs) -> Result<Exit, CliError> {
    let runtime = target::runtime()?;
    let mut clients: Vec<(String, Client)> = Vec::new();
    if arguments.all || arguments.id.is_some() {
        let target = Target::read(common, &OverrideArgs::default())?;
        let ids: Vec<NodeId> = match &arguments.id {
            Some(id) => vec![target.process(id)?],
            None => target.config.processes.keys().cloned().collect(),
        };
        let _within = runtime.enter();
        for id in ids {
            clients.push((id.to_string(), Client::new(&target.address(&id)?)));
        }
    } else {
        clients.push(("the Leader".to_owned(), target::leader(common, &runtime)?));
    }
    let asked =
        runtime.block_on(futures::future::join_all(clients.iter().map(|(_, client)| client.metrics(LOOK_TIMEOUT))));
    let mut figures: Vec<Metrics> = Vec::new();
    let mut failed: Vec<(&str, &Client, Failure)> = Vec::new();
    for ((name, client), asked) in clients.iter().zip(asked) {
        match asked {
            Ok(metrics) => figures.push(metrics),
            Err(failure) => failed.push((name, client, failure)),
        }
    }
    if figures.is_empty()
        && let Some((_, client, failure)) = failed.first()
    {
        return Err(CliError::from_failure(failure, client.address()));
    }
    print!("{}", render(&figures, arguments.format.unwrap_or(ListFormat::Table), arguments.all)?);
    for (name, client, failure) in &failed {
        eprintln!("{name} at {} does not answer: {failure}", client.address());
    }
    Ok(if failed.is_empty() { Exit::OK } else { Exit::UNREACHABLE })
}

/// Names and values, so that a new figure appears by itself: whose they are, then by name.
fn fields(metrics: &Metrics) -> Result<Vec<(String, String)>, CliError> {
    let value = serde_json::to_value(metrics)
        .map_err(|error| CliError::caused(Exit::FAILED, "the figures cannot be shown", &error))?;
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) if number.is_f64() => format!("{:.3}", number.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    };
    let map = value.as_object().cloned().unwrap_or_default();
    // What is a table of its own has a command of its own: `check`.
    let is_figure = |value: &serde_json::Value| !value.is_array();
    let figures = map.iter().filter(|(_, value)| is_figure(value));
    let mut fields: Vec<_> = figures.map(|(name, value)| (name.clone(), text(value))).collect();
    fields.sort_by_key(|(name, _)| name != "process_id");
    Ok(fields)
}

fn render(figures: &[Metrics], format: ListFormat, all: bool) -> Result<String, CliError> {
    let json = |value: &dyn erased::Json| {
        value.pretty().map_err(|error| CliError::caused(Exit::FAILED, "no JSON could be made", &error))
    };
    match format {
        ListFormat::Json if all => Ok(json(&figures)? + "\n"),
        ListFormat::Json => Ok(figures.iter().map(|one| json(one)).collect::<Result<Vec<_>, _>>()?.join("\n") + "\n"),
        ListFormat::Csv => {
            let rows = figures.iter().map(fields).collect::<Result<Vec<_>, _>>()?;
            let header = rows.first().map(|row| row.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
            let mut text = header.unwrap_or_default().join(",") + "\n";
            for row in rows {
                text += &(row.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(",") + "\n");
            }
            Ok(text)
        }
        ListFormat::Table if all => Ok(metrics_table::render(figures)),
        ListFormat::Table => {
            let mut table = TextTable::new(&["figure", "value"]);
            for metrics in figures {
                fields(metrics)?.into_iter().for_each(|(name, value)| table.row(vec![name, value]));
            }
            Ok(table.render())
        }
    }
}

mod erased {
    /// A value that can be shown as JSON, one or many.
    pub trait Json {
        fn pretty(&self) -> serde_json::Result<String>;
    }

    impl<T: serde::Serialize> Json for T {
        fn pretty(&self) -> serde_json::Result<String> {
            serde_json::to_string_pretty(self)
        }
    }
}
