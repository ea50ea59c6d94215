//! `overlay trace`: the tree of hops over which a query's orders go, with the time of every link.

use std::time::Duration;

use super::arguments::{Common, ListFormat, OverrideArgs, TraceArgs};
use super::error::{CliError, Exit};
use super::table::{TextTable, grouped};
use super::target::{self, Target};
use crate::client::Client;
use crate::routing::NodeId;
use crate::routing::trace::{Trace, TraceBranch, TraceHop};

/// Draws it.
pub fn run(common: &Common, arguments: &TraceArgs) -> Result<Exit, CliError> {
    let runtime = target::runtime()?;
    let client = match &arguments.id {
        None => target::leader(common, &runtime)?,
        Some(id) => {
            let target = Target::read(common, &OverrideArgs::default())?;
            let address = target.address(&target.process(id)?)?;
            let _within = runtime.enter();
            Client::new(&address)
        }
    };
    let time_left = Duration::try_from_secs_f64(arguments.timeout)
        .map_err(|_| CliError::new(Exit::USAGE, format!("{} seconds are no time to wait", arguments.timeout)))?;
    let trace = runtime
        .block_on(client.trace(time_left))
        .map_err(|failure| CliError::from_failure(&failure, client.address()))?;
    match arguments.format.unwrap_or(ListFormat::Table) {
        ListFormat::Json => {
            let json = serde_json::to_string_pretty(&trace)
                .map_err(|error| CliError::caused(Exit::FAILED, "no JSON could be made", &error))?;
            println!("{json}");
        }
        ListFormat::Csv => {
            println!("path,role,team,state,partitions,rows,link_us,elapsed_us,failure");
            csv(&trace.root, &[], None);
        }
        ListFormat::Table => print!("{}", render(&trace)),
    }
    let whole = trace.unreached.is_empty() && is_whole(&trace.root);
    Ok(if whole { Exit::OK } else { Exit::FAILED })
}

fn is_whole(hop: &TraceHop) -> bool {
    hop.branches.iter().all(|branch| branch.hop.as_ref().is_some_and(is_whole))
}

/// One line a node: the path to it, and what is known of it.
fn csv(hop: &TraceHop, before: &[&NodeId], link_us: Option<u64>) {
    let path: Vec<&NodeId> = before.iter().copied().chain([&hop.node]).collect();
    let names = |path: &[&NodeId]| path.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(" ");
    let link = link_us.map(|us| us.to_string()).unwrap_or_default();
    let TraceHop { role, team, state, partitions, rows, elapsed_us, .. } = hop;
    println!("{},{role},{team},{state},{partitions},{rows},{link},{elapsed_us},", names(&path));
    for branch in &hop.branches {
        match &branch.hop {
            Some(next) => csv(next, &path, Some(branch.link_us)),
            None => {
                let failure = branch.failure.as_deref().unwrap_or_default().replace('"', "\"\"");
                println!("{} {},,,,,,,,\"{failure}\"", names(&path), branch.next);
            }
        }
    }
}

/// The tree, one line a node.
fn render(trace: &Trace) -> String {
    let mut table =
        TextTable::new(&["node", "role", "team", "state", ">partitions", ">rows", ">link", ">answered after"]);
    let mut failures = Vec::new();
    add(&mut table, &mut failures, &trace.root, "", "", None);
    let mut text = table.render();
    for failure in failures {
        text.push_str(&failure);
        text.push('\n');
    }
    for node in &trace.unreached {
        text.push_str(&format!("{node}: no path of live links leads to it\n"));
    }
    text
}

fn add(
    table: &mut TextTable,
    failures: &mut Vec<String>,
    hop: &TraceHop,
    lead: &str,
    below: &str,
    over: Option<&TraceBranch>,
) {
    table.row(vec![
        format!("{lead}{}", hop.node),
        hop.role.to_string(),
        hop.team.to_string(),
        hop.state.clone(),
        hop.partitions.to_string(),
        grouped(hop.rows),
        over.map(|branch| millis(branch.link_us)).unwrap_or_default(),
        millis(hop.elapsed_us),
    ]);
    for (i, branch) in hop.branches.iter().enumerate() {
        let is_last = i + 1 == hop.branches.len();
        let line = if branch.adopted { '⇢' } else { '─' };
        let lead = format!("{below}{}{line} ", if is_last { '└' } else { '├' });
        let below = format!("{below}{}", if is_last { "   " } else { "│  " });
        match &branch.hop {
            Some(next) => add(table, failures, next, &lead, &below, Some(branch)),
            None => {
                let mut cells = vec![format!("{lead}{}", branch.next), String::new(), String::new(), "✗".to_owned()];
                cells.resize(8, String::new());
                table.row(cells);
                let why = branch.failure.as_deref().unwrap_or("no reason given");
                failures.push(format!("{} → {}: {why}", hop.node, branch.next));
            }
        }
    }
}

fn millis(us: u64) -> String {
    format!("{:.2} ms", us as f64 / 1e3)
}
