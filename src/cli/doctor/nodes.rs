//! Who answers, as whom, with which version and configuration; who does not, and what that may mean.

use std::collections::BTreeMap;

use super::clocks::shown;
use super::finding::Finding;
use super::probe::{Clock, Probe, Seen};
use crate::cli::table::grouped;
use crate::cli::target::Target;
use crate::node::fingerprint;
use crate::node::status::NodeStatus;
use crate::routing::{self, NodeId};

/// Who answers, as whom, and with which configuration and version; then, host by host, who does not.
pub fn nodes(target: &Target, probes: &[Probe], flag: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = probes.iter().filter_map(|probe| node(target, probe)).collect();
    // What is free or taken on this host stands under ports.
    let mut absent: BTreeMap<(&str, Option<&str>), Vec<&Probe>> = BTreeMap::new();
    for probe in probes.iter().filter(|probe| !probe.local) {
        match &probe.seen {
            Seen::Refused => absent.entry((&probe.host, None)).or_default().push(probe),
            Seen::Silent(why) => absent.entry((&probe.host, Some(why))).or_default().push(probe),
            _ => {}
        }
    }
    for ((host, why), those) in absent {
        let ids = routing::names(those.iter().map(|probe| &probe.id), " ");
        let ports = those.iter().filter_map(|probe| probe.address.as_deref()?.rsplit(':').next());
        let ports = ports.collect::<Vec<_>>().join(" ");
        findings.push(match why {
            None => {
                let verb = if those.len() == 1 { "does" } else { "do" };
                let text = format!("{ids} {verb} not run: {host} is there, and nothing listens at TCP {ports}");
                Finding::warning(text, format!("type it on {host}: overlay{flag} up"))
            }
            Some(why) => {
                let heard = those.iter().filter(|probe| is_heard(probes, &probe.id)).map(|probe| &probe.id);
                let heard = match routing::names(heard, " ") {
                    none if none.is_empty() => none,
                    heard => format!("; yet nodes that answer hear {heard}"),
                };
                let text = format!("{ids} on {host}: {why}{heard}");
                Finding::problem(text, format!("is {host} up, and TCP {ports} open from here? try: ping {host}"))
            }
        });
    }
    findings
}

fn is_heard(probes: &[Probe], id: &NodeId) -> bool {
    probes.iter().filter_map(Probe::status).any(|status| hears(status, id))
}

/// A node that answers, or cannot be asked.
fn node(target: &Target, probe: &Probe) -> Option<Finding> {
    let (id, host) = (&probe.id, &probe.host);
    let address = probe.address.as_deref().unwrap_or_default();
    match &probe.seen {
        Seen::Answers { status, .. } if status.process_id != *id => {
            let text = format!("{id}: at {address} it is {} that answers", status.process_id);
            Some(Finding::problem(text, "give every host the same configuration file, then restart its nodes"))
        }
        Seen::Answers { status, clock } => {
            let place = if probe.local { "here".to_owned() } else { format!("on {host}") };
            Some(answers(target, probe, status, clock, &place))
        }
        Seen::Nowhere if !probe.local => {
            let hint = format!("give processes.{id} a port in the configuration: port 0 is found by its own host only");
            Some(Finding::problem(format!("{id} on {host} has port 0"), hint))
        }
        Seen::Strange(why) if !probe.local => {
            let hint = format!("what listens there? look on {host}, or change processes.{id}.port");
            Some(Finding::problem(format!("{id}: what answers at {address} is no node: {why}"), hint))
        }
        _ => None,
    }
}

/// Whether a node hears another one, directly or through others.
pub fn hears(status: &NodeStatus, id: &NodeId) -> bool {
    let is_heard = |state: &str| !matches!(state, "dead" | "unreachable");
    status.members.iter().any(|member| member.process_id == *id && is_heard(&member.state))
}

fn answers(target: &Target, probe: &Probe, status: &NodeStatus, clock: &Clock, place: &str) -> Finding {
    let id = &probe.id;
    let ours = fingerprint(&target.config);
    let keys = ours.keys();
    let all = keys.keys().chain(status.fingerprint_keys.keys());
    let mut differs: Vec<&str> =
        all.filter(|key| keys.get(*key) != status.fingerprint_keys.get(*key)).map(String::as_str).collect();
    differs.sort_unstable();
    differs.dedup();
    if !differs.is_empty() {
        let is_program = differs.iter().any(|key| matches!(*key, "protocol" | "layout" | "schema"));
        let hint = match is_program {
            true => "install the same version of overlay on every host".to_owned(),
            false => format!("end {id}, give every host the same file, start it again: these keys must agree"),
        };
        let text =
            format!("{id} {place} has another configuration (version {}): {}", status.version, differs.join(", "));
        return Finding::problem(text, hint);
    }
    if status.state == "waiting" || !status.waiting_for.is_empty() {
        let text = format!("{id} {place} is {}, for {}", status.state, status.waiting_for);
        return Finding::warning(text, format!("start what it waits for; see `overlay logs {id}`"));
    }
    let mine = env!("CARGO_PKG_VERSION");
    if status.version != mine {
        let text = format!("{id} {place} has version {}, this program {mine}", status.version);
        return Finding::warning(text, "install the same version of overlay on every host");
    }
    let source = match status.data_source.as_str() {
        "" => "no data of its own".to_owned(),
        source => format!("{} rows from {source}", grouped(status.rows)),
    };
    Finding::ok(format!(
        "{id} {place} is {}: {source}; answers in {}; version {mine}, same configuration",
        status.state,
        shown(clock.round_trip)
    ))
}
