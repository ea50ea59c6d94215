//! What a node says of itself, in our words and back.

use super::convert_peer::{names, nodes};
use super::status::malformed;
use super::wire;
use crate::failure::Failure;
use crate::node::status::{FlowMetrics, MemberStatus, Metrics, NodeStatus, PartitionStatus, PeerMetrics};
use crate::routing::{NodeId, Role, Team};

pub(super) fn role(name: &str) -> Result<Role, Failure> {
    [Role::Leader, Role::TeamLeader, Role::Worker]
        .into_iter()
        .find(|role| role.to_string() == name)
        .ok_or_else(|| malformed(format!("{name:?} is no role")))
}

pub(super) fn node_status_to_wire(status: NodeStatus) -> wire::NodeStatus {
    wire::NodeStatus {
        process_id: status.process_id.to_string(),
        role: status.role.to_string(),
        team: status.team.to_string(),
        state: status.state,
        waiting_for: status.waiting_for,
        rows: status.rows,
        pid: status.pid,
        incarnation: status.incarnation,
        fingerprint: status.fingerprint,
        members: status
            .members
            .into_iter()
            .map(|member| wire::MemberStatus {
                process_id: member.process_id.to_string(),
                role: member.role.to_string(),
                team: member.team.to_string(),
                address: member.address,
                state: member.state,
                rows: member.rows,
                partitions: member.partitions,
                links: names(&member.links),
                neighbors: names(&member.neighbors),
                heard_ms_ago: member.heard_ms_ago,
            })
            .collect(),
        partitions: status
            .partitions
            .into_iter()
            .map(|partition| wire::PartitionStatus {
                date: partition.date,
                partition: partition.partition,
                team: partition.team.to_string(),
                rows: partition.rows,
                csv_bytes: partition.csv_bytes,
                holders: names(&partition.holders),
                last_holders: names(&partition.last_holders),
                on_disk: names(&partition.on_disk),
                placed: names(&partition.placed),
            })
            .collect(),
        links: names(&status.links),
        unheard: names(&status.unheard),
        version: status.version,
        fingerprint_keys: status.fingerprint_keys.into_iter().collect(),
        unix_us: status.unix_us,
        data_source: status.data_source,
    }
}

pub(super) fn node_status_from_wire(status: wire::NodeStatus) -> Result<NodeStatus, Failure> {
    let members = status
        .members
        .into_iter()
        .map(|member| {
            Ok(MemberStatus {
                process_id: NodeId::from(member.process_id.as_str()),
                role: role(&member.role)?,
                team: Team::from(member.team.as_str()),
                address: member.address,
                state: member.state,
                rows: member.rows,
                partitions: member.partitions,
                links: nodes(member.links),
                neighbors: nodes(member.neighbors),
                heard_ms_ago: member.heard_ms_ago,
            })
        })
        .collect::<Result<_, Failure>>()?;
    Ok(NodeStatus {
        process_id: NodeId::from(status.process_id.as_str()),
        role: role(&status.role)?,
        team: Team::from(status.team.as_str()),
        state: status.state,
        waiting_for: status.waiting_for,
        rows: status.rows,
        pid: status.pid,
        incarnation: status.incarnation,
        fingerprint: status.fingerprint,
        version: status.version,
        fingerprint_keys: status.fingerprint_keys.into_iter().collect(),
        unix_us: status.unix_us,
        data_source: status.data_source,
        links: nodes(status.links),
        unheard: nodes(status.unheard),
        members,
        partitions: status
            .partitions
            .into_iter()
            .map(|partition| PartitionStatus {
                date: partition.date,
                partition: partition.partition,
                team: Team::from(partition.team.as_str()),
                rows: partition.rows,
                csv_bytes: partition.csv_bytes,
                holders: nodes(partition.holders),
                last_holders: nodes(partition.last_holders),
                on_disk: nodes(partition.on_disk),
                placed: nodes(partition.placed),
            })
            .collect(),
    })
}

fn flow_to_wire(flow: FlowMetrics) -> wire::FlowMetrics {
    wire::FlowMetrics {
        flow: flow.flow,
        active: flow.active,
        queued: flow.queued,
        admitted: flow.admitted,
        refused: flow.refused,
        displaced: flow.displaced,
        wait_p50_us: flow.wait_p50_us,
        wait_p99_us: flow.wait_p99_us,
        charged_us: flow.charged_us,
    }
}

fn flow_from_wire(flow: wire::FlowMetrics) -> FlowMetrics {
    FlowMetrics {
        flow: flow.flow,
        active: flow.active,
        queued: flow.queued,
        admitted: flow.admitted,
        refused: flow.refused,
        displaced: flow.displaced,
        wait_p50_us: flow.wait_p50_us,
        wait_p99_us: flow.wait_p99_us,
        charged_us: flow.charged_us,
    }
}

fn peer_to_wire(peer: PeerMetrics) -> wire::PeerMetrics {
    wire::PeerMetrics { peer: peer.peer, round_trip_us: peer.round_trip_us }
}

fn peer_from_wire(peer: wire::PeerMetrics) -> PeerMetrics {
    PeerMetrics { peer: peer.peer, round_trip_us: peer.round_trip_us }
}

pub(super) fn metrics_to_wire(metrics: Metrics) -> wire::MetricsReply {
    wire::MetricsReply {
        process_id: metrics.process_id,
        role: metrics.role,
        team: metrics.team,
        active_requests: metrics.active_requests,
        max_capacity: metrics.max_capacity,
        is_healthy: metrics.is_healthy,
        queue_size: metrics.queue_size,
        avg_processing_time_ms: metrics.avg_processing_time_ms,
        data_files_loaded: metrics.data_files_loaded,
        data_source: metrics.data_source,
        forwarding_strategy: metrics.forwarding_strategy,
        async_forwarding: metrics.async_forwarding,
        chunking_strategy: metrics.chunking_strategy,
        fairness_strategy: metrics.fairness_strategy,
        rows_held: metrics.rows_held,
        partitions_held: metrics.partitions_held,
        result_bytes: metrics.result_bytes,
        result_bytes_peak: metrics.result_bytes_peak,
        result_bytes_max: metrics.result_bytes_max,
        result_disk_bytes: metrics.result_disk_bytes,
        result_disk_bytes_peak: metrics.result_disk_bytes_peak,
        result_disk_bytes_max: metrics.result_disk_bytes_max,
        result_bytes_reserved: metrics.result_bytes_reserved,
        turns_given: metrics.turns_given,
        turns_waiting: metrics.turns_waiting,
        plan_tasks: metrics.plan_tasks,
        plan_cache_entries: metrics.plan_cache_entries,
        plan_cache_hits: metrics.plan_cache_hits,
        plan_cache_misses: metrics.plan_cache_misses,
        footer_cache_entries: metrics.footer_cache_entries,
        footer_cache_bytes: metrics.footer_cache_bytes,
        footer_cache_hits: metrics.footer_cache_hits,
        footer_cache_misses: metrics.footer_cache_misses,
        cpu_ms: metrics.cpu_ms,
        memory_bytes: metrics.memory_bytes,
        rows_per_s: metrics.rows_per_s,
        bytes_per_s: metrics.bytes_per_s,
        data_bytes_held: metrics.data_bytes_held,
        peers: metrics.peers.into_iter().map(peer_to_wire).collect(),
        results: metrics.results,
        queue_peak: metrics.queue_peak,
        queue_capacity: metrics.queue_capacity,
        active_peak: metrics.active_peak,
        queries_admitted: metrics.queries_admitted,
        queries_refused: metrics.queries_refused,
        scans_running: metrics.scans_running,
        uptime_ms: metrics.uptime_ms,
        flows: metrics.flows.into_iter().map(flow_to_wire).collect(),
        state: metrics.state,
    }
}

pub(super) fn metrics_from_wire(metrics: wire::MetricsReply) -> Metrics {
    Metrics {
        process_id: metrics.process_id,
        role: metrics.role,
        team: metrics.team,
        state: metrics.state,
        is_healthy: metrics.is_healthy,
        active_requests: metrics.active_requests,
        max_capacity: metrics.max_capacity,
        queue_size: metrics.queue_size,
        avg_processing_time_ms: metrics.avg_processing_time_ms,
        data_files_loaded: metrics.data_files_loaded,
        data_source: metrics.data_source,
        forwarding_strategy: metrics.forwarding_strategy,
        async_forwarding: metrics.async_forwarding,
        chunking_strategy: metrics.chunking_strategy,
        fairness_strategy: metrics.fairness_strategy,
        rows_held: metrics.rows_held,
        partitions_held: metrics.partitions_held,
        results: metrics.results,
        result_bytes: metrics.result_bytes,
        result_bytes_peak: metrics.result_bytes_peak,
        result_bytes_max: metrics.result_bytes_max,
        result_disk_bytes: metrics.result_disk_bytes,
        result_disk_bytes_peak: metrics.result_disk_bytes_peak,
        result_disk_bytes_max: metrics.result_disk_bytes_max,
        result_bytes_reserved: metrics.result_bytes_reserved,
        turns_given: metrics.turns_given,
        turns_waiting: metrics.turns_waiting,
        plan_tasks: metrics.plan_tasks,
        plan_cache_entries: metrics.plan_cache_entries,
        plan_cache_hits: metrics.plan_cache_hits,
        plan_cache_misses: metrics.plan_cache_misses,
        footer_cache_entries: metrics.footer_cache_entries,
        footer_cache_bytes: metrics.footer_cache_bytes,
        footer_cache_hits: metrics.footer_cache_hits,
        footer_cache_misses: metrics.footer_cache_misses,
        cpu_ms: metrics.cpu_ms,
        memory_bytes: metrics.memory_bytes,
        rows_per_s: metrics.rows_per_s,
        bytes_per_s: metrics.bytes_per_s,
        data_bytes_held: metrics.data_bytes_held,
        peers: metrics.peers.into_iter().map(peer_from_wire).collect(),
        queue_peak: metrics.queue_peak,
        queue_capacity: metrics.queue_capacity,
        active_peak: metrics.active_peak,
        queries_admitted: metrics.queries_admitted,
        queries_refused: metrics.queries_refused,
        scans_running: metrics.scans_running,
        uptime_ms: metrics.uptime_ms,
        flows: metrics.flows.into_iter().map(flow_from_wire).collect(),
    }
}
