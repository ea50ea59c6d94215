//! Somebody who asks for everything and hardly reads it, and what that costs the others and the nodes' memory.

use std::time::Duration;

use super::data::giant;
use super::goals::Memory;
use super::measures::GREEDY;
use crate::cli::bench::load::request::Manner;
use crate::cli::bench::nodes::Nodes;
use crate::client::Client;
use crate::delivery::encoding;
use crate::routing::Team;

/// One message of the answer at a time, then nothing for so long.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// How often memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// The slow reader, beside whatever is done until it has ended. Gives what that gives, and the memory, where the system
/// tells it.
///
/// # Errors
/// Nothing was measured, because the reader was refused or its answer broke off.
pub async fn beside<T>(nodes: &Nodes, measured: impl Future<Output = T>) -> Result<(T, Option<Memory>), String> {
    let before = nodes.resident_bytes();
    let mut most = before;
    let manner = Manner { deadline: Duration::from_secs(60), retry: false, encoding: encoding::DEFAULT };
    let reading = async {
        let client = Client::new(&nodes.leader);
        // Who has read everything asks for it again.
        loop {
            let mut answer = match client.open(giant().spec(Some(Team::from(GREEDY)), manner)).await {
                Ok(answer) => answer,
                Err(failure) => return failure.to_string(),
            };
            while let Some(read) = answer.count_next().await {
                match read {
                    Ok(_) => tokio::time::sleep(READ_INTERVAL).await,
                    Err(failure) => return failure.to_string(),
                }
            }
        }
    };
    let sampling = async {
        loop {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            most = most.max(nodes.resident_bytes());
        }
    };
    let found = tokio::select! {
        found = measured => found,
        why = reading => return Err(why),
        () = sampling => unreachable!("sampling has no end"),
    };
    let memory = before
        .zip(most)
        .map(|(before, rss_bytes_max)| Memory { rss_bytes_max, budget_bytes: before + nodes.result_bytes_max });
    Ok((found, memory))
}
