//! The route probe, in our words and back.

use std::time::Duration;

use super::convert_peer::{names, nodes};
use super::convert_status::role;
use super::status::{malformed, millis};
use super::wire;
use crate::failure::Failure;
use crate::routing::trace::{Trace, TraceBranch, TraceHop, TraceRequest};
use crate::routing::{NodeId, Order, Path, Team};

pub(super) fn trace_request_to_wire(request: TraceRequest) -> wire::TraceRequest {
    let path = |order: &Order| wire::TracePath { nodes: names(order.path.nodes()) };
    wire::TraceRequest {
        hops: names(&request.hops),
        paths: request.paths.iter().map(path).collect(),
        time_left_ms: millis(request.time_left),
    }
}

pub(super) fn trace_request_from_wire(request: wire::TraceRequest) -> Result<TraceRequest, Failure> {
    let order = |path: wire::TracePath| {
        let path = Path::try_from(nodes(path.nodes)).map_err(|error| malformed(error.to_string()))?;
        Ok(Order { path, partitions: Vec::new() })
    };
    Ok(TraceRequest {
        hops: nodes(request.hops),
        paths: request.paths.into_iter().map(order).collect::<Result<_, Failure>>()?,
        time_left: Duration::from_millis(request.time_left_ms),
    })
}

pub(super) fn trace_hop_to_wire(hop: TraceHop) -> wire::TraceHop {
    let branch = |branch: TraceBranch| wire::TraceBranch {
        next: branch.next.to_string(),
        adopted: branch.adopted,
        link_us: branch.link_us,
        hop: branch.hop.map(trace_hop_to_wire),
        failure: branch.failure.unwrap_or_default(),
    };
    wire::TraceHop {
        node: hop.node.to_string(),
        role: hop.role.to_string(),
        team: hop.team.to_string(),
        state: hop.state,
        partitions: hop.partitions,
        rows: hop.rows,
        elapsed_us: hop.elapsed_us,
        branches: hop.branches.into_iter().map(branch).collect(),
    }
}

/// The depth of the tree is bounded by the decoder, which refuses messages that are nested more than 100 deep.
pub(super) fn trace_hop_from_wire(hop: wire::TraceHop) -> Result<TraceHop, Failure> {
    let branch = |branch: wire::TraceBranch| {
        Ok(TraceBranch {
            next: NodeId::from(branch.next.as_str()),
            adopted: branch.adopted,
            link_us: branch.link_us,
            hop: branch.hop.map(trace_hop_from_wire).transpose()?,
            failure: Some(branch.failure).filter(|failure| !failure.is_empty()),
        })
    };
    Ok(TraceHop {
        node: NodeId::from(hop.node.as_str()),
        role: role(&hop.role)?,
        team: Team::from(hop.team.as_str()),
        state: hop.state,
        partitions: hop.partitions,
        rows: hop.rows,
        elapsed_us: hop.elapsed_us,
        branches: hop.branches.into_iter().map(branch).collect::<Result<_, Failure>>()?,
    })
}

pub(super) fn trace_to_wire(trace: Trace) -> wire::ForwardReply {
    wire::ForwardReply { root: Some(trace_hop_to_wire(trace.root)), unreached: names(&trace.unreached) }
}

pub(super) fn trace_from_wire(reply: wire::ForwardReply) -> Result<Trace, Failure> {
    let root = reply.root.ok_or_else(|| malformed("a trace without a root"))?;
    Ok(Trace { root: trace_hop_from_wire(root)?, unreached: nodes(reply.unreached) })
}
