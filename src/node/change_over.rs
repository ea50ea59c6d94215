//! What a running node does when its data set was ingested again.
//!
//! It loads the new partitions of the dates that it holds beside the old ones, and only then says, in one announcement,
//! that it knows the new list and holds both. So a query that was pinned to the old ids is answered from the old rows,
//! one that is pinned to the new ids from the new rows, and no date is without a holder in between. The dates of one team
//! change together, as they were committed; while its nodes disagree, the Leader lets queries of those dates wait.
//!
//! An old partition stays until the holders of the new one hold it, and then for [`REPLACED_KEPT`], in which queries
//! that were planned before send their scans; scans under way keep it until they end. Where memory does not hold both,
//! the old one goes first, and late scans are refused by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_ingest::{Date, PartitionId};

use super::data::{LocalData, NewerData};
use super::loading::{LoadError, ROW_BYTES, fill};
use super::membership::Membership;
use super::os;
use crate::engine::store::Store;
use crate::routing::placement::Placement;

/// How long a replaced partition is kept for queries that were planned before. Longer serves queries that ask one hop
/// after the other; each second costs the memory of what was replaced.
const REPLACED_KEPT: Duration = Duration::from_secs(10);

/// Brings a node from the data it has to what was committed since.
pub struct ChangeOver {
    membership: Arc<Membership>,
    store: Arc<Store>,
    data: Arc<LocalData>,
    /// Since when these may go.
    replaced: BTreeMap<PartitionId, Instant>,
}

impl ChangeOver {
    /// Nothing was replaced yet.
    pub fn new(membership: Arc<Membership>, store: Arc<Store>, data: Arc<LocalData>) -> ChangeOver {
        ChangeOver { membership, store, data, replaced: BTreeMap::new() }
    }

    /// Takes over what was committed since the last look; true if there was something. What cannot be used is logged,
    /// and the node keeps to what it has: others then disagree with it, and queries of those dates are refused by name.
    pub async fn look(&mut self) -> bool {
        match self.take_newer().await {
            Ok(taken) => taken,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(
                    error,
                    "the data set was ingested again, but cannot be loaded; keeping to the older data"
                );
                false
            }
        }
    }

    async fn take_newer(&mut self) -> Result<bool, LoadError> {
        let data = Arc::clone(&self.data);
        let looked = tokio::task::spawn_blocking(move || data.newer()).await;
        let Some(newer) = looked.map_err(|error| LoadError::Interrupted(error.to_string()))?? else {
            return Ok(false);
        };
        let held = self.store.ids();
        let dates: BTreeSet<Date> = held.iter().map(|id| id.date).collect();
        let replacing: Vec<PartitionId> = newer.known().iter().map(|known| known.id).collect();
        let replacing: Vec<PartitionId> =
            replacing.into_iter().filter(|id| dates.contains(&id.date) && !held.contains(id)).collect();
        self.make_room(&newer, &replacing);
        let store = Arc::clone(&self.store);
        let count = replacing.len();
        let max = self.membership.config().limits.data_bytes_max;
        let loaded = tokio::task::spawn_blocking(move || {
            // It comes from a cache: none of its days can be found changed.
            fill(&store, newer.view(), &replacing, max)?;
            Ok::<NewerData, LoadError>(newer)
        });
        let newer = loaded.await.map_err(|error| LoadError::Interrupted(error.to_string()))??;
        // Decoding needs several times the memory that stays.
        os::give_back_memory();
        self.data.take_over(newer);
        self.membership.set_known(self.data.known(), &self.store);
        tracing::info!(replaced = count, "the data set was ingested again");
        Ok(true)
    }

    /// Sees to it that old and new fit into memory together, or else the old ones go first.
    fn make_room(&self, newer: &NewerData, replacing: &[PartitionId]) {
        let max = self.membership.config().limits.data_bytes_max;
        let is_new = |id: &PartitionId| newer.known().iter().any(|known| known.id == *id);
        let added = newer.known().iter().filter(|known| replacing.contains(&known.id));
        let added: u64 = added.filter_map(|known| known.stats.as_ref().map(|stats| stats.rows)).sum();
        if self.store.memory_bytes().saturating_add(added.saturating_mul(ROW_BYTES)) <= max {
            return;
        }
        let old: Vec<PartitionId> = self.store.ids().into_iter().filter(|id| !is_new(id)).collect();
        tracing::warn!(partitions = old.len(), "old and new data do not fit into data_bytes_max: the old goes first");
        for id in old {
            self.store.remove(&id);
        }
    }

    /// Gives up what was replaced long enough ago.
    pub fn drop_replaced(&mut self, placement: &Placement) {
        let known: BTreeSet<PartitionId> = self.data.known().iter().map(|known| known.id).collect();
        let replaced: BTreeSet<PartitionId> =
            self.store.ids().into_iter().filter(|id| !known.contains(id) && self.is_replaced(id, placement)).collect();
        self.replaced.retain(|id, _| replaced.contains(id));
        let now = Instant::now();
        let mut gave_up = false;
        for id in replaced {
            let since = *self.replaced.entry(id).or_insert(now);
            if now.saturating_duration_since(since) >= REPLACED_KEPT {
                self.store.remove(&id);
                self.replaced.remove(&id);
                gave_up = true;
            }
        }
        if gave_up {
            os::give_back_memory();
            self.membership.set_known(self.data.known(), &self.store);
        }
    }

    /// Whether the overlay has gone on from this partition: its date is held under another id by all who should, or
    /// nobody has the date any more.
    fn is_replaced(&self, id: &PartitionId, placement: &Placement) -> bool {
        let of_date = |other: &&PartitionId| other.date == id.date;
        if placement.homeless.iter().any(|other| other.date == id.date) {
            return false;
        }
        match placement.holders.keys().find(of_date) {
            None => true,
            Some(placed) if placed == id => false,
            Some(placed) => {
                let held_by = self.membership.holders(placed);
                placement.holders[placed].iter().all(|holder| held_by.contains(holder))
            }
        }
    }
}
