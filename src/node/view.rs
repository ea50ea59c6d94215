//! Puts together what a node tells about itself and the overlay.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::os;
use super::queries::{Queries, state_name};
use super::status::{FlowMetrics, MemberStatus, Metrics, NodeStatus, PartitionStatus, PeerMetrics};
use crate::delivery::store::StoreCounters;
use crate::leader::admission::{AdmissionCounters, FlowCounters};
use crate::leader::fairness::Flow;
use crate::routing::NodeId;
use crate::routing::announcements::NodeState;

/// The node's view of the overlay.
pub fn node_status(queries: &Queries) -> NodeStatus {
    let membership = &queries.membership;
    let config = membership.config();
    let me = membership.me().clone();
    let manifest = membership.manifest();
    let placement = membership.placement();
    let (state, waiting_for) = membership.node_state();
    let process = config.process(&me).unwrap_or_else(|| config.leader());

    // A link counts when both ends report it, which may take longer than hearing of a node.
    let reachable = membership.with_announcements(|said| said.topology().reachable(&me));

    let members = config
        .processes
        .values()
        .map(|member| {
            let heard = membership.heard_ago(&member.id);
            let (state, holds, links) = membership.with_announcements(|said| match said.get(&member.id) {
                Some(said) if !reachable.contains(&member.id) => {
                    ("unreachable".to_owned(), said.holds.to_vec(), said.links.clone())
                }
                Some(said) => (state_name(said.state).to_owned(), said.holds.to_vec(), said.links.clone()),
                None => ("dead".to_owned(), Vec::new(), Vec::new()),
            });
            let rows = holds.iter().filter_map(|id| {
                let entry = manifest.partitions.get(&id.date).filter(|entry| entry.known.id == *id)?;
                entry.known.stats.as_ref().map(|stats| stats.rows)
            });
            MemberStatus {
                process_id: member.id.clone(),
                role: member.role,
                team: member.team.clone(),
                address: if member.id == me { queries.address.clone() } else { queries.address_of(&member.id) },
                state,
                rows: rows.sum(),
                partitions: holds.len() as u64,
                links,
                neighbors: member.neighbors.clone(),
                heard_ms_ago: heard.map_or(u64::MAX, |ago| ago.as_millis() as u64),
            }
        })
        .collect();

    let partitions = manifest
        .partitions
        .values()
        .map(|entry| {
            let id = entry.known.id;
            let holders = membership.holders(&id);
            PartitionStatus {
                date: id.date.to_string(),
                partition: id.to_string(),
                team: entry.team.clone(),
                rows: entry.known.stats.as_ref().map(|stats| stats.rows),
                csv_bytes: entry.known.csv_bytes,
                last_holders: if holders.is_empty() { membership.last_holders(&id) } else { Vec::new() },
                on_disk: membership.with_announcements(|said| {
                    let reads = |node: &NodeId| said.get(node).is_some_and(|said| said.on_disk.contains(&id));
                    holders.iter().filter(|node| reads(node)).cloned().collect()
                }),
                holders,
                placed: placement
                    .as_ref()
                    .and_then(|placement| placement.holders.get(&id).cloned())
                    .unwrap_or_default(),
            }
        })
        .collect();

    let links: Vec<NodeId> =
        membership.with_announcements(|said| said.get(&me).map(|own| own.links.clone()).unwrap_or_default());
    NodeStatus {
        role: process.role,
        team: process.team.clone(),
        state: state_name(state).to_owned(),
        waiting_for,
        rows: queries.hop.store.rows(),
        pid: std::process::id(),
        incarnation: membership.instance().incarnation,
        fingerprint: queries.fingerprint.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        fingerprint_keys: queries.fingerprint_keys.clone(),
        unix_us: unix_us(),
        data_source: data_source(queries),
        links,
        unheard: manifest.unheard.clone(),
        members,
        partitions,
        process_id: me,
    }
}

fn data_source(queries: &Queries) -> String {
    queries.data.as_ref().map(|data| data.source().to_string()).unwrap_or_default()
}

/// A clock before 1970 says 0.
fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    micros(since)
}

/// The node's figures.
pub fn metrics(
    queries: &Queries,
    admission: &AdmissionCounters,
    results: &StoreCounters,
    (admitted, refused): (u64, u64),
) -> Metrics {
    let membership = &queries.membership;
    let config = membership.config();
    let process = config.process(membership.me()).unwrap_or_else(|| config.leader());
    let (state, _) = membership.node_state();
    let held = queries.hop.store.ids();
    let (turns_given, turns_waiting) = queries.pool.load();
    let (rows_per_s, bytes_per_s) = queries.traffic().per_second((queries.clock)());
    let (pid, rows_held) = (std::process::id(), queries.hop.store.rows());
    let (plans, footers) = (queries.engine.plan_figures(), queries.hop.store.footers().figures());
    let peer = |(peer, trip): (NodeId, Duration)| PeerMetrics { peer: peer.to_string(), round_trip_us: micros(trip) };
    Metrics {
        process_id: membership.me().to_string(),
        role: process.role.to_string(),
        team: process.team.to_string(),
        state: state_name(state).to_owned(),
        is_healthy: state == NodeState::Ready,
        active_requests: (admission.active + queries.scans.load(Ordering::Relaxed)) as u32,
        max_capacity: config.limits.concurrent_max as u32,
        queue_size: admission.queued as u32,
        avg_processing_time_ms: admission.service_average.map_or(0.0, |average| average.as_secs_f64() * 1e3),
        data_files_loaded: queries.data.as_ref().map_or(0, |data| data.csv_files(&held)),
        data_source: data_source(queries),
        forwarding_strategy: config.strategies.forwarding_strategy.clone(),
        async_forwarding: config.strategies.async_forwarding,
        chunking_strategy: config.strategies.chunking_strategy.clone(),
        fairness_strategy: admission.strategy.to_owned(),
        rows_held,
        partitions_held: held.len() as u64,
        results: results.results as u32,
        result_bytes: results.bytes,
        result_bytes_peak: results.bytes_peak,
        result_bytes_max: config.limits.result_bytes_max,
        result_disk_bytes: results.disk_bytes,
        result_disk_bytes_peak: results.disk_bytes_peak,
        result_disk_bytes_max: config.limits.result_disk_bytes_max,
        result_bytes_reserved: queries.room.reserved_bytes(),
        turns_given: turns_given as u64,
        turns_waiting: turns_waiting as u64,
        plan_cache_entries: plans.entries,
        plan_cache_hits: plans.hits,
        plan_cache_misses: plans.misses,
        footer_cache_entries: footers.entries,
        footer_cache_bytes: footers.bytes,
        footer_cache_hits: footers.hits,
        footer_cache_misses: footers.misses,
        plan_tasks: queries.cpu.metrics().num_alive_tasks() as u64,
        cpu_ms: os::cpu_time(pid).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        memory_bytes: os::resident_bytes(pid),
        rows_per_s,
        bytes_per_s,
        data_bytes_held: queries.hop.store.memory_bytes(),
        queue_peak: admission.queued_peak as u32,
        queue_capacity: config.limits.queue_capacity as u32,
        active_peak: admission.active_peak as u32,
        queries_admitted: admitted,
        queries_refused: refused,
        scans_running: queries.scans.load(Ordering::Relaxed) as u64,
        uptime_ms: (queries.clock)().as_millis() as u64,
        peers: membership.round_trips().into_iter().map(peer).collect(),
        flows: admission.flows.iter().map(|(flow, counters)| flow_metrics(flow, counters)).collect(),
    }
}

/// A time in whole microseconds, as figures have it.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn flow_metrics(flow: &Flow, counters: &FlowCounters) -> FlowMetrics {
    FlowMetrics {
        flow: flow.to_string(),
        active: counters.active as u32,
        queued: counters.queued as u32,
        admitted: counters.admitted,
        refused: counters.refused,
        displaced: counters.displaced,
        wait_p50_us: counters.waits.p50.map(micros),
        wait_p99_us: counters.waits.p99.map(micros),
        charged_us: micros(counters.charged),
    }
}
