//! What queries are charged, and the strategy that goes by it.
//!
//! A query that has ended is still charged: its result is held, read and sent.

use std::time::Duration;

use super::Desk;
use crate::delivery::QueryId;
use crate::leader::fairness::{Cost, Fairness, Share, TurnOrder};

impl Desk {
    /// Another fairness strategy decides from now on; every query keeps its place or permit.
    pub fn set_fairness(&mut self, strategy: Box<dyn Fairness>) {
        self.admission.set_strategy(strategy);
    }

    /// In which order the work of running queries is to be done.
    pub fn turn_order(&self) -> TurnOrder {
        self.admission.strategy().1
    }

    /// The share of a query on every node.
    pub fn share(&self, id: QueryId) -> Option<Share> {
        self.queries.get(&id).map(|query| query.share.clone())
    }

    /// A running query will read so many rows, as far as planning can tell.
    pub fn planned(&mut self, id: QueryId, rows: u64) {
        self.admission.planned(id, rows);
    }

    /// A query cost so much more, by scanning so many rows. It may have ended.
    pub fn charge(&mut self, id: QueryId, cost: Cost, rows_scanned: u64) {
        if let Some(query) = self.queries.get(&id) {
            self.admission.charge(id, &query.share, cost, rows_scanned);
        }
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
