//! `overlay control`: changes a setting of the running overlay.

use std::time::Duration;

use super::arguments::Common;
use super::error::{CliError, Exit};
use super::target;

const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Puts another fairness strategy in force.
pub fn fairness(common: &Common, name: &str) -> Result<Exit, CliError> {
    let runtime = target::runtime()?;
    let client = target::leader(common, &runtime)?;
    let changed = runtime.block_on(async {
        let before = client.node().control(None, CALL_TIMEOUT).await?;
        let now = client.node().control(Some(name), CALL_TIMEOUT).await?;
        Ok((before, now))
    });
    let (before, now) = changed.map_err(|failure| CliError::from_failure(&failure, client.address()))?;
    println!("fairness_strategy {now} (was {before}), until the Leader ends");
    Ok(Exit::OK)
}
