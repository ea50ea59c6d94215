//! The data set and the cache of this host, for the teams of the nodes that run here.

use overlay_ingest::{Cache, Date, DateRange, Error};
use rayon::prelude::*;

use super::finding::Finding;
use super::holes::few;
use crate::cli::table::{bytes, grouped};
use crate::config::Config;
use crate::node::{DataSource, LocalDates};
use crate::routing::{self, NodeId, Team};

/// Bytes of the cache that are read to compare them with their digests; of a larger one only lengths are compared.
const VERIFY_BYTES_MAX: u64 = 2 << 30;

/// One finding or more for each team that has a node here which holds data.
pub fn data(config: &Config, local: &[NodeId], flag: &str) -> Vec<Finding> {
    let members = |team: &Team| -> Vec<NodeId> {
        config.data_members(team).into_iter().filter(|id| local.contains(id)).collect()
    };
    let ranges = config.team_ranges();
    let teams = ranges.iter().map(|(team, range)| (team, *range, members(team)));
    let here = teams.filter(|(_, _, members)| !members.is_empty());
    here.flat_map(|(team, range, members)| of_team(config, team, range, &members, flag)).collect()
}

fn of_team(config: &Config, team: &Team, range: DateRange, members: &[NodeId], flag: &str) -> Vec<Finding> {
    let ids = routing::names(members, " ");
    let ingest = format!("overlay-ingest {}{flag}", config.dataset.root.display());
    let dates = match LocalDates::look(&config.dataset, range) {
        Ok(dates) => dates,
        Err(error) => return vec![unusable(team, &ids, &error, &ingest)],
    };
    if dates.dates.is_empty() {
        let text = format!("{team}: none of its days is on this host, so {ids} will hold nothing");
        let hint = format!("put days of {} to {} into {}/data", range.from, range.to, config.dataset.root.display());
        return vec![Finding::warning(text, hint)];
    }
    let days = range.to.days() - range.from.days() + 1;
    let mut text = format!("{team} ({ids}): {} of {days} days are on this host", dates.dates.len());
    if let (Some(first), Some(last)) = (dates.dates.first(), dates.dates.last()) {
        text.push_str(&format!(", {first} to {last}"));
    }
    let every = std::iter::successors(Some(range.from), |date| Some(date.next())).take_while(|date| *date <= range.to);
    let missing = every.filter(|date| dates.dates.binary_search(date).is_err());
    let missing: Vec<Date> = missing.collect();
    if !missing.is_empty() {
        text.push_str(&format!("; not {}", few(&missing)));
    }
    if let Some(rows) = dates.rows {
        text.push_str(&format!("; {} rows", grouped(rows)));
    }
    let mut findings = vec![match dates.source {
        DataSource::Cache => Finding::ok(format!("{text}; the cache {} is fresh", config.dataset.cache.display())),
        DataSource::CacheAlone => Finding::ok(format!(
            "{text}; from the cache {} alone, as there are no CSV files of them here",
            config.dataset.cache.display()
        )),
        DataSource::Csv => {
            let text = format!("{text}; no cache: every start parses {} of CSV", bytes(dates.csv_bytes));
            Finding::warning(text, ingest.clone())
        }
    }];
    if dates.source != DataSource::Csv {
        findings.extend(damage(config, team, range, &ingest));
    }
    findings.push(memory(config, team, &dates));
    findings
}

fn unusable(team: &Team, ids: &str, error: &Error, ingest: &str) -> Finding {
    let hint = match error {
        Error::StaleCache { .. } | Error::NoCache(_) => ingest.to_owned(),
        Error::OtherLayout { .. } | Error::BadManifest { .. } | Error::CorruptPartition { .. } => {
            format!("{ingest} --force")
        }
        other => other.hint().unwrap_or("look at the folder's rights and links").to_owned(),
    };
    Finding::problem(format!("{team}: {ids} will not start: {error}"), hint)
}

/// Whether the cache's files are those that were committed; nothing to say if they are.
fn damage(config: &Config, team: &Team, range: DateRange, ingest: &str) -> Vec<Finding> {
    let cache = match Cache::open(&config.dataset.cache) {
        Ok(cache) => cache,
        Err(error) => return vec![Finding::problem(format!("{team}: {error}"), ingest)],
    };
    let entries: Vec<_> = cache.manifest().partitions(range).collect();
    let size: u64 = entries.iter().map(|entry| entry.file_bytes).sum();
    if size > VERIFY_BYTES_MAX {
        return vec![Finding::ok(format!("{team}: {} of Parquet were not read to be verified", bytes(size)))];
    }
    let damaged: Vec<(String, Error)> =
        entries.par_iter().filter_map(|entry| Some((entry.id.date.to_string(), cache.verify(entry).err()?))).collect();
    let Some((_, first)) = damaged.first() else {
        return vec![Finding::ok(format!("{team}: {} of Parquet were read; every digest is right", bytes(size)))];
    };
    let dates: Vec<&str> = damaged.iter().map(|(date, _)| date.as_str()).collect();
    let text = format!("{team}: the cache is damaged at {}: {first}", few(&dates));
    vec![Finding::problem(text, format!("{ingest} --force"))]
}

/// Placement shares a team's days among its members; one of them may be alone with all.
fn memory(config: &Config, team: &Team, dates: &LocalDates) -> Finding {
    let max = config.limits.data_bytes_max;
    let members = config.data_members(team).len().max(1) as u64;
    let text = format!(
        "{team}: about {} of memory for its days here, shared by {members}; data_bytes_max is {} a node",
        bytes(dates.memory_bytes),
        bytes(max)
    );
    let hint = "raise limits.data_bytes_max, or let more nodes hold the team's dates";
    let reads = dates.source != DataSource::Csv;
    match dates.memory_bytes {
        all if all <= max => Finding::ok(text),
        all if all / members <= max => Finding::warning(format!("{text}: too little for one alone"), hint),
        _ if reads => Finding::warning(format!("{text}: the rest is read from disk by every scan"), hint),
        _ => Finding::problem(format!("{text}: too little"), hint),
    }
}
