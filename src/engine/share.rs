//! Whom work is done for, and what share of a contended node that gives it. A query carries it wherever it goes.

use std::fmt;

use crate::delivery::QueryId;
use crate::routing::Team;

/// Whom a query is billed to: a team, or `none` for queries that name none. `none` is capped like a team.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(pub Option<Team>);

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_ref().map_or("none", Team::as_str))
    }
}

/// One query's claim on a node, three levels deep: flows share by weight, the clients of a flow and the queries of a
/// client equally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub flow: Flow,
    /// Which of the flow's clients it is, as a digest of the name that the client gave itself.
    pub client: u64,
    pub query: QueryId,
    /// The flow's weight relative to other flows, 1 to 1000. 0: no claim at all; such work is done in the order of its
    /// arrival, and all of it together has the weight 1.
    pub weight: u32,
}
