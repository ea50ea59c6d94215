//! `overlay up` and `overlay down`: all processes of this machine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::arguments::{Common, DownArgs, UpArgs};
use super::error::{CliError, Exit};
use super::spawn::{self, Lifetime, Started};
use super::status;
use super::table::{TextTable, grouped};
use super::target::{self, Target};
use crate::client::Client;
use crate::node::status::NodeStatus;
use crate::node::{os, state_dir};
use crate::routing::{self, NodeId};

/// How long processes may take until they serve.
const START_MAX: Duration = Duration::from_secs(60);
/// Once all of them serve, how long they may wait for others before `up` says so and goes on.
const WAIT_MAX: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts them, shows them, and without `--detach` stays until Ctrl-C.
pub fn run(common: &Common, arguments: &UpArgs) -> Result<Exit, CliError> {
    let target = Target::read(common, &arguments.overrides)?;
    let ids = chosen(&target, &arguments.only)?;
    if ids.is_empty() {
        return Err(CliError::new(Exit::USAGE, "no process of the configuration has an address of this machine")
            .hint("check the hosts with `overlay config check`"));
    }
    for id in &ids {
        if state_dir::is_locked(&target.config.state_dir, &target.fingerprint, id) {
            return Err(CliError::new(Exit::FAILED, format!("{id} runs already")).hint("end it with `overlay down`"));
        }
    }
    let runtime = target::runtime()?;
    let mut started = Vec::with_capacity(ids.len());
    for id in &ids {
        match spawn::start(common, &arguments.overrides, &target, id, Lifetime::ItsOwn) {
            Ok(process) => started.push(process),
            Err(error) => {
                runtime.block_on(end_all(&target, &mut started));
                return Err(error);
            }
        }
    }
    runtime.block_on(async {
        // From here on an interrupt ends what was started, and so does the end of the terminal: who started them is gone.
        let mut interrupted = std::pin::pin!(os::asked_to_end_or_hung_up());
        let ready = tokio::select! {
            ready = wait_until_serving(&target, &mut started) => ready,
            _ = &mut interrupted => Err(CliError::new(Exit::INTERRUPTED, "interrupted while starting")),
        };
        let statuses = match ready {
            Ok(statuses) => statuses,
            Err(error) => {
                end_all(&target, &mut started).await;
                return Err(error);
            }
        };
        print!("{}", render(&target, &statuses));
        let leader = look_at_leader(&target).await;
        println!("{}", next_steps(common, &target, leader.as_ref(), arguments.detach));
        if arguments.detach {
            return Ok(Exit::OK);
        }
        let tell = |id: &NodeId| eprintln!("{id} ended by itself:\n  {}", spawn::last_words(id));
        let died = tokio::select! {
            // One that died just before is told of as well.
            _ = &mut interrupted => dead(&mut started).inspect(tell),
            died = first_death(&mut started) => {
                tell(&died);
                eprintln!("the others go on; Ctrl-C ends them");
                let _ = interrupted.await;
                Some(died)
            }
        };
        eprintln!("draining; this takes up to {} s while queries run", crate::node::DRAIN_MAX.as_secs());
        end_all(&target, &mut started).await;
        Ok(if died.is_some() { Exit::FAILED } else { Exit::OK })
    })
}

fn chosen(target: &Target, only: &[String]) -> Result<Vec<NodeId>, CliError> {
    let local = spawn::local_ids(target);
    if only.is_empty() {
        return Ok(local);
    }
    let mut ids = Vec::new();
    for id in only {
        let id = target.process(id)?;
        if !local.contains(&id) {
            return Err(elsewhere(target, &id, "up"));
        }
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn elsewhere(target: &Target, id: &NodeId, command: &str) -> CliError {
    let host = target.config.process(id).map(|process| process.host.clone()).unwrap_or_default();
    CliError::new(Exit::USAGE, format!("{id} belongs on {host}, which is not this machine"))
        .hint(format!("type it on {host}: overlay {command} --only {id}"))
}

/// Waits until every started process serves, and a while longer until it is ready.
async fn wait_until_serving(target: &Target, started: &mut [Started]) -> Result<Vec<NodeStatus>, CliError> {
    let start = Instant::now();
    let mut all_serve_since = None;
    loop {
        for process in started.iter_mut() {
            if let Ok(Some(code)) = process.child.try_wait() {
                let words = spawn::last_words(&process.id);
                return Err(CliError::new(
                    Exit::FAILED,
                    format!("{} ended while starting ({code})\n  {words}", process.id),
                ));
            }
        }
        let mut statuses = Vec::with_capacity(started.len());
        for process in started.iter() {
            if let Ok(address) = target.address(&process.id)
                && let Ok(status) = Client::new(&address).status(LOOK_TIMEOUT).await
                && status.process_id == process.id
                && status.pid == process.child.id()
            {
                statuses.push(status);
            }
        }
        if statuses.len() == started.len() {
            let since = *all_serve_since.get_or_insert_with(Instant::now);
            // What counts is what the Leader has heard, or the first query would come too early.
            let complete = match look_at_leader(target).await {
                Some(leader) if statuses.len() == target.config.processes.len() => status::not_ready(&leader).is_none(),
                Some(leader) => statuses.iter().all(|status| is_ready_at(&leader, status)),
                None => statuses.iter().all(|status| status.state == "ready"),
            };
            // What was asked before may have changed since; the table shall not say `loading` of what is loaded.
            let shown_ready = statuses.iter().all(|status| status.state == "ready");
            if (complete && shown_ready) || since.elapsed() > WAIT_MAX {
                return Ok(statuses);
            }
        }
        if start.elapsed() > START_MAX {
            let missing = started.iter().map(|process| &process.id);
            let missing = missing.filter(|id| !statuses.iter().any(|status| status.process_id == **id));
            let names = routing::names(missing, ", ");
            return Err(CliError::new(Exit::FAILED, format!("{names} did not serve within {} s", START_MAX.as_secs()))
                .hint("look into logs/"));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What the Leader says, wherever it runs; `None` if it cannot be reached.
async fn look_at_leader(target: &Target) -> Option<NodeStatus> {
    let address = target.address(&target.config.leader().id).ok()?;
    Client::new(&address).status(LOOK_TIMEOUT).await.ok()
}

/// Whether the Leader has heard this start of the node, that it is ready, and all that it holds.
fn is_ready_at(leader: &NodeStatus, started: &NodeStatus) -> bool {
    let heard = leader.members.iter().find(|member| member.process_id == started.process_id);
    started.state == "ready" && heard.is_some_and(|member| member.state == "ready" && member.rows == started.rows)
}

fn render(target: &Target, statuses: &[NodeStatus]) -> String {
    let mut table = TextTable::new(&["id", "role", "team", "address", "state", ">rows", ">pid"]);
    for status in statuses {
        let address = target.address(&status.process_id).unwrap_or_default();
        let state = match status.waiting_for.as_str() {
            "" => status.state.clone(),
            waiting => format!("{} for {waiting}", status.state),
        };
        table.row(vec![
            status.process_id.to_string(),
            status.role.to_string(),
            status.team.to_string(),
            address,
            state,
            grouped(status.rows),
            status.pid.to_string(),
        ]);
    }
    table.render()
}

fn next_steps(common: &Common, target: &Target, leader: Option<&NodeStatus>, detached: bool) -> String {
    let config = target::config_flag(common);
    let mut text = String::new();
    match leader {
        Some(leader) => {
            for (host, ids) in absent_elsewhere(target, leader) {
                text.push_str(&format!("\nnot there yet: {ids} on {host}; start them there: overlay{config} up"));
            }
            if !text.is_empty() {
                text.push_str(
                    "\nuntil then queries on their teams' dates are refused, unless you allow partial answers\n",
                );
            }
            text.push_str(&format!("\nask:   overlay{config} query PM2.5 5 35 --limit 10\n"));
            text.push_str(&format!(
                "       overlay{config} sql \"SELECT parameter, count(*) FROM {} GROUP BY parameter\"\n",
                target.config.dataset.table
            ));
        }
        None => {
            let leader = target.config.leader();
            text.push_str(&format!("\nthe Leader, {} on {}, does not run yet\n", leader.id, leader.host));
            if !spawn::is_local(&leader.host) {
                text.push_str(&format!("start it there: overlay{config} up\n"));
            }
        }
    }
    text.push_str(&format!("look:  overlay{config} status\n"));
    text.push_str(&if detached { format!("end:   overlay{config} down") } else { "end:   Ctrl-C".to_owned() });
    text
}

/// Processes of other hosts that the Leader does not hear, by host.
fn absent_elsewhere(target: &Target, leader: &NodeStatus) -> BTreeMap<String, String> {
    let mut absent: BTreeMap<String, String> = BTreeMap::new();
    for member in leader.members.iter().filter(|member| matches!(member.state.as_str(), "dead" | "unreachable")) {
        let Some(process) = target.config.process(&member.process_id) else { continue };
        if !spawn::is_local(&process.host) {
            let ids = absent.entry(process.host.clone()).or_default();
            if !ids.is_empty() {
                ids.push(' ');
            }
            ids.push_str(process.id.as_str());
        }
    }
    absent
}

async fn first_death(started: &mut [Started]) -> NodeId {
    loop {
        if let Some(id) = dead(started) {
            return id;
        }
        tokio::time::sleep(POLL_INTERVAL * 4).await;
    }
}

/// One that has ended.
fn dead(started: &mut [Started]) -> Option<NodeId> {
    started.iter_mut().find_map(|process| match process.child.try_wait() {
        Ok(Some(_)) => Some(process.id.clone()),
        _ => None,
    })
}

async fn end_all(target: &Target, started: &mut [Started]) {
    let ids: Vec<NodeId> = started.iter().map(|process| process.id.clone()).collect();
    for (id, how) in spawn::end(target, &ids).await {
        if how.starts_with("did not") {
            eprintln!("{id} {how}");
        }
    }
    for process in started {
        // A process that never came to lock its folder is not known to `end`.
        let _ = process.child.kill();
        let _ = process.child.wait();
    }
}

/// Ends what runs here.
pub fn down(common: &Common, arguments: &DownArgs) -> Result<Exit, CliError> {
    let target = Target::read(common, &Default::default())?;
    // A process may run here although its address is gone by now, so all are asked.
    let mut ids: Vec<NodeId> = target.config.processes.keys().cloned().collect();
    if !arguments.only.is_empty() {
        ids = arguments.only.iter().map(|id| target.process(id)).collect::<Result<Vec<_>, _>>()?;
        ids.sort();
        ids.dedup();
        let local = spawn::local_ids(&target);
        let runs = |id: &NodeId| state_dir::is_locked(&target.config.state_dir, &target.fingerprint, id);
        if let Some(id) = ids.iter().find(|id| !local.contains(id) && !runs(id)) {
            return Err(elsewhere(&target, id, "down"));
        }
    }
    let runtime = target::runtime()?;
    let ended = runtime.block_on(async {
        let ending = spawn::end(&target, &ids);
        tokio::pin!(ending);
        tokio::select! {
            ended = &mut ending => return ended,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        eprintln!("waiting for running queries, up to {} s", crate::node::DRAIN_MAX.as_secs());
        ending.await
    });
    let mut exit = Exit::OK;
    let mut any = false;
    for (id, how) in ended {
        if how == "was not running" && arguments.only.is_empty() {
            continue;
        }
        any = true;
        println!("{id} {how}");
        if how.starts_with("did not") {
            exit = Exit::FAILED;
        }
    }
    if !any {
        println!("nothing was running");
    }
    Ok(exit)
}
