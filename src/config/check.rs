//! What settings mean for each other: ids that exist, links that both ends list, one graph, one Leader, teams whose
//! dates are disjoint and held by somebody. Settings that could not be read are left out, so that one mistake is told
//! once.

use std::collections::{BTreeMap, BTreeSet};

use overlay_ingest::DateRange;

use super::TeamConfig;
use super::error::{Problems, Wrong};
use super::read::{Draft, DraftProcess};
use super::section::suggestion;
use crate::routing::{self, Link, NodeId, Role, Team, Topology};

type Processes = BTreeMap<NodeId, DraftProcess>;

pub(super) fn check(draft: &Draft, problems: &Problems) {
    if let Some(teams) = &draft.teams {
        check_dates(teams, problems);
    }
    if let Some(processes) = &draft.processes {
        check_ids(processes, problems);
        check_leader(processes, problems);
        check_addresses(processes, problems);
        check_neighbors(processes, problems);
        if let Some(teams) = &draft.teams {
            check_teams(teams, processes, problems);
        }
    }
}

fn check_dates(teams: &BTreeMap<Team, Option<TeamConfig>>, problems: &Problems) {
    if teams.is_empty() {
        problems.add("teams", Wrong::new("there must be at least one team"));
    }
    let ranges: Vec<(&Team, DateRange)> =
        teams.iter().filter_map(|(name, team)| Some((name, team.as_ref()?.range?))).collect();
    for (i, (team, range)) in ranges.iter().enumerate() {
        for (earlier, other) in &ranges[..i] {
            if range.overlaps(other) {
                let what = format!(
                    "shares days with {earlier} ({}..{} and {}..{})",
                    range.from, range.to, other.from, other.to
                );
                problems.add(format!("teams.{team}"), Wrong::new(what).hint("a day belongs to one team"));
            }
        }
    }
}

fn check_ids(processes: &Processes, problems: &Problems) {
    if processes.is_empty() {
        problems.add("processes", Wrong::new("there must be at least one process"));
    }
    let mut seen: BTreeMap<String, &NodeId> = BTreeMap::new();
    for id in processes.keys() {
        if let Some(other) = seen.insert(id.as_str().to_ascii_lowercase(), id) {
            let wrong = Wrong::new(format!("differs from {other} in case only"));
            problems
                .add(format!("processes.{id}"), wrong.hint("files are named after ids, and some systems ignore case"));
        }
    }
}

fn check_leader(processes: &Processes, problems: &Problems) {
    let leaders: Vec<&NodeId> =
        processes.iter().filter(|(_, draft)| draft.role == Some(Role::Leader)).map(|(id, _)| id).collect();
    // A role that could not be read may have been the Leader's.
    let all_read = processes.values().all(|draft| draft.role.is_some());
    if leaders.is_empty() && all_read && !processes.is_empty() {
        problems.add("processes", Wrong::new("no process has the role leader").hint("exactly one must"));
    }
    for second in leaders.iter().skip(1) {
        let wrong = Wrong::new(format!("{} is the leader already", leaders[0])).hint("exactly one must be");
        problems.add(format!("processes.{second}.role"), wrong);
    }
}

fn check_addresses(processes: &Processes, problems: &Problems) {
    let mut seen: BTreeMap<(&str, u16), &NodeId> = BTreeMap::new();
    for (id, draft) in processes {
        let (Some(host), Some(port)) = (&draft.host, draft.port) else { continue };
        if port == 0 {
            continue;
        }
        if let Some(other) = seen.insert((host, port), id) {
            let wrong = Wrong::new(format!("{other} has the address {host}:{port} already"));
            problems.add(format!("processes.{id}.port"), wrong);
        }
    }
}

fn check_neighbors(processes: &Processes, problems: &Problems) {
    let ids: Vec<&str> = processes.keys().map(NodeId::as_str).collect();
    let mut topology = Topology::default();
    let mut sound = true;
    for (id, draft) in processes {
        let Some(neighbors) = &draft.neighbors else {
            sound = false;
            continue;
        };
        let mut seen = BTreeSet::new();
        for (i, neighbor) in neighbors.iter().enumerate() {
            let wrong = if neighbor == id {
                Wrong::new("a process is not its own neighbor")
            } else if !seen.insert(neighbor) {
                Wrong::new(format!("{neighbor} is listed twice"))
            } else {
                match processes.get(neighbor).map(|other| &other.neighbors) {
                    None => {
                        Wrong::new(format!("there is no process {neighbor}")).hint(suggestion(neighbor.as_str(), &ids))
                    }
                    Some(Some(back)) if !back.contains(id) => Wrong::new(format!("{neighbor} does not list {id}"))
                        .hint(format!("a link is listed at both ends: add \"{id}\" to processes.{neighbor}.neighbors")),
                    Some(_) => {
                        topology.insert(Link::between(id, neighbor));
                        continue;
                    }
                }
            };
            sound = false;
            problems.add(format!("processes.{id}.neighbors[{i}]"), wrong);
        }
    }
    let components = topology.components(processes.keys());
    // While a link is wrong, what it would have connected is not worth a second message.
    if sound && components.len() > 1 {
        let groups: Vec<String> = components.iter().map(|group| routing::names(group, " ")).collect();
        let wrong = Wrong::new(format!("the overlay falls apart into {}", groups.join(" | ")));
        problems.add("processes", wrong.hint("every process must be reachable from every other"));
    }
}

fn check_teams(teams: &BTreeMap<Team, Option<TeamConfig>>, processes: &Processes, problems: &Problems) {
    let has_no_days = |team: &Team| teams.get(team).is_some_and(|read| read.is_some_and(|read| read.range.is_none()));
    let has_days = |read: &Option<TeamConfig>| read.is_some_and(|read| read.range.is_some());
    let with_days: Vec<&Team> = teams.iter().filter(|(_, read)| has_days(read)).map(|(team, _)| team).collect();
    let teams: BTreeSet<&Team> = teams.keys().collect();
    let names: Vec<&str> = teams.iter().map(|team| team.as_str()).collect();
    let mut team_leaders: BTreeMap<&Team, &NodeId> = BTreeMap::new();
    let mut held: BTreeSet<&Team> = BTreeSet::new();
    for (id, draft) in processes {
        let Some(team) = &draft.team else { continue };
        if !teams.contains(team) {
            let wrong = Wrong::new(format!("there is no team {team}")).hint(suggestion(team.as_str(), &names));
            problems.add(format!("processes.{id}.team"), wrong);
        }
        if has_no_days(team) {
            let wrong = Wrong::new(format!("team {team} has no days")).hint(format!("give teams.{team} from and to"));
            problems.add(format!("processes.{id}.team"), wrong);
        }
        if draft.holds_data != Some(false) {
            held.insert(team);
        }
        if draft.role == Some(Role::TeamLeader)
            && let Some(other) = team_leaders.insert(team, id)
        {
            let wrong = Wrong::new(format!("{other} is the team leader of {team} already"));
            problems.add(format!("processes.{id}.role"), wrong.hint("a team has at most one"));
        }
    }
    // A process that could not be read may be the one that holds the team's data.
    let all_read = processes.values().all(|draft| draft.team.is_some());
    for team in with_days.into_iter().filter(|team| all_read && !held.contains(*team)) {
        let wrong = Wrong::new("no process of the team holds data").hint("its days could never be answered");
        problems.add(format!("teams.{team}"), wrong);
    }
}
