//! What queries are charged, and the strategy that goes by it.
//!
//! A query that has ended is still charged: its result is held, read and sent.

use std::sync::Arc;
use std::time::Duration;

use super::Desk;
use crate::delivery::QueryId;
use crate::engine::meter::Meter;
use crate::leader::answer::QueryState;
use crate::leader::fairness::{Cost, Fairness, Share, TurnOrder};

impl Desk {
    /// Another fairness strategy decides from now on; every query keeps its place or permit.
    pub fn set_fairness(&mut self, strategy: Box<dyn Fairness>) {
        self.admission.set_strategy(strategy);
    }

    /// How many cores there are, and whether one has nothing to do now: to be told before queries are offered or started.
    pub fn tell_cores(&mut self, cores: usize, is_one_idle: bool) {
        self.admission.tell_cores(cores, is_one_idle);
    }

    /// In which order the work of running queries is to be done.
    pub fn turn_order(&self) -> TurnOrder {
        self.admission.strategy().1
    }

    /// The share of a query on every node.
    pub fn share(&self, id: QueryId) -> Option<Share> {
        self.queries.get(&id).map(|query| query.share.clone())
    }

    /// A running query will read so many rows, as far as planning can tell; the meter counts what it spends from now on.
    pub fn planned(&mut self, id: QueryId, rows: u64, meter: Arc<Meter>) {
        self.admission.planned(id, rows);
        if let Some(query) = self.queries.get_mut(&id) {
            query.meter = Some(meter);
        }
    }

    /// A query cost so much more, by scanning so many rows. It may have ended.
    pub fn charge(&mut self, id: QueryId, cost: Cost, rows_scanned: u64) {
        if let Some(query) = self.queries.get(&id) {
            self.admission.charge(id, &query.share, cost, rows_scanned);
        }
    }

    /// A request was refused, and that took so much.
    pub fn charge_refusal(&mut self, share: &Share, cost: Cost) {
        self.admission.charge_refusal(share, cost);
    }

    /// Charges what the query spent since the last time: as it runs, and before its permit is given back.
    pub(super) fn charge_spent(&mut self, id: QueryId) {
        let Some(query) = self.queries.get(&id) else { return };
        let Some(spent) = query.meter.as_ref().map(|meter| meter.take()) else { return };
        let cost = Cost { bytes_sent: spent.bytes_sent, ..Cost::cpu(spent.cpu) };
        self.admission.charge(id, &query.share, cost, spent.rows_scanned);
    }

    /// The same for all that run: an aggregate gives no row before its end, and may be cancelled before that.
    pub(super) fn charge_all_spent(&mut self) {
        let running = self.queries.iter().filter(|(_, query)| query.state == QueryState::Running);
        let running: Vec<QueryId> = running.map(|(id, _)| *id).collect();
        running.into_iter().for_each(|id| self.charge_spent(id));
    }

    /// Memory is paid for as long as it is held, whether or not its query still runs.
    pub(super) fn charge_for_holding(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.held_until).as_secs_f64();
        self.held_until = now;
        for (id, bytes) in self.results.held() {
            if let Some(query) = self.queries.get(&id) {
                let cost = Cost { byte_seconds_held: bytes as f64 * seconds, ..Cost::default() };
                self.admission.charge(id, &query.share, cost, 0);
            }
        }
    }
}
