//! `overlay peers`: every link of the overlay, in the configuration or adopted, and which of its ends hear the other.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::arguments::{Common, ListArgs, ListFormat};
use super::error::{CliError, Exit};
use super::table::TextTable;
use super::target;
use crate::node::status::{MemberStatus, NodeStatus};
use crate::routing::{self, Link, NodeId};

/// One link as the Leader sees it.
#[derive(Debug, PartialEq, Serialize)]
struct LinkRow {
    a: NodeId,
    b: NodeId,
    /// configured or adopted
    kind: &'static str,
    /// up, down, or `one way` when only one end hears the other: then it is not used
    state: &'static str,
    /// The ends that hear the other one.
    heard_by: Vec<NodeId>,
}

/// Shows them as the Leader sees them.
pub fn run(common: &Common, arguments: &ListArgs) -> Result<Exit, CliError> {
    let runtime = target::runtime()?;
    let client = target::leader(common, &runtime)?;
    let status = runtime
        .block_on(client.status(Duration::from_secs(5)))
        .map_err(|failure| CliError::from_failure(&failure, client.address()))?;
    let rows = rows(&status);
    match arguments.format.unwrap_or(ListFormat::Table) {
        ListFormat::Json => {
            let json = serde_json::to_string_pretty(&rows)
                .map_err(|error| CliError::caused(Exit::FAILED, "no JSON could be made", &error))?;
            println!("{json}");
        }
        ListFormat::Csv => {
            println!("a,b,kind,state,heard_by");
            for row in &rows {
                println!("{},{},{},{},{}", row.a, row.b, row.kind, row.state, routing::names(&row.heard_by, " "));
            }
        }
        ListFormat::Table => {
            let mut table = TextTable::new(&["link", "kind", "state", "heard by"]);
            for row in &rows {
                let link = format!("{} - {}", row.a, row.b);
                table.row(vec![link, row.kind.into(), row.state.into(), routing::names(&row.heard_by, " ")]);
            }
            print!("{}", table.render());
            print!("{}", summary(&rows));
        }
    }
    Ok(Exit::OK)
}

/// Every link that is configured or that somebody alive hears.
fn rows(status: &NodeStatus) -> Vec<LinkRow> {
    let of = |pick: fn(&MemberStatus) -> &Vec<NodeId>| -> BTreeSet<Link> {
        let members = status.members.iter();
        members.flat_map(|m| pick(m).iter().map(|peer| Link::between(&m.process_id, peer))).collect()
    };
    let configured = of(|member| &member.neighbors);
    let heard = of(|member| &member.links);
    let row = |link: &Link| {
        let hears = |from: &NodeId, to: &NodeId| {
            status.members.iter().any(|member| member.process_id == *from && member.links.contains(to))
        };
        let (a, b) = link.ends();
        let ends = [(a, b), (b, a)];
        let heard_by: Vec<NodeId> =
            ends.into_iter().filter(|(from, to)| hears(from, to)).map(|(from, _)| from.clone()).collect();
        LinkRow {
            a: a.clone(),
            b: b.clone(),
            kind: if configured.contains(link) { "configured" } else { "adopted" },
            state: ["down", "one way", "up"][heard_by.len()],
            heard_by,
        }
    };
    configured.union(&heard).map(row).collect()
}

fn summary(rows: &[LinkRow]) -> String {
    let count = |is_meant: fn(&LinkRow) -> bool| rows.iter().filter(|row| is_meant(row)).count();
    let mut text = format!("{} of {} links are up", count(|row| row.state == "up"), rows.len());
    match count(|row| row.kind == "adopted") {
        0 => {}
        adopted => text.push_str(&format!("; {adopted} adopted by nodes that were cut off from the leader")),
    }
    text + "\n"
}
