//! `overlay partitions`: every partition, and who holds it.

use std::time::Duration;

use super::arguments::{Common, ListArgs, ListFormat};
use super::error::{CliError, Exit};
use super::table::{TextTable, grouped};
use super::target;
use crate::routing::{self, NodeId};

/// Shows them as the Leader sees them.
pub fn run(common: &Common, arguments: &ListArgs) -> Result<Exit, CliError> {
    let runtime = target::runtime()?;
    let client = target::leader(common, &runtime)?;
    let status = runtime
        .block_on(client.status(Duration::from_secs(5)))
        .map_err(|failure| CliError::from_failure(&failure, client.address()))?;
    let names = |nodes: &[NodeId]| routing::names(nodes, " ");
    match arguments.format.unwrap_or(ListFormat::Table) {
        ListFormat::Json => {
            let json = serde_json::to_string_pretty(&status.partitions)
                .map_err(|error| CliError::caused(Exit::FAILED, "no JSON could be made", &error))?;
            println!("{json}");
        }
        ListFormat::Csv => {
            println!("date,partition,team,rows,csv_bytes,holders,last_holders,placed,on_disk");
            for partition in &status.partitions {
                println!(
                    "{},{},{},{},{},{},{},{},{}",
                    partition.date,
                    partition.partition,
                    partition.team,
                    partition.rows.map(|rows| rows.to_string()).unwrap_or_default(),
                    partition.csv_bytes,
                    names(&partition.holders),
                    names(&partition.last_holders),
                    names(&partition.placed),
                    names(&partition.on_disk),
                );
            }
        }
        ListFormat::Table => {
            let mut table = TextTable::new(&["date", "team", ">rows", ">csv bytes", "held by", "partition"]);
            for partition in &status.partitions {
                let reads = |node: &NodeId| if partition.on_disk.contains(node) { " (disk)" } else { "" };
                let holder = |node: &NodeId| format!("{node}{}", reads(node));
                let held = match (partition.holders.as_slice(), partition.last_holders.as_slice()) {
                    ([], []) => "nobody".to_owned(),
                    ([], last) => format!("nobody (last {})", names(last)),
                    (holders, _) => holders.iter().map(holder).collect::<Vec<_>>().join(" "),
                };
                table.row(vec![
                    partition.date.clone(),
                    partition.team.to_string(),
                    partition.rows.map(grouped).unwrap_or_default(),
                    grouped(partition.csv_bytes),
                    held,
                    partition.partition.clone(),
                ]);
            }
            print!("{}", table.render());
        }
    }
    Ok(Exit::OK)
}
