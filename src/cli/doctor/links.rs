//! Whether links are live in both directions. Each end dials the other, so each direction can fail on its own: a firewall,
//! or a wrong address in one host's file.

use super::finding::Finding;
use super::nodes::hears;
use super::probe::Probe;
use crate::config::Config;
use crate::routing::NodeId;

/// Whether each link is live in both directions: each end dials the other.
pub fn links(config: &Config, probes: &[Probe]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut both, mut unknown) = (Vec::new(), Vec::new());
    for link in config.links().links() {
        let (a, b) = link.ends();
        match (reaches(probes, a, b), reaches(probes, b, a)) {
            (Some(true), Some(true)) => both.push(format!("{a}–{b}")),
            (Some(true), Some(false)) => findings.push(one_way(config, a, b)),
            (Some(false), Some(true)) => findings.push(one_way(config, b, a)),
            (Some(false), Some(false)) => {
                let text = format!("{a} and {b} both run, and neither reaches the other");
                findings.push(Finding::problem(text, format!("see `overlay logs {a}` and `overlay logs {b}`")));
            }
            _ => unknown.push(format!("{a}–{b}")),
        }
    }
    if !both.is_empty() {
        findings.insert(0, Finding::ok(format!("live both ways: {}", both.join(" "))));
    }
    if !unknown.is_empty() && unknown.len() < config.links().links().count() {
        // What does not run has its own finding.
        findings.push(Finding::ok(format!("not to be seen, an end does not run: {}", unknown.join(" "))));
    }
    findings
}

fn one_way(config: &Config, from: &NodeId, to: &NodeId) -> Finding {
    let text = format!("one way only: {from} reaches {to}, but {to} does not reach {from}");
    let at = config.process(from).map(|process| format!("TCP port {} on {}", process.port, process.host));
    let hint = format!("let {to} in at {}; why it fails: overlay logs {to}", at.unwrap_or_default());
    Finding::problem(text, hint)
}

/// Whether a node reaches a neighbour, in its own words or as it announced to others; `None` if it is not heard.
fn reaches(probes: &[Probe], from: &NodeId, to: &NodeId) -> Option<bool> {
    let own = probes.iter().find(|probe| probe.id == *from).and_then(Probe::status);
    if let Some(own) = own {
        return Some(own.links.contains(to));
    }
    let others = probes.iter().filter_map(Probe::status).filter(|status| hears(status, from));
    let said = others.flat_map(|status| &status.members).find(|member| member.process_id == *from);
    said.map(|member| member.links.contains(to))
}
