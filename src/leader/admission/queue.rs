//! The queries that wait, in order of arrival.

use std::collections::VecDeque;
use std::time::Duration;

use crate::delivery::QueryId;
use crate::leader::fairness::{Flow, Share, Waiting};

pub(super) struct Queued {
    pub id: QueryId,
    pub share: Share,
    pub offered: Duration,
    pub deadline: Duration,
}

impl Queued {
    /// The time that its client gave it.
    pub fn given(&self) -> Duration {
        self.deadline.saturating_sub(self.offered)
    }
}

/// As long as the caller lets it grow.
#[derive(Default)]
pub(super) struct Queue(VecDeque<Queued>);

impl Queue {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn push(&mut self, query: Queued) {
        self.0.push_back(query);
    }

    pub fn remove(&mut self, at: usize) -> Option<Queued> {
        self.0.remove(at)
    }

    pub fn position(&self, id: QueryId) -> Option<usize> {
        self.0.iter().position(|query| query.id == id)
    }

    /// The first of which this is so.
    pub fn position_of(&self, is_it: impl Fn(&Queued) -> bool) -> Option<usize> {
        self.0.iter().position(is_it)
    }

    pub fn newest_of(&self, flow: &Flow, client: u64) -> Option<usize> {
        self.0.iter().rposition(|query| query.share.client == client && query.share.flow == *flow)
    }

    /// Those of which this is so, in order of arrival.
    pub fn waiting(&self, is_it: impl Fn(&Queued) -> bool) -> impl Iterator<Item = Waiting<'_>> {
        self.0.iter().enumerate().filter(move |(_, query)| is_it(query)).map(|(position, query)| Waiting {
            position,
            share: &query.share,
            offered: query.offered,
            deadline: query.deadline,
        })
    }
}
