//! From JSON to settings: every key of the file, its range and its default. What settings mean for each other is
//! checked in `check`. A setting that could not be read is `None` and was noted.

use std::collections::BTreeMap;

use overlay_ingest::DateRange;

use super::error::{Problems, Wrong};
use super::json::Tree;
use super::section::Section;
use super::value::*;
use super::*;

/// A file as far as it could be read. `None` means a problem was noted.
pub(super) struct Draft {
    pub dataset: Option<DatasetConfig>,
    pub teams: Option<BTreeMap<Team, Option<TeamConfig>>>,
    pub strategies: Option<StrategyConfig>,
    pub limits: Option<Limits>,
    pub replicas: Option<Replicas>,
    pub adopt_links: Option<bool>,
    pub state_dir: Option<PathBuf>,
    pub processes: Option<BTreeMap<NodeId, DraftProcess>>,
}

/// A process as far as it could be read.
#[derive(Default)]
pub(super) struct DraftProcess {
    pub role: Option<Role>,
    pub team: Option<Team>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub neighbors: Option<Vec<NodeId>>,
    /// The flag as given, or what the role implies.
    pub holds_data: Option<bool>,
}

impl Draft {
    /// The configuration; `None` if anything could not be read.
    pub(super) fn finish(self) -> Option<Config> {
        let team = |(name, team): (Team, Option<TeamConfig>)| Some((name, team?));
        let process = |(id, draft): (NodeId, DraftProcess)| {
            let process = ProcessConfig {
                id: id.clone(),
                role: draft.role?,
                team: draft.team?,
                host: draft.host?,
                port: draft.port?,
                neighbors: draft.neighbors?,
                holds_data: draft.holds_data?,
            };
            Some((id, process))
        };
        Some(Config {
            dataset: self.dataset?,
            teams: self.teams?.into_iter().map(team).collect::<Option<_>>()?,
            strategies: self.strategies?,
            limits: self.limits?,
            replicas: self.replicas?,
            adopt_links: self.adopt_links?,
            state_dir: self.state_dir?,
            processes: self.processes?.into_iter().map(process).collect::<Option<_>>()?,
        })
    }
}

pub(super) fn read(tree: &Tree, problems: &Problems) -> Option<Draft> {
    let root = Section::root(tree, problems)?;
    let limits = root.section_or_empty("limits").and_then(read_limits);
    let chunk_rows_max = limits.as_ref().map_or(CHUNK_ROWS_MAX, |limits| limits.chunk_rows_max);
    let draft = Draft {
        dataset: root.section("dataset").and_then(read_dataset),
        teams: root.section("teams").map(|section| read_teams(section, problems)),
        strategies: root.section_or_empty("strategies").and_then(|section| read_strategies(section, chunk_rows_max)),
        limits,
        replicas: root.or("replicas", Replicas::Count(1), replicas),
        adopt_links: root.or("adopt_links", true, flag),
        state_dir: root.or("state_dir", PathBuf::from(".overlay"), path),
        processes: root.section("processes").map(|section| read_processes(section, problems)),
    };
    root.close();
    Some(draft)
}

fn read_dataset(section: Section) -> Option<DatasetConfig> {
    let name = section.required("name", dataset_name);
    let root = section.required("root", path);
    let default_cache = root.as_ref().map(|root| root.join(CACHE_DIR)).unwrap_or_default();
    let cache = section.or("cache", default_cache, path);
    let table = section.or("table", "observations".to_string(), table_name);
    section.close();
    Some(DatasetConfig { name: name?, root: root?, cache: cache?, table: table? })
}

fn read_teams(section: Section, problems: &Problems) -> BTreeMap<Team, Option<TeamConfig>> {
    let mut teams = BTreeMap::new();
    for (key, team) in section.named() {
        problems.note(&section.path_of(key), name(&Tree::Text(key.to_string())));
        if key == NO_TEAM {
            let wrong = Wrong::new(format!("no team can be called {NO_TEAM}")).hint("it is what unbilled queries are");
            problems.add(section.path_of(key), wrong);
        }
        teams.insert(Team::from(key), team.and_then(|team| read_team(team, problems)));
    }
    teams
}

fn read_team(section: Section, problems: &Problems) -> Option<TeamConfig> {
    let weight = section.or("weight", 1, whole_u32(1, 1000));
    let range = if section.has("from") || section.has("to") { Some(read_days(&section, problems)) } else { None };
    section.close();
    match range {
        Some(read) => Some(TeamConfig { range: Some(read?), weight: weight? }),
        None => Some(TeamConfig { range: None, weight: weight? }),
    }
}

/// The days of a team that has some: one end alone is a mistake.
fn read_days(section: &Section, problems: &Problems) -> Option<DateRange> {
    let from = section.required("from", date);
    let to = section.required("to", date);
    let range = DateRange { from: from?, to: to? };
    if range.from > range.to {
        let wrong = Wrong::new(format!("must not be before from (is {} < {})", range.to, range.from));
        problems.add(section.path_of("to"), wrong);
        return None;
    }
    Some(range)
}

fn read_strategies(section: Section, chunk_rows_max: u32) -> Option<StrategyConfig> {
    let forwarding = forwarding_names();
    let name = |key, names: &[&'static str]| section.or(key, names[0].to_string(), one_of(names));
    let forwarding_strategy = name("forwarding_strategy", &forwarding);
    let async_forwarding = section.or("async_forwarding", false, flag);
    let chunking_strategy = name("chunking_strategy", &super::chunking_names());
    let fairness_strategy = name("fairness_strategy", &super::fairness_names());
    let chunk_size = section.or("chunk_size", CHUNK_SIZE.min(chunk_rows_max), whole_u32(1, chunk_rows_max));
    section.close();
    Some(StrategyConfig {
        forwarding_strategy: forwarding_strategy?,
        async_forwarding: async_forwarding?,
        chunking_strategy: chunking_strategy?,
        fairness_strategy: fairness_strategy?,
        chunk_size: chunk_size?,
    })
}

fn read_limits(section: Section) -> Option<Limits> {
    const DAY: u64 = 86_400;
    let queue_capacity = section.or("queue_capacity", 200, count(1, 1_000_000));
    let concurrent_max = section.or("concurrent_max", 100, count(1, 100_000));
    let most = concurrent_max.unwrap_or(100_000);
    let team_concurrent_max = section.or("team_concurrent_max", 60.min(most), count(1, most as u32));
    let result_ttl_s = section.or("result_ttl_s", 300, whole(1, DAY));
    let result_bytes_max = section.or("result_bytes_max", 512 << 20, bytes);
    let result_disk_bytes_max = section.or("result_disk_bytes_max", 4 << 30, bytes_or_none);
    let data_bytes_max = section.or("data_bytes_max", 8 << 30, bytes);
    let memory_bytes_max = section.or("memory_bytes_max", 2 << 30, bytes);
    let chunk_rows_max = section.or("chunk_rows_max", CHUNK_ROWS_MAX, whole_u32(1, 1 << 20));
    let deadline_s = section.or("deadline_s", 60, whole(1, DAY));
    let idle_s = section.or("idle_s", 30, whole(1, DAY));
    let threads = section.or("threads", 0, count(0, 1024));
    section.close();
    Some(Limits {
        queue_capacity: queue_capacity?,
        concurrent_max: concurrent_max?,
        team_concurrent_max: team_concurrent_max?,
        result_ttl_s: result_ttl_s?,
        result_bytes_max: result_bytes_max?,
        result_disk_bytes_max: result_disk_bytes_max?,
        data_bytes_max: data_bytes_max?,
        memory_bytes_max: memory_bytes_max?,
        chunk_rows_max: chunk_rows_max?,
        deadline_s: deadline_s?,
        idle_s: idle_s?,
        threads: threads?,
    })
}

fn read_processes(section: Section, problems: &Problems) -> BTreeMap<NodeId, DraftProcess> {
    let mut processes = BTreeMap::new();
    for (key, process) in section.named() {
        problems.note(&section.path_of(key), name(&Tree::Text(key.to_string())));
        let draft = process.map(|process| read_process(key, process, problems)).unwrap_or_default();
        processes.insert(NodeId::from(key), draft);
    }
    processes
}

fn read_process(key: &str, section: Section, problems: &Problems) -> DraftProcess {
    let must_be_key = |tree: &Tree| match name(tree)? {
        id if id == key => Ok(id),
        _ => Err(Wrong::new(format!("must be the key of the process, {key:?} (is {tree})"))),
    };
    section.required("id", must_be_key);
    let role = section.required("role", role);
    let team = section.required("team", name).map(|team| Team::from(team.as_str()));
    let host = section.required("host", host);
    let port = section.required("port", whole(0, u64::from(u16::MAX)));
    let neighbors = section.elements("neighbors").and_then(|elements| {
        // Each element is read, so that each wrong one is told.
        let read: Vec<Option<String>> = elements.iter().map(|(path, tree)| problems.note(path, name(tree))).collect();
        read.into_iter().map(|id| id.map(|id| NodeId::from(id.as_str()))).collect::<Option<Vec<NodeId>>>()
    });
    let holds_data = section.or("holds_data", role != Some(Role::Leader), flag);
    section.close();
    DraftProcess {
        role,
        team,
        host,
        port: port.map(|port| u16::try_from(port).expect("it was read as at most 65535")),
        neighbors,
        holds_data,
    }
}
