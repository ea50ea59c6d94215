//! What a query is charged for work at the Leader: its plan, what the plan computes, and the chunks that are encoded and
//! sent. What other nodes spend comes with their answers, and what is held the desk knows itself.
//!
//! How cost becomes a share is fairness' to say; here it is only measured and handed on.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use datafusion::error::Result;
use futures::StreamExt;
use futures::stream::BoxStream;
use overlay_ingest::PartitionId;

use super::queries::Queries;
use crate::delivery::encoding::checksum;
use crate::delivery::{Arrived, QueryId};
use crate::engine::meter::{Meter, Spent};
use crate::engine::share::{Flow, Share};
use crate::leader::answer::QuerySpec;
use crate::leader::fairness::{Cost, TurnOrder};
use crate::leader::manifest::Manifest;

/// What it takes to take in a request that is refused, and to say so: the server's part of HTTP/2 and gRPC, which no turn
/// is taken for. Of thousands a second, 0.08 ms were counted on one machine and 0.05 on another, twice as quick. It is not
/// much, but under a flood it would come out of everybody's share.
const REFUSAL: Duration = Duration::from_micros(70);

impl Queries {
    /// Charges a team for a request that was refused.
    pub(super) fn bill_refusal(&self, share: &Share) {
        let by_share = {
            let mut desk = self.desk();
            desk.charge_refusal(share, Cost::cpu(REFUSAL));
            desk.turn_order() == TurnOrder::ByShare
        };
        if by_share {
            self.pool.charge(share, REFUSAL);
        }
    }

    /// Whom a query is billed to, and with which weight.
    pub(super) fn share_for(&self, id: QueryId, spec: &QuerySpec, client: &str) -> Share {
        let teams = &self.membership.config().teams;
        let weight = spec.team.as_ref().and_then(|team| teams.get(team)).map_or(1, |team| team.weight);
        Share { flow: Flow(spec.team.clone()), client: checksum(client.as_bytes()), query: id, weight }
    }

    /// The share by which nodes do a query's work: none if the strategy takes work as it comes.
    pub(super) fn turn_share(&self, id: QueryId) -> Share {
        let desk = self.desk();
        let none = Share { flow: Flow(None), client: 0, query: id, weight: 0 };
        match desk.turn_order() {
            TurnOrder::ByShare => desk.share(id).unwrap_or(none),
            TurnOrder::Arrival => none,
        }
    }

    /// Charges what it took to make a query's plan.
    pub(super) fn bill_planning(&self, id: QueryId, cpu: Duration) {
        self.desk().charge(id, Cost::cpu(cpu), 0);
    }

    /// Does it, and says what its threads computed for it; it may wait meanwhile, and change threads when it does.
    pub(super) async fn computed<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        let (mut work, mut cpu) = (pin!(work), Duration::ZERO);
        let done = poll_fn(|context| {
            let start = (self.hop.work_clock)();
            let polled = work.as_mut().poll(context);
            cpu += (self.hop.work_clock)().saturating_sub(start);
            polled
        });
        (done.await, cpu)
    }

    /// Charges a message to the client.
    pub(super) fn bill_message(&self, id: QueryId, cpu: Duration, bytes: usize) {
        self.desk().charge(id, Cost { bytes_sent: bytes as u64, ..Cost::cpu(cpu) }, 0);
    }

    /// The next rows of a plan. What the plan computes for them here is metered, unless it meters itself; waiting for nodes
    /// is not.
    pub(super) async fn next_arrived(
        &self,
        arrivals: &mut BoxStream<'static, Result<Arrived>>,
        meter: Option<&Meter>,
    ) -> Option<Result<Arrived>> {
        poll_fn(|context| {
            let Some(meter) = meter else { return arrivals.poll_next_unpin(context) };
            let start = (self.hop.work_clock)();
            let polled = arrivals.poll_next_unpin(context);
            meter.add(Spent { cpu: (self.hop.work_clock)().saturating_sub(start), ..Spent::default() });
            polled
        })
        .await
    }
}

/// Rows of these partitions, as far as they were counted.
pub(super) fn rows_of(partitions: &[PartitionId], manifest: &Manifest) -> u64 {
    let entries = partitions.iter().filter_map(|id| manifest.partitions.get(&id.date));
    entries.filter_map(|entry| entry.known.stats.as_ref()).map(|stats| stats.rows).sum()
}
