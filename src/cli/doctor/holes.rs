//! What the Leader misses: members that never announced, and days that nobody alive holds.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::finding::Finding;
use super::nodes::hears;
use super::probe::Probe;
use crate::cli::table::grouped;
use crate::config::Config;
use crate::node::log;
use crate::node::status::PartitionStatus;
use crate::routing::{self, NodeId};

/// What the Leader still misses.
pub fn holes(config: &Config, probes: &[Probe], flag: &str) -> Vec<Finding> {
    let leader = &config.leader().id;
    let Some(status) = probes.iter().find(|probe| probe.id == *leader).and_then(Probe::status) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    if !status.unheard.is_empty() {
        let verb = if status.unheard.len() == 1 { "has" } else { "have" };
        let text = format!(
            "{} {verb} never announced: nobody knows their days, so queries on those of their teams fail",
            routing::names(&status.unheard, " ")
        );
        let hosts = status.unheard.iter().filter_map(|id| config.process(id)).map(|process| process.host.as_str());
        let hosts = hosts.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" and ");
        findings.push(Finding::warning(text, format!("type it on {hosts}: overlay{flag} up")));
    }
    // A node that is out of reach, or gone, counts as a holder for some seconds yet.
    let is_alive = |holder: &NodeId| {
        let probe = probes.iter().find(|probe| probe.id == *holder);
        hears(status, holder) && !probe.is_some_and(Probe::is_gone)
    };
    let is_hole = |one: &&PartitionStatus| !one.holders.iter().any(is_alive);
    let holes: Vec<&PartitionStatus> = status.partitions.iter().filter(is_hole).collect();
    if !holes.is_empty() {
        let dates: Vec<&str> = holes.iter().map(|hole| hole.date.as_str()).collect();
        let last = holes.iter().flat_map(|hole| hole.holders.iter().chain(&hole.last_holders));
        let last = routing::names(last.collect::<BTreeSet<_>>(), " ");
        let held = if last.is_empty() { String::new() } else { format!("; last held by {last}") };
        let (count, all) = (holes.len(), status.partitions.len());
        let text = format!("nobody alive holds {count} of {all} days: {}{held}", few(&dates));
        findings.push(Finding::problem(
            text,
            format!("start who held them; see `overlay{flag} status` and {}/", log::LOG_DIR),
        ));
    } else if !status.partitions.is_empty() {
        let rows: u64 = status.partitions.iter().filter_map(|one| one.rows).sum();
        let text = format!("{leader} knows {} days, {} rows; all are held", status.partitions.len(), grouped(rows));
        findings.push(Finding::ok(text));
    }
    findings
}

/// The first few of a list.
pub fn few<T: Display>(things: &[T]) -> String {
    const SHOWN: usize = 6;
    let more = things.len().saturating_sub(SHOWN);
    let shown = things.iter().take(SHOWN).map(T::to_string).collect::<Vec<_>>().join(" ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_shortened() {
        assert_eq!(few(&["a", "b"]), "a b");
        assert_eq!(few(&["a"; 9]), "a a a a a a and 3 more");
    }
}
