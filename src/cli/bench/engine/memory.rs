//! Resident bytes per row: what the operating system counts for a node that holds the data set, less what it counts
//! for the same node without data, by the rows held. `None` where the system does not tell.

use super::configuration::{Shape, configuration};
use super::ingest::Days;
use crate::cli::bench::folder::Folder;
use crate::cli::bench::nodes::Nodes;
use crate::cli::error::CliError;
use crate::cli::target;
use crate::client::Client;
use crate::node::os;
use crate::node::status::NodeStatus;
use std::time::Duration;

/// Starts both nodes, one after the other, and compares.
pub fn bytes_per_row(days: &Days, folder: &Folder) -> Result<Option<f64>, CliError> {
    let Some((empty, _)) = look(days, folder, false)? else { return Ok(None) };
    let Some((loaded, rows)) = look(days, folder, true)? else { return Ok(None) };
    Ok((rows > 0).then(|| loaded.saturating_sub(empty) as f64 / rows as f64))
}

/// Resident bytes and rows of a node that is ready.
fn look(days: &Days, folder: &Folder, holds_data: bool) -> Result<Option<(u64, u64)>, CliError> {
    let runtime = target::runtime()?;
    runtime.block_on(async {
        let nodes = Nodes::start(&configuration(days, folder, Shape::Alone { holds_data }), folder.path()).await?;
        let status: NodeStatus = Client::new(&nodes.leader)
            .status(Duration::from_secs(5))
            .await
            .map_err(|failure| CliError::from_failure(&failure, &nodes.leader))?;
        Ok(os::resident_bytes(status.pid).map(|bytes| (bytes, status.rows)))
    })
}
