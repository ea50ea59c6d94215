//! `overlay status`: every process as the Leader sees it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::arguments::{Common, ListFormat, OverrideArgs, StatusArgs};
use super::error::{CliError, Exit};
use super::table::{TextTable, grouped};
use super::target::{self, Target};
use crate::client::Client;
use crate::failure::Failure;
use crate::node::state_dir;
use crate::node::status::{MemberStatus, NodeStatus};
use crate::routing::NodeId;

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Shows the overlay, after waiting for it if asked.
pub fn run(common: &Common, arguments: &StatusArgs) -> Result<Exit, CliError> {
    if arguments.format == Some(ListFormat::Csv) {
        let hint = "there are table and json; `overlay partitions`, `peers` and `metrics --all` have csv";
        return Err(CliError::new(Exit::USAGE, "a status is no list, so it has no csv").hint(hint));
    }
    let runtime = target::runtime()?;
    let client = target::leader(common, &runtime)?;
    // Without a readable configuration the Leader still tells; only process ids are missing then.
    let target = Target::read(common, &OverrideArgs::default()).ok();
    let status = runtime.block_on(async {
        match arguments.wait {
            Some(seconds) => wait_until_ready(&client, Duration::from_secs_f64(seconds.clamp(0.0, 1e9))).await,
            None => client.status(LOOK_TIMEOUT).await.map_err(|failure| unreachable(&client, &failure)),
        }
    })?;
    match arguments.format {
        Some(ListFormat::Json) => println!("{}", json(&status)?),
        _ => print!("{}", render(&status, target.as_ref())),
    }
    let whole = not_ready(&status).is_none();
    Ok(if whole { Exit::OK } else { Exit::FAILED })
}

fn unreachable(client: &Client, failure: &Failure) -> CliError {
    CliError::from_failure(failure, client.address())
}

/// The status as JSON.
pub fn json(status: &NodeStatus) -> Result<String, CliError> {
    serde_json::to_string_pretty(status)
        .map_err(|error| CliError::caused(Exit::FAILED, "no JSON could be made", &error))
}

/// What the overlay is still waiting for, in words; `None` when it is complete.
pub fn not_ready(status: &NodeStatus) -> Option<String> {
    if let Some(node) = status.unheard.first() {
        return Some(format!("{node} has never announced"));
    }
    if let Some(member) = status.members.iter().find(|member| member.state != "ready") {
        return Some(format!("{} is {}", member.process_id, member.state));
    }
    let hole = status.partitions.iter().find(|partition| partition.holders.is_empty());
    hole.map(|partition| format!("nobody holds {}", partition.date))
}

/// Waits until the Leader is reachable and the overlay complete.
pub async fn wait_until_ready(client: &Client, patience: Duration) -> Result<NodeStatus, CliError> {
    let start = Instant::now();
    loop {
        let looked = client.status(LOOK_TIMEOUT).await;
        let why = match &looked {
            Ok(status) => not_ready(status),
            Err(failure) => Some(failure.message.clone()),
        };
        match (why, looked) {
            (None, Ok(status)) => return Ok(status),
            (_, Err(failure)) if start.elapsed() >= patience => return Err(unreachable(client, &failure)),
            (why, _) if start.elapsed() >= patience => {
                let why = why.unwrap_or_default();
                return Err(CliError::new(
                    Exit::FAILED,
                    format!("not ready after {:.1} s: {why}", patience.as_secs_f64()),
                )
                .hint("look with `overlay status`, or into logs/"));
            }
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Its live links, those that are not in the configuration marked.
fn links(member: &MemberStatus) -> String {
    let name = |peer: &NodeId| if member.has_adopted(peer) { format!("{peer} (adopted)") } else { peer.to_string() };
    member.links.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// The table of processes.
pub fn render(status: &NodeStatus, target: Option<&Target>) -> String {
    let mut table =
        TextTable::new(&["id", "role", "team", "address", "state", ">partitions", ">rows", "links", ">pid"]);
    for member in &status.members {
        // A killed process leaves its file behind.
        let pid = target
            .filter(|_| member.state != "dead")
            .and_then(|target| state_dir::local_pid(&target.config.state_dir, &target.fingerprint, &member.process_id));
        table.row(vec![
            member.process_id.to_string(),
            member.role.to_string(),
            member.team.to_string(),
            member.address.clone(),
            member.state.clone(),
            member.partitions.to_string(),
            grouped(member.rows),
            links(member),
            pid.map(|pid| pid.to_string()).unwrap_or_default(),
        ]);
    }
    let mut text = table.render();
    let rows: u64 = status.members.iter().map(|member| member.rows).sum();
    text.push_str(&format!("{} rows in {} partitions", grouped(rows), status.partitions.len()));
    match not_ready(status) {
        None => text.push_str("; complete\n"),
        Some(why) => text.push_str(&format!("; not complete: {why}\n")),
    }
    text.push_str(&on_disk(status));
    text.push_str(&hosts(status));
    for partition in status.partitions.iter().filter(|partition| partition.holders.is_empty()) {
        let last = partition.last_holders.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(" ");
        let held = if last.is_empty() { "never held".to_owned() } else { format!("last held by {last}") };
        text.push_str(&format!("hole: {} ({held})\n", partition.date));
    }
    text
}

/// Who had not enough memory for all that it holds.
fn on_disk(status: &NodeStatus) -> String {
    let mut partitions: BTreeMap<&NodeId, usize> = BTreeMap::new();
    for node in status.partitions.iter().flat_map(|partition| &partition.on_disk) {
        *partitions.entry(node).or_default() += 1;
    }
    let line =
        |(node, count)| format!("{node} reads {count} of its partitions from disk: limits.data_bytes_max is full\n");
    partitions.into_iter().map(line).collect()
}

/// A line for each host, where there are several.
fn hosts(status: &NodeStatus) -> String {
    let mut hosts: BTreeMap<&str, Vec<&MemberStatus>> = BTreeMap::new();
    for member in &status.members {
        // Without a port the address is not known.
        let Some((host, _)) = member.address.rsplit_once(':') else { continue };
        hosts.entry(host).or_default().push(member);
    }
    if hosts.len() < 2 {
        return String::new();
    }
    let line = |(host, members): (&str, Vec<&MemberStatus>)| {
        let ids = members.iter().map(|member| member.process_id.as_str()).collect::<Vec<_>>().join(" ");
        let ready = members.iter().filter(|member| member.state == "ready").count();
        format!("host {host}: {ids}; {ready} of {} ready\n", members.len())
    };
    hosts.into_iter().map(line).collect()
}
