//! `overlay config check`: everything that is wrong with a file, at once.

use std::path::PathBuf;

use super::arguments::{Common, OverrideArgs};
use super::error::{CliError, Exit};
use super::table::TextTable;
use super::target::Target;

/// Reads the file and says what it means.
pub fn run(common: &Common, file: Option<PathBuf>) -> Result<Exit, CliError> {
    let path = file.unwrap_or_else(|| common.config.clone());
    let target = Target::read_file(&path, &OverrideArgs::default())?;
    let config = &target.config;
    let mut table = TextTable::new(&["id", "role", "team", "address", "data", "neighbors"]);
    for process in config.processes.values() {
        table.row(vec![
            process.id.to_string(),
            process.role.to_string(),
            process.team.to_string(),
            format!("{}:{}", process.host, process.port),
            if process.holds_data { "yes" } else { "no" }.to_owned(),
            process.neighbors.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(" "),
        ]);
    }
    print!("{}", table.render());
    for (team, settings) in &config.teams {
        match settings.range {
            Some(range) => println!("team {team}: {} to {}, weight {}", range.from, range.to, settings.weight),
            None => println!("team {team}: no days, only billed, weight {}", settings.weight),
        }
    }
    println!("fingerprint {}", target.fingerprint);
    for warning in config.warnings() {
        println!("warning: {warning}");
    }
    println!("{}: ok", path.display());
    Ok(Exit::OK)
}
