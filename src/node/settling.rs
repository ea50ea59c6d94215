//! Plans a query, and lets it wait a moment where what it needs is just about to come: after a start of the Leader, until
//! those who live have spoken; while a data set is ingested again, until the nodes of a team agree; while a partition is
//! loaded where it was placed.
//!
//! It decides only when to plan. What is still missing when the moment is over is refused here if nobody can know what
//! the answer should be, and else is the reader's to name. A query is pinned to one manifest, the one it is planned with
//! last; nothing that comes later is in its answer.

use std::sync::Arc;
use std::time::Duration;

use overlay_ingest::PartitionId;

use super::membership::FORGET_AFTER;
use super::queries::Queries;
use super::query_failure::plan_failure;
use crate::delivery::QueryId;
use crate::engine::reader::{Overview, QueryContext};
use crate::engine::session::QueryPlan;
use crate::engine::stop::Stop;
use crate::failure::{Failure, FailureKind};
use crate::leader::answer::QuerySpec;
use crate::leader::manifest::Manifest;
use crate::routing::{self, NodeId};

/// How long a query waits for things to settle, at most: nodes look for new data and speak every second. Longer rides
/// out slower disks; a disagreement that only a person can end is told so much later.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// The least pause between two looks: whatever announcements come, a waiting query plans no more often.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Before its deadline a query says what it waits for.
const DEADLINE_MARGIN: Duration = Duration::from_millis(100);

/// A query that can be executed.
pub struct Planned {
    /// What it is pinned to.
    pub manifest: Arc<Manifest>,
    pub context: Arc<QueryContext>,
    pub plan: QueryPlan,
    /// Time spent on the plan that is used, the wait for a turn to plan included.
    pub took: Duration,
}

/// What a query would have to wait for.
enum Unsettled {
    /// Nobody can say yet what a right answer is.
    Unknown(Failure),
    /// A partition is on its way.
    NotHeld,
}

impl Queries {
    /// Plans the query as soon as what it touches has settled, or there is no time left to wait.
    ///
    /// Errors: those of planning; `NEVER_ANNOUNCED` and `CONFLICT` if it is still not known what there is.
    pub(super) async fn settled_plan(
        &self,
        id: QueryId,
        spec: &QuerySpec,
        stop: &Stop,
        deadline: Duration,
    ) -> Result<Planned, Failure> {
        let until = (self.now() + SETTLE_MAX).min(deadline.saturating_sub(DEADLINE_MARGIN));
        // From before the first look, so that no change is missed.
        let mut changes = self.membership.changes();
        loop {
            changes.mark_unchanged();
            let manifest = self.membership.manifest();
            let time_is_up = self.now() >= until;
            if let Some((failure, is_coming)) = self.unheard(&manifest) {
                if is_coming && !time_is_up {
                    self.pause(&mut changes, until).await;
                    continue;
                }
                if !spec.allow_partial {
                    return Err(failure);
                }
            }
            let context = self.context(id, spec, stop, deadline, &manifest);
            let planning_since = self.now();
            let plan = {
                let turn = self.pool.turn(&self.turn_share(id)).await;
                let (plan, cpu) = self.computed(self.engine.plan(&context, &spec.ask, spec.limit)).await;
                drop(turn);
                self.bill_planning(id, cpu);
                plan.map_err(|error| plan_failure(error, self.me()))?
            };
            let took = self.now().saturating_sub(planning_since);
            match self.unsettled(&manifest, &plan.partitions) {
                None => return Ok(Planned { manifest, context, plan, took }),
                Some(Unsettled::NotHeld) if time_is_up => return Ok(Planned { manifest, context, plan, took }),
                Some(Unsettled::Unknown(failure)) if time_is_up => return Err(failure),
                Some(_) => self.pause(&mut changes, until).await,
            }
        }
    }

    /// Waits for news of the overlay, which come every second at least.
    async fn pause(&self, changes: &mut tokio::sync::watch::Receiver<u64>, until: Duration) {
        let left = until.saturating_sub(self.now());
        tokio::time::sleep(LOOK_PAUSE.min(left)).await;
        // Either way it is time to look again; an end of the channel is the end of the node.
        let _ = tokio::time::timeout(left, changes.changed()).await;
    }

    /// Whether those who live may not have spoken yet, because this node has only just started.
    fn is_young(&self) -> bool {
        self.now() < FORGET_AFTER
    }

    /// Members of which nobody knows what they have, as a failure; and whether their word may come in a moment.
    fn unheard(&self, manifest: &Manifest) -> Option<(Failure, bool)> {
        let first = manifest.unheard.first()?;
        let names = routing::names(&manifest.unheard, ", ");
        let verb = if manifest.unheard.len() == 1 { "has" } else { "have" };
        let message = format!("{names} {verb} never announced, so nobody knows which dates are missing");
        let failure = self.fail(FailureKind::Unavailable, "NEVER_ANNOUNCED", message);
        // One that is heard lacks only its list, which was asked for already.
        let is_heard = |node: &NodeId| self.membership.heard_ago(node).is_some();
        let is_coming = self.is_young() || manifest.unheard.iter().any(is_heard);
        Some((Failure { node: Some(first.clone()), ..failure }, is_coming))
    }

    /// What the query has to wait for, if that may come in a moment.
    fn unsettled(&self, manifest: &Manifest, touched: &[PartitionId]) -> Option<Unsettled> {
        let is_touched = |date: &overlay_ingest::Date| touched.iter().any(|id| id.date == *date);
        if let Some((date, said)) = manifest.conflicts.iter().find(|(date, _)| is_touched(date)) {
            let said = said.iter().map(|(node, id)| format!("{node} says {id}")).collect::<Vec<_>>().join(", ");
            let message = format!("the nodes disagree about {date}: {said}; run overlay-ingest on the same files");
            return Some(Unsettled::Unknown(self.fail(FailureKind::FailedPrecondition, "CONFLICT", message)));
        }
        let snapshot =
            super::membership::NodeOverview { membership: Arc::clone(&self.membership), hop: Arc::clone(&self.hop) }
                .snapshot();
        let reachable = snapshot.topology.reachable(self.me());
        let is_up = |node: &NodeId| node == self.me() || reachable.contains(node);
        let placement = self.membership.placement();
        let is_coming = |id: &PartitionId| {
            let holders = || snapshot.nodes.iter().filter(|(_, view)| view.alive && view.holds.contains(id));
            if holders().any(|(node, _)| is_up(node)) {
                return false;
            }
            let placed = placement.as_ref().and_then(|placement| placement.holders.get(id));
            let will_load = |node: &NodeId| {
                let view = snapshot.nodes.get(node);
                view.is_some_and(|view| view.alive && !view.holds.contains(id)) && is_up(node)
            };
            self.is_young() || placed.is_some_and(|placed| placed.iter().any(will_load))
        };
        touched.iter().any(is_coming).then_some(Unsettled::NotHeld)
    }
}
