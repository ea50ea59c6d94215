//! Queries and answers, in our words and back.

use std::time::Duration;

use overlay_ingest::{Date, DateRange};

use super::chunk_batch::ChunkBatch;
use super::convert_peer::{names, nodes};
use super::status::{malformed, micros, millis, time_left};
use super::wire;
use crate::delivery::QueryId;
use crate::delivery::encoding::{ChunkMeta, ENCODINGS};
use crate::engine::filter::{BoundingBox, RangeFilter};
use crate::engine::message::NodeWork;
use crate::engine::session::Ask;
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::{
    ChunkMessage, CoverageSummary, Footer, MissingPartition, QuerySpec, QueryState, QueryStatus, Submitted,
};
use crate::routing::{Link, NodeId, Team};

pub(super) fn query_id(uid: &str) -> Result<QueryId, Failure> {
    uid.parse().map_err(|_| {
        let shown: String = uid.chars().take(40).collect();
        Failure::new(FailureKind::InvalidArgument, "BAD_UID", format!("{shown:?} is not a query's uid"))
    })
}

pub(super) fn state(name: &str) -> Result<QueryState, Failure> {
    QueryState::by_name(name).ok_or_else(|| malformed(format!("{name:?} is no state of a query")))
}

fn encoding_to_wire(name: &str) -> wire::Encoding {
    match name {
        "json" => wire::Encoding::Json,
        "packed" => wire::Encoding::Packed,
        _ => wire::Encoding::ArrowIpc,
    }
}

fn encoding_from_wire(encoding: i32) -> Result<&'static str, Failure> {
    let name = match wire::Encoding::try_from(encoding) {
        Ok(wire::Encoding::ArrowIpc) => "arrow_ipc",
        Ok(wire::Encoding::Json) => "json",
        Ok(wire::Encoding::Packed) => "packed",
        Err(_) => return Err(malformed(format!("{encoding} is no encoding"))),
    };
    let line = ENCODINGS.iter().find(|line| line.name == name);
    line.map(|line| line.name).ok_or_else(|| malformed(format!("the encoding {name} is not available")))
}

pub(super) fn spec_to_wire(spec: QuerySpec, client_id: &str) -> wire::QueryRequest {
    let ask = match spec.ask {
        Ask::Sql(sql) => wire::query_request::Ask::Sql(sql),
        Ask::Range(filter) => wire::query_request::Ask::Range(wire::RangeQuery {
            parameter: filter.parameter,
            min_value: filter.min,
            max_value: filter.max,
            date_start: filter.dates.map(|dates| dates.from.to_string()),
            date_end: filter.dates.map(|dates| dates.to.to_string()),
            lat_min: filter.bbox.map(|bbox| bbox.south),
            lat_max: filter.bbox.map(|bbox| bbox.north),
            lon_min: filter.bbox.map(|bbox| bbox.west),
            lon_max: filter.bbox.map(|bbox| bbox.east),
            columns: filter.columns,
        }),
    };
    wire::QueryRequest {
        ask: Some(ask),
        team: spec.team.map(|team| team.to_string()).unwrap_or_default(),
        encoding: encoding_to_wire(spec.encoding).into(),
        time_left_ms: spec.time_left.map(millis).unwrap_or(0),
        allow_partial: spec.allow_partial,
        limit: spec.limit,
        cancel_on_disconnect: spec.cancel_on_disconnect,
        wait: spec.wait,
        client_id: client_id.to_owned(),
    }
}

pub(super) fn spec_from_wire(request: wire::QueryRequest) -> Result<QuerySpec, Failure> {
    let ask = match request.ask.ok_or_else(|| malformed("the query asks nothing: set range or sql"))? {
        wire::query_request::Ask::Sql(sql) => Ask::Sql(sql),
        wire::query_request::Ask::Range(range) => Ask::Range(filter_from_wire(range)?),
    };
    Ok(QuerySpec {
        ask,
        team: (!request.team.is_empty()).then(|| Team::from(request.team.as_str())),
        encoding: encoding_from_wire(request.encoding)?,
        time_left: (request.time_left_ms > 0).then(|| time_left(request.time_left_ms)),
        allow_partial: request.allow_partial,
        limit: request.limit,
        cancel_on_disconnect: request.cancel_on_disconnect,
        wait: request.wait,
    })
}

fn filter_from_wire(range: wire::RangeQuery) -> Result<RangeFilter, Failure> {
    let date = |text: Option<String>| -> Result<Option<Date>, Failure> {
        text.map(|text| text.parse::<Date>().map_err(|error| malformed(error.to_string()))).transpose()
    };
    let (from, to) = (date(range.date_start)?, date(range.date_end)?);
    let dates = (from.is_some() || to.is_some())
        .then(|| DateRange { from: from.unwrap_or(DateRange::ALL.from), to: to.unwrap_or(DateRange::ALL.to) });
    let bbox = match (range.lat_min, range.lon_min, range.lat_max, range.lon_max) {
        (None, None, None, None) => None,
        (south, west, north, east) => Some(BoundingBox {
            south: south.unwrap_or(-90.0),
            west: west.unwrap_or(-180.0),
            north: north.unwrap_or(90.0),
            east: east.unwrap_or(180.0),
        }),
    };
    Ok(RangeFilter {
        parameter: range.parameter,
        min: range.min_value,
        max: range.max_value,
        dates,
        bbox,
        columns: range.columns,
    })
}

pub(super) fn submitted_to_wire(submitted: Submitted) -> wire::QueryReply {
    wire::QueryReply {
        uid: submitted.id.to_string(),
        status: submitted.state.name().to_owned(),
        total_chunks: submitted.total_chunks,
        total_records: submitted.total_records,
        hops: names(&submitted.hops),
        partial_allowed: submitted.partial_allowed,
    }
}

pub(super) fn submitted_from_wire(reply: wire::QueryReply) -> Result<Submitted, Failure> {
    Ok(Submitted {
        id: query_id(&reply.uid)?,
        state: state(&reply.status)?,
        total_chunks: reply.total_chunks,
        total_records: reply.total_records,
        hops: nodes(reply.hops),
        partial_allowed: reply.partial_allowed,
    })
}

pub(super) fn batch_to_wire(message: ChunkMessage) -> ChunkBatch {
    ChunkBatch {
        chunks: message
            .chunks
            .iter()
            .map(|meta| wire::ChunkMeta {
                chunk_index: meta.index,
                rows: meta.rows,
                is_last: meta.is_last,
                bytes: meta.bytes,
            })
            .collect(),
        data: message.data,
        checksum: message.checksum,
        partial: message.partial,
        footer: message.footer.map(footer_to_wire),
        schema: message.schema,
        uid: String::new(),
    }
}

pub(super) fn batch_from_wire(batch: ChunkBatch) -> Result<ChunkMessage, Failure> {
    let meta = |meta: wire::ChunkMeta| ChunkMeta {
        index: meta.chunk_index,
        rows: meta.rows,
        is_last: meta.is_last,
        bytes: meta.bytes,
    };
    Ok(ChunkMessage {
        chunks: batch.chunks.into_iter().map(meta).collect(),
        data: batch.data,
        checksum: batch.checksum,
        partial: batch.partial,
        schema: batch.schema,
        total_chunks: None,
        footer: batch.footer.map(footer_from_wire).transpose()?,
    })
}

pub(super) fn chunk_to_wire(id: QueryId, message: ChunkMessage, state: QueryState) -> wire::ChunkReply {
    let meta = message.chunks.first().copied();
    wire::ChunkReply {
        uid: id.to_string(),
        chunk_index: meta.map_or(0, |meta| meta.index),
        total_chunks: message.total_chunks,
        data: message.data.joined(),
        is_last: meta.is_some_and(|meta| meta.is_last),
        status: state.name().to_owned(),
        rows: meta.map_or(0, |meta| meta.rows),
        checksum: message.checksum,
        partial: message.partial,
        footer: message.footer.map(footer_to_wire),
        schema: message.schema,
    }
}

pub(super) fn chunk_from_wire(reply: wire::ChunkReply) -> Result<ChunkMessage, Failure> {
    let bytes = reply.data.len() as u64;
    Ok(ChunkMessage {
        chunks: vec![ChunkMeta { index: reply.chunk_index, rows: reply.rows, is_last: reply.is_last, bytes }],
        data: reply.data.into(),
        checksum: reply.checksum,
        partial: reply.partial,
        schema: reply.schema,
        total_chunks: reply.total_chunks,
        footer: reply.footer.map(footer_from_wire).transpose()?,
    })
}

pub(super) fn footer_to_wire(footer: Footer) -> wire::Footer {
    let (rows_scanned, bytes_scanned) = (footer.rows_scanned(), footer.bytes_scanned());
    wire::Footer {
        uid: footer.id.to_string(),
        status: footer.state.name().to_owned(),
        rows: footer.rows,
        elapsed_us: micros(footer.elapsed),
        queued_us: micros(footer.queued),
        planned_us: micros(footer.planned),
        rows_scanned,
        bytes_scanned,
        nodes: footer
            .work
            .iter()
            .map(|work| wire::NodeWork {
                node: work.node.to_string(),
                route: names(&work.route),
                cpu_us: micros(work.cpu),
                rows_scanned: work.rows_scanned,
                bytes_scanned: work.bytes_scanned,
                bytes_sent: work.bytes_sent,
            })
            .collect(),
        adopted_links: footer
            .adopted
            .iter()
            .map(|link| wire::LinkEnds { a: link.ends().0.to_string(), b: link.ends().1.to_string() })
            .collect(),
        coverage: Some(coverage_to_wire(footer.coverage)),
    }
}

pub(super) fn footer_from_wire(footer: wire::Footer) -> Result<Footer, Failure> {
    let coverage = footer.coverage.ok_or_else(|| malformed("a footer without coverage"))?;
    Ok(Footer {
        id: query_id(&footer.uid)?,
        state: state(&footer.status)?,
        rows: footer.rows,
        elapsed: Duration::from_micros(footer.elapsed_us),
        queued: Duration::from_micros(footer.queued_us),
        planned: Duration::from_micros(footer.planned_us),
        work: footer
            .nodes
            .into_iter()
            .map(|work| NodeWork {
                node: NodeId::from(work.node.as_str()),
                route: nodes(work.route),
                cpu: Duration::from_micros(work.cpu_us),
                rows_scanned: work.rows_scanned,
                bytes_scanned: work.bytes_scanned,
                bytes_sent: work.bytes_sent,
            })
            .collect(),
        adopted: footer
            .adopted_links
            .iter()
            .map(|link| Link::between(&link.a.as_str().into(), &link.b.as_str().into()))
            .collect(),
        coverage: coverage_from_wire(coverage),
    })
}

fn coverage_to_wire(coverage: CoverageSummary) -> wire::Coverage {
    wire::Coverage {
        manifest_version: coverage.manifest_version,
        partitions: coverage.partitions,
        answered: coverage.answered,
        pruned: coverage.pruned,
        not_needed: coverage.not_needed,
        gaps: coverage
            .gaps
            .into_iter()
            .map(|gap| wire::Gap {
                date: gap.date,
                partition: gap.partition,
                node: gap.node.map(|node| node.to_string()).unwrap_or_default(),
                route: names(&gap.route),
                code: gap.code,
                message: gap.message,
            })
            .collect(),
        unheard: names(&coverage.unheard),
    }
}

fn coverage_from_wire(coverage: wire::Coverage) -> CoverageSummary {
    CoverageSummary {
        manifest_version: coverage.manifest_version,
        partitions: coverage.partitions,
        answered: coverage.answered,
        pruned: coverage.pruned,
        not_needed: coverage.not_needed,
        gaps: coverage
            .gaps
            .into_iter()
            .map(|gap| MissingPartition {
                date: gap.date,
                partition: gap.partition,
                node: (!gap.node.is_empty()).then(|| NodeId::from(gap.node.as_str())),
                route: nodes(gap.route),
                code: gap.code,
                message: gap.message,
            })
            .collect(),
        unheard: nodes(coverage.unheard),
    }
}

pub(super) fn query_status_to_wire(status: QueryStatus) -> wire::QueryStatus {
    wire::QueryStatus {
        uid: status.id.to_string(),
        status: status.state.name().to_owned(),
        total_chunks: status.total_chunks,
        total_records: status.total_records,
        records_so_far: status.records_so_far,
        partial: status.partial,
        footer: status.footer.map(footer_to_wire),
    }
}

pub(super) fn query_status_from_wire(status: wire::QueryStatus) -> Result<QueryStatus, Failure> {
    Ok(QueryStatus {
        id: query_id(&status.uid)?,
        state: state(&status.status)?,
        total_chunks: status.total_chunks,
        total_records: status.total_records,
        records_so_far: status.records_so_far,
        partial: status.partial,
        footer: status.footer.map(footer_from_wire).transpose()?,
    })
}
