//! The demo's temporary folder: data set, cache, configuration, state and logs; and the processes that run from it.
//!
//! Invariant: dropping a [`Place`] ends its processes and removes its folder, unless it was kept.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use overlay_ingest::generate::{GenerateOptions, Generated, generate};
use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::{Dataset, Date, DateRange, Layout};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::arguments::{Common, OverrideArgs};
use super::super::error::{CliError, Exit};
use super::super::spawn::{self, Lifetime, Started};
use super::super::status::not_ready;
use super::super::target::Target;
use crate::client::Client;
use crate::node::status::NodeStatus;
use crate::routing::{self, NodeId};

/// The overlay of the demo, but for its ports and folders.
const SHIPPED: &str = include_str!("../../../configs/one_host.json");
const DATA_SET: &str = "demo";
const CONFIG: &str = "overlay.json";
/// The first day of the shipped configuration's second team; of three days, two are its.
const SECOND_TEAM: (u16, u8, u8) = (2020, 8, 21);
const FIRST_TEAM_DAYS_MAX: u32 = 11;
const SITES: u32 = 60;
/// How long the overlay may take to be complete. It takes about a second.
const COMPLETE_MAX: Duration = Duration::from_secs(60);
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What the demo lives in; empty at first.
pub struct Place {
    /// Whether the nodes may outlive the demo.
    lifetime: Lifetime,
    processes: Processes,
    /// The configuration, once it is written.
    cluster: Option<(Common, Target)>,
    folder: Option<TempDir>,
    /// Where the program was started.
    home: Option<PathBuf>,
}

/// Those that run, or died by themselves. Dropped, they are killed.
#[derive(Default)]
struct Processes(Vec<Started>);

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // An error here means that it ended.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// What was generated and ingested.
pub struct Made {
    pub generated: Generated,
    pub dates: Vec<Date>,
    pub parquet_bytes: u64,
    pub rows_rejected: u64,
}

impl Place {
    /// Nothing yet; what will be started in it lives so long.
    pub fn new(lifetime: Lifetime) -> Place {
        Place { lifetime, processes: Processes::default(), cluster: None, folder: None, home: None }
    }

    /// Makes the folder, the data set, the cache and the configuration.
    pub async fn make(&mut self, days: u32, seed: u64) -> Result<Made, CliError> {
        let failed = |what: &'static str| move |error: io::Error| CliError::caused(Exit::FAILED, what, &error);
        let folder = tempfile::Builder::new().prefix("overlay-demo-").tempdir();
        let folder = folder.map_err(failed("no temporary folder can be made"))?;
        let path = fs::canonicalize(folder.path()).map_err(failed("the temporary folder cannot be found"))?;
        self.folder = Some(folder);
        // What processes write beside themselves, such as logs, goes where they are started.
        self.home = env::current_dir().ok();
        env::set_current_dir(&path).map_err(failed("the temporary folder cannot be entered"))?;
        let config = path.join(CONFIG);
        fs::write(&config, config_text(&path)).map_err(failed("the configuration cannot be written"))?;
        let common = Common { config, leader: None };
        let target = Target::read(&common, &OverrideArgs::default())?;
        self.cluster = Some((common, target));
        let made = tokio::task::spawn_blocking(move || make_data(&path, days, seed)).await;
        made.map_err(|error| CliError::caused(Exit::FAILED, "generating was interrupted", &error))?
            .map_err(|error| CliError::of(Exit::FAILED, &error))
    }

    fn cluster(&self) -> Result<&(Common, Target), CliError> {
        self.cluster.as_ref().ok_or_else(|| CliError::new(Exit::FAILED, "there is no configuration yet"))
    }

    /// The folder; empty before [`Place::make`].
    pub fn folder(&self) -> &Path {
        self.cluster.as_ref().and_then(|(common, _)| common.config.parent()).unwrap_or(Path::new(""))
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder().join(CONFIG)
    }

    /// Where the Leader listens.
    pub fn leader_address(&self) -> Result<String, CliError> {
        let (_, target) = self.cluster()?;
        target.address(&target.config.leader().id)
    }

    /// The process id of a node that was started.
    pub fn pid(&self, id: &NodeId) -> Option<u32> {
        self.processes.0.iter().find(|process| process.id == *id).map(|process| process.child.id())
    }

    /// Starts every process of the configuration and waits until the Leader says that the overlay is complete.
    pub async fn start(&mut self) -> Result<NodeStatus, CliError> {
        let ids: Vec<NodeId> = self.cluster()?.1.config.processes.keys().cloned().collect();
        for id in &ids {
            self.spawn(id)?;
        }
        self.until_complete().await
    }

    /// Starts a process that was killed, and waits until the overlay is complete with the new one.
    pub async fn start_again(&mut self, id: &NodeId) -> Result<(), CliError> {
        self.spawn(id)?;
        // The Leader may still believe in the old process; what it hears once the new one is ready is of the new one.
        let pid = self.pid(id);
        let address = |place: &Place| place.cluster().and_then(|(_, target)| target.address(id));
        let is_new = |status: &NodeStatus| Some(status.pid) == pid && status.state == "ready";
        self.until(id.as_str(), address, |status| (!is_new(status)).then(|| format!("{id} is not ready"))).await?;
        let ready = Instant::now();
        let heard = |status: &NodeStatus| {
            let since = ready.elapsed().as_millis();
            status.members.iter().any(|member| member.process_id == *id && u128::from(member.heard_ms_ago) < since)
        };
        let missing = |status: &NodeStatus| {
            if heard(status) { not_ready(status) } else { Some(format!("the Leader has not heard {id}")) }
        };
        self.until("the Leader", Place::leader_address, missing).await.map(drop)
    }

    fn spawn(&mut self, id: &NodeId) -> Result<(), CliError> {
        let (common, target) = self.cluster()?;
        let started = spawn::start(common, &OverrideArgs::default(), target, id, self.lifetime)?;
        self.processes.0.push(started);
        Ok(())
    }

    async fn until_complete(&mut self) -> Result<NodeStatus, CliError> {
        self.until("the Leader", Place::leader_address, not_ready).await
    }

    /// Looks at a node until nothing is missing, in its own words.
    async fn until(
        &mut self,
        who: &str,
        address: impl Fn(&Place) -> Result<String, CliError>,
        missing: impl Fn(&NodeStatus) -> Option<String>,
    ) -> Result<NodeStatus, CliError> {
        let start = Instant::now();
        loop {
            self.check_alive()?;
            let mut why = format!("{who} has no address yet");
            if let Ok(address) = address(self) {
                match Client::new(&address).status(LOOK_TIMEOUT).await {
                    Ok(status) => match missing(&status) {
                        None => return Ok(status),
                        Some(missing) => why = missing,
                    },
                    Err(failure) => why = failure.message,
                }
            }
            if start.elapsed() > COMPLETE_MAX {
                let what = format!("the overlay is not complete after {} s: {why}", COMPLETE_MAX.as_secs());
                return Err(CliError::new(Exit::FAILED, what));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Kills a process as a power cut would, and gives the id it had.
    pub fn kill(&mut self, id: &NodeId) -> Result<u32, CliError> {
        let index = self.processes.0.iter().position(|process| process.id == *id);
        let index = index.ok_or_else(|| CliError::new(Exit::FAILED, format!("{id} does not run")))?;
        let mut process = self.processes.0.remove(index);
        let killed = process.child.kill().and_then(|()| process.child.wait());
        killed.map_err(|error| CliError::caused(Exit::FAILED, format!("{id} cannot be killed"), &error))?;
        Ok(process.child.id())
    }

    /// The first process that ended by itself, with what it said last.
    pub fn dead(&mut self) -> Option<CliError> {
        let ended =
            |process: &mut Started| process.child.try_wait().ok().flatten().map(|code| (process.id.clone(), code));
        let (id, code) = self.processes.0.iter_mut().find_map(ended)?;
        let words = spawn::last_words(&id);
        Some(CliError::new(Exit::FAILED, format!("{id} ended by itself ({code})\n  {words}").trim_end()))
    }

    /// Whether all processes run that should.
    pub fn check_alive(&mut self) -> Result<(), CliError> {
        self.dead().map_or(Ok(()), Err)
    }

    /// Ends all processes in order, and says how that went.
    pub async fn end(&mut self) -> Result<String, CliError> {
        let (_, target) = self.cluster()?;
        let ids: Vec<NodeId> = self.processes.0.iter().map(|process| process.id.clone()).collect();
        let ended = spawn::end(target, &ids).await;
        let odd: Vec<String> =
            ended.iter().filter(|(_, how)| *how != "ended").map(|(id, how)| format!("{id} {how}")).collect();
        // What was asked to end has; what was not heard is killed here.
        drop(std::mem::take(&mut self.processes));
        match odd.as_slice() {
            [] => {
                let mut ids = ids;
                ids.sort();
                Ok(routing::names(&ids, " "))
            }
            odd => Err(CliError::new(Exit::FAILED, odd.join("; "))),
        }
    }

    /// Removes the folder; its processes have ended.
    pub fn remove(&mut self) -> io::Result<()> {
        self.go_home();
        self.folder.take().map_or(Ok(()), TempDir::close)
    }

    /// Leaves everything as it is, for the user to end.
    pub fn keep(mut self) {
        std::mem::take(&mut self.processes.0);
        if let Some(folder) = self.folder.take() {
            let _path = folder.keep();
        }
    }

    /// Some systems do not remove a folder that a process is in.
    fn go_home(&mut self) {
        if let Some(home) = self.home.take() {
            // Gone, or not to be entered any more: then the folder's parent, which exists.
            let _ = env::set_current_dir(home).or_else(|_| env::set_current_dir(env::temp_dir()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // First nobody writes, then nobody is in the folder, then it goes, with the field that holds it.
        drop(std::mem::take(&mut self.processes));
        self.go_home();
    }
}

fn make_data(folder: &Path, days: u32, seed: u64) -> Result<Made, overlay_ingest::Error> {
    let root = folder.join(DATA_SET);
    let options = GenerateOptions { days, sites: SITES, seed, from: first_day(days) };
    let generated = generate(&root, &options)?;
    let dataset = Dataset::open(&root)?;
    let cache = folder.join("cache");
    let options = RunOptions { cache, range: DateRange::ALL, layout: Layout::default(), force: false };
    let manifest = run(&dataset, &options, &Silent)?.manifest;
    Ok(Made {
        generated,
        dates: manifest.partitions.iter().map(|entry| entry.id.date).collect(),
        parquet_bytes: manifest.partitions.iter().map(|entry| entry.file_bytes).sum(),
        rows_rejected: manifest.partitions.iter().filter_map(|entry| entry.rejects).map(|span| span.rows).sum(),
    })
}

/// So that a third of the days, eleven at most, are the first team's.
fn first_day(days: u32) -> Date {
    const DAY_SECONDS: i64 = 86_400;
    let (year, month, day) = SECOND_TEAM;
    let second = Date::new(year, month, day).expect("a day of the calendar");
    let before = i64::from((days / 3).min(FIRST_TEAM_DAYS_MAX));
    Date::of_unix_seconds(second.unix_seconds() - before * DAY_SECONDS).expect("a few days before a day of 2020")
}

fn config_text(folder: &Path) -> String {
    let mut config: Value = serde_json::from_str(SHIPPED).expect("a file of this project, which a test reads");
    let path = |name: &str| json!(folder.join(name).display().to_string());
    config["dataset"]["name"] = json!(DATA_SET);
    config["dataset"]["root"] = path(DATA_SET);
    config["dataset"]["cache"] = path("cache");
    config["state_dir"] = path("state");
    for process in config["processes"].as_object_mut().into_iter().flat_map(|processes| processes.values_mut()) {
        process["port"] = json!(0);
    }
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_is_the_shipped_one_in_a_folder_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG);
        fs::write(&path, config_text(folder.path())).unwrap();
        let config = Config::load(&path).unwrap();
        let teams: Vec<DateRange> = config.teams.values().filter_map(|team| team.range).collect();
        assert!(config.processes.values().all(|process| process.port == 0));
        assert!(config.state_dir.starts_with(folder.path()) && config.dataset.root.starts_with(folder.path()));
        // Whatever the number of days, both teams have some, and none is outside.
        for days in [6, 7, 24, 46] {
            let first = first_day(days);
            let mut dates = vec![first];
            (1..days).for_each(|_| dates.push(dates[dates.len() - 1].next()));
            assert!(dates.iter().all(|date| teams.iter().any(|team| team.contains(*date))), "{days}");
            assert!(teams.iter().all(|team| dates.iter().filter(|date| team.contains(**date)).count() >= 2), "{days}");
        }
    }
}
