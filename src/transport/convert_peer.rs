//! Messages between neighbours, in our words and back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use overlay_ingest::partition::DAY_BYTES_MAX;
use overlay_ingest::stats::Bounds;
use overlay_ingest::{Date, PartitionId, PartitionStats};

use super::status::{malformed, micros, millis, time_left};
use super::wire;
use crate::delivery::QueryId;
use crate::engine::message::{
    BranchFailure, FailureCode, How, NodeInstance, NodeWork, Payload, ScanMessage, ScanPath, ScanRequest, ZoneAnswer,
};
use crate::failure::Failure;
use crate::routing::announcements::{Announcement, INCARNATION_MAX, Load, NodeState};
use crate::routing::assignment::Order;
use crate::routing::known::KnownPartition;
use crate::routing::path::Path;
use crate::routing::placement::Placement;
use crate::routing::{NodeId, Team};

pub(super) fn names(nodes: &[NodeId]) -> Vec<String> {
    nodes.iter().map(NodeId::to_string).collect()
}

pub(super) fn nodes(names: Vec<String>) -> Vec<NodeId> {
    names.iter().map(|name| NodeId::from(name.as_str())).collect()
}

fn partition_ref(id: &PartitionId) -> wire::PartitionRef {
    wire::PartitionRef { day: id.date.days(), digest: id.digest.to_be_bytes().to_vec() }
}

fn partition_id(partition: Option<wire::PartitionRef>) -> Result<PartitionId, Failure> {
    let partition = partition.ok_or_else(|| malformed("a partition is not named"))?;
    let date = Date::of_unix_seconds(i64::from(partition.day) * 86_400)
        .ok_or_else(|| malformed(format!("day {} of a partition is beyond the calendar", partition.day)))?;
    let digest: [u8; 16] = partition
        .digest
        .try_into()
        .map_err(|digest: Vec<u8>| malformed(format!("a partition's digest has {} bytes, not 16", digest.len())))?;
    Ok(PartitionId { date, digest: u128::from_be_bytes(digest) })
}

fn partition_ids(partitions: Vec<wire::PartitionRef>) -> Result<Vec<PartitionId>, Failure> {
    partitions.into_iter().map(|partition| partition_id(Some(partition))).collect()
}

// --- scans ---

pub(super) fn scan_request_to_wire(request: ScanRequest) -> wire::ScanRequest {
    wire::ScanRequest {
        query_id: request.query.0.to_be_bytes().to_vec(),
        attempt: request.attempt,
        leaf: request.leaf,
        team: request.team.map(|team| team.to_string()).unwrap_or_default(),
        weight: request.weight,
        client: request.client,
        time_left_ms: millis(request.time_left),
        hops: names(&request.hops),
        leader: request.leader.id.to_string(),
        leader_incarnation: request.leader.incarnation,
        orders: request
            .orders
            .iter()
            .map(|order| wire::ScanOrder {
                path: names(order.path.nodes()),
                partitions: order.partitions.iter().map(partition_ref).collect(),
            })
            .collect(),
        zones: request
            .zones
            .iter()
            .map(|(id, zones)| wire::ZoneList { partition: Some(partition_ref(id)), zones: zones.clone() })
            .collect(),
        in_flight: u32::try_from(request.in_flight).unwrap_or(u32::MAX),
        projection: request.projection.iter().map(|column| *column as u32).collect(),
        predicate: request.predicate,
        limit: request.limit,
        scan_path: position(&PATHS, &request.scan_path),
    }
}

pub(super) fn scan_request_from_wire(request: wire::ScanRequest) -> Result<ScanRequest, Failure> {
    let query: [u8; 16] = request
        .query_id
        .try_into()
        .map_err(|id: Vec<u8>| malformed(format!("a query id has {} bytes, not 16", id.len())))?;
    let orders = request
        .orders
        .into_iter()
        .map(|order| {
            let path = Path::try_from(nodes(order.path)).map_err(|error| malformed(error.to_string()))?;
            Ok(Order { path, partitions: partition_ids(order.partitions)? })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let zones = request
        .zones
        .into_iter()
        .map(|list| Ok((partition_id(list.partition)?, list.zones)))
        .collect::<Result<BTreeMap<_, _>, Failure>>()?;
    Ok(ScanRequest {
        query: QueryId(u128::from_be_bytes(query)),
        attempt: request.attempt,
        leaf: request.leaf,
        team: (!request.team.is_empty()).then(|| Team::from(request.team.as_str())),
        weight: request.weight,
        client: request.client,
        time_left: time_left(request.time_left_ms),
        hops: nodes(request.hops),
        leader: NodeInstance { id: NodeId::from(request.leader.as_str()), incarnation: request.leader_incarnation },
        orders,
        zones,
        in_flight: request.in_flight as usize,
        projection: request.projection.iter().map(|column| *column as usize).collect(),
        predicate: request.predicate,
        limit: request.limit,
        scan_path: *PATHS.get(request.scan_path as usize).ok_or_else(|| malformed("an unknown way to scan"))?,
    })
}

const PATHS: [ScanPath; 3] = [ScanPath::Any, ScanPath::NoIndex, ScanPath::Reference];

const HOW: [How; 3] = [How::Scanned, How::Index, How::ZoneMap];

const CODES: [FailureCode; 6] = [
    FailureCode::Unavailable,
    FailureCode::FailedPrecondition,
    FailureCode::DeadlineExceeded,
    FailureCode::DataLoss,
    FailureCode::ResourceExhausted,
    FailureCode::Internal,
];

fn position<T: PartialEq>(table: &[T], value: &T) -> u32 {
    table.iter().position(|entry| entry == value).map_or(u32::MAX, |position| position as u32)
}

pub(super) fn scan_message_to_wire(message: ScanMessage) -> wire::ScanReply {
    use wire::scan_reply::Message;
    let message = match message {
        ScanMessage::Zones(answers) => {
            Message::Zones(wire::ZoneAnswers { answers: answers.into_iter().map(zone_to_wire).collect() })
        }
        ScanMessage::Failed(failure) => Message::Failed(wire::BranchFailure {
            node: failure.node.to_string(),
            route: names(&failure.route),
            code: position(&CODES, &failure.code),
            message: failure.message,
            partitions: failure.partitions.iter().map(partition_ref).collect(),
            load: failure.load.map(load_to_wire),
        }),
        ScanMessage::Done { work, skipped, load } => Message::Done(wire::ScanDone {
            node: work.node.to_string(),
            route: names(&work.route),
            cpu_us: micros(work.cpu),
            rows_scanned: work.rows_scanned,
            bytes_scanned: work.bytes_scanned,
            bytes_sent: work.bytes_sent,
            skipped: skipped.iter().map(partition_ref).collect(),
            load: load.map(load_to_wire),
        }),
    };
    wire::ScanReply { message: Some(message) }
}

pub(super) fn scan_message_from_wire(reply: wire::ScanReply) -> Result<ScanMessage, Failure> {
    use wire::scan_reply::Message;
    Ok(match reply.message.ok_or_else(|| malformed("a scan's reply is empty"))? {
        Message::Zones(zones) => {
            ScanMessage::Zones(zones.answers.into_iter().map(zone_from_wire).collect::<Result<_, _>>()?)
        }
        Message::Failed(failure) => ScanMessage::Failed(BranchFailure {
            node: NodeId::from(failure.node.as_str()),
            route: nodes(failure.route),
            code: CODES.get(failure.code as usize).copied().unwrap_or(FailureCode::Internal),
            message: failure.message,
            partitions: partition_ids(failure.partitions)?,
            load: failure.load.map(load_from_wire).transpose()?,
        }),
        Message::Done(done) => ScanMessage::Done {
            work: NodeWork {
                node: NodeId::from(done.node.as_str()),
                route: nodes(done.route),
                cpu: Duration::from_micros(done.cpu_us),
                rows_scanned: done.rows_scanned,
                bytes_scanned: done.bytes_scanned,
                bytes_sent: done.bytes_sent,
            },
            skipped: partition_ids(done.skipped)?,
            load: done.load.map(load_from_wire).transpose()?,
        },
    })
}

fn zone_to_wire(answer: ZoneAnswer) -> wire::ZoneAnswer {
    let (checksum, block, answers) = match answer.payload {
        Payload::Packed { bytes, xxh3, answers } => (xxh3, bytes, answers),
        // Only a reader in this process asks for these, and it does not come through here.
        Payload::None | Payload::Batch(_) | Payload::Block { .. } => (0, Bytes::new(), 1),
    };
    wire::ZoneAnswer {
        asked: Some(partition_ref(&answer.asked)),
        partition: Some(partition_ref(&answer.partition)),
        zone: answer.zone,
        zone_count: answer.zone_count,
        part: answer.part,
        last: answer.last,
        rows: answer.rows,
        rows_scanned: answer.rows_scanned,
        bytes_scanned: answer.bytes_scanned,
        cpu_ns: u64::try_from(answer.cpu.as_nanos()).unwrap_or(u64::MAX),
        how: position(&HOW, &answer.how),
        cut: answer.cut,
        node: answer.node.to_string(),
        checksum,
        block,
        sharing: answers.saturating_sub(1),
    }
}

fn zone_from_wire(answer: wire::ZoneAnswer) -> Result<ZoneAnswer, Failure> {
    Ok(ZoneAnswer {
        asked: partition_id(answer.asked)?,
        partition: partition_id(answer.partition)?,
        zone: answer.zone,
        zone_count: answer.zone_count,
        part: answer.part,
        last: answer.last,
        rows: answer.rows,
        rows_scanned: answer.rows_scanned,
        bytes_scanned: answer.bytes_scanned,
        cpu: Duration::from_nanos(answer.cpu_ns),
        how: *HOW.get(answer.how as usize).ok_or_else(|| malformed(format!("{} is no way to scan", answer.how)))?,
        cut: answer.cut,
        node: NodeId::from(answer.node.as_str()),
        payload: match answer.block.is_empty() {
            true => Payload::None,
            false => {
                let answers = answer.sharing.saturating_add(1);
                Payload::Packed { bytes: answer.block, xxh3: answer.checksum, answers }
            }
        },
    })
}

// --- announcements ---

const STATES: [NodeState; 4] = [NodeState::Waiting, NodeState::Loading, NodeState::Ready, NodeState::Draining];

pub(super) fn announcement_to_wire(announcement: &Announcement) -> wire::Announcement {
    wire::Announcement {
        origin: announcement.origin.to_string(),
        incarnation: announcement.incarnation,
        sequence: announcement.sequence,
        state: position(&STATES, &announcement.state),
        links: names(&announcement.links),
        known_digest: announcement.known_digest,
        known: announcement.known.as_ref().map(|known| wire::KnownPartitions {
            partitions: known
                .iter()
                .map(|known| wire::KnownPartition {
                    partition: Some(partition_ref(&known.id)),
                    csv_bytes: known.csv_bytes,
                    stats: known.stats.as_ref().map(stats_to_wire),
                })
                .collect(),
        }),
        holds: announcement.holds.iter().map(partition_ref).collect(),
        on_disk: announcement.on_disk.iter().map(partition_ref).collect(),
        load: Some(load_to_wire(announcement.load)),
        placement: announcement.placement.as_ref().map(|placement| placement_to_wire(placement)),
    }
}

pub(super) fn load_to_wire(load: Load) -> wire::Load {
    let Load { active, queued, capacity, service_ms } = load;
    wire::Load { active, queued, capacity, service_ms }
}

pub(super) fn load_from_wire(load: wire::Load) -> Result<Load, Failure> {
    let wire::Load { active, queued, capacity, service_ms } = load;
    if !(service_ms.is_finite() && service_ms >= 0.0) {
        return Err(malformed(format!("{service_ms} ms is no time that work takes")));
    }
    Ok(Load { active, queued, capacity, service_ms })
}

/// The number of a node's start, as far as anybody can count on from it.
pub(super) fn incarnation(number: u64, node: &str) -> Result<u64, Failure> {
    if number > INCARNATION_MAX {
        let node: String = node.chars().take(64).collect();
        return Err(malformed(format!("{node:?} cannot have started {number} times")));
    }
    Ok(number)
}

pub(super) fn announcement_from_wire(announcement: wire::Announcement) -> Result<Announcement, Failure> {
    let incarnation = incarnation(announcement.incarnation, &announcement.origin)?;
    let state = STATES.get(announcement.state as usize);
    let load = load_from_wire(announcement.load.unwrap_or_default())?;
    let known = match announcement.known {
        None => None,
        Some(known) => Some(Arc::new(
            known
                .partitions
                .into_iter()
                .map(|known| {
                    Ok(KnownPartition {
                        id: partition_id(known.partition)?,
                        csv_bytes: within_a_day(known.csv_bytes, "bytes of CSV")?,
                        stats: known.stats.map(stats_from_wire).transpose()?,
                    })
                })
                .collect::<Result<Vec<_>, Failure>>()?,
        )),
    };
    Ok(Announcement {
        origin: NodeId::from(announcement.origin.as_str()),
        incarnation,
        sequence: announcement.sequence,
        state: *state.ok_or_else(|| malformed(format!("{} is no state of a node", announcement.state)))?,
        links: nodes(announcement.links),
        known_digest: announcement.known_digest,
        known,
        holds: Arc::new(partition_ids(announcement.holds)?),
        on_disk: Arc::new(partition_ids(announcement.on_disk)?),
        load,
        placement: announcement.placement.map(placement_from_wire).transpose()?.map(Arc::new),
    })
}

fn placement_to_wire(placement: &Placement) -> wire::Placement {
    let placed = placement
        .holders
        .iter()
        .map(|(id, holders)| wire::PlacedPartition { partition: Some(partition_ref(id)), holders: names(holders) });
    let homeless = placement
        .homeless
        .iter()
        .map(|id| wire::PlacedPartition { partition: Some(partition_ref(id)), holders: Vec::new() });
    wire::Placement {
        leader: placement.leader.to_string(),
        incarnation: placement.incarnation,
        version: placement.version,
        partitions: placed.chain(homeless).collect(),
    }
}

fn placement_from_wire(placement: wire::Placement) -> Result<Placement, Failure> {
    let mut holders = BTreeMap::new();
    let mut homeless = Vec::new();
    for placed in placement.partitions {
        let id = partition_id(placed.partition)?;
        if placed.holders.is_empty() {
            homeless.push(id);
        } else {
            holders.insert(id, nodes(placed.holders));
        }
    }
    Ok(Placement {
        leader: NodeId::from(placement.leader.as_str()),
        incarnation: placement.incarnation,
        version: placement.version,
        holders,
        homeless,
    })
}

fn stats_to_wire(stats: &PartitionStats) -> wire::Stats {
    let floats = |bounds: Option<Bounds<f64>>| bounds.map(|Bounds { min, max }| wire::FloatBounds { min, max });
    let integers = |bounds: Option<Bounds<i64>>| bounds.map(|Bounds { min, max }| wire::IntBounds { min, max });
    wire::Stats {
        rows: stats.rows,
        parameters: stats.parameters.as_ref().map(|names| wire::Names { names: names.to_vec() }),
        utc: integers(stats.utc),
        latitude: floats(stats.latitude),
        longitude: floats(stats.longitude),
        concentration: floats(stats.concentration),
        raw_concentration: floats(stats.raw_concentration),
        aqi: integers(stats.aqi),
        category: integers(stats.category),
    }
}

/// Rows and bytes of one partition have the bounds of a day, so that sums over all of them cannot overflow.
fn within_a_day(number: u64, what: &str) -> Result<u64, Failure> {
    if number > DAY_BYTES_MAX {
        return Err(malformed(format!("a partition cannot have {number} {what}; a day has at most {DAY_BYTES_MAX}")));
    }
    Ok(number)
}

/// Pruning believes statistics: bounds that are none are refused.
fn stats_from_wire(stats: wire::Stats) -> Result<PartitionStats, Failure> {
    let no_bounds = |min: &dyn std::fmt::Display, max: &dyn std::fmt::Display| {
        malformed(format!("the statistics of a partition go from {min} to {max}"))
    };
    let floats = |bounds: Option<wire::FloatBounds>| match bounds {
        Some(wire::FloatBounds { min, max }) if min <= max => Ok(Some(Bounds { min, max })),
        Some(bounds) => Err(no_bounds(&bounds.min, &bounds.max)),
        None => Ok(None),
    };
    let integers = |bounds: Option<wire::IntBounds>| match bounds {
        Some(wire::IntBounds { min, max }) if min <= max => Ok(Some(Bounds { min, max })),
        Some(bounds) => Err(no_bounds(&bounds.min, &bounds.max)),
        None => Ok(None),
    };
    Ok(PartitionStats {
        rows: within_a_day(stats.rows, "rows")?,
        parameters: stats.parameters.map(|names| names.names.into()),
        utc: integers(stats.utc)?,
        latitude: floats(stats.latitude)?,
        longitude: floats(stats.longitude)?,
        concentration: floats(stats.concentration)?,
        raw_concentration: floats(stats.raw_concentration)?,
        aqi: integers(stats.aqi)?,
        category: integers(stats.category)?,
    })
}
