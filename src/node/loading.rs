//! Holds what the placement says: loads what is to come, gives up what somebody else holds by now. What follows from a
//! data set that is ingested again while the node runs is [`super::change_over`]'s.
//!
//! Memory is filled up to `data_bytes_max`. What does not fit stays in the Parquet cache, and is read from there by each
//! scan of it. Without a cache there is no file that could be read so, and the node ends, saying how much it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use overlay_ingest::{PartitionId, PartitionStats};

use super::change_over::ChangeOver;
use super::data::{DataSource, LocalData, View};
use super::membership::Membership;
use super::os;
use crate::engine::store::{HeldPartition, Store};
use crate::routing::announcements::NodeState;
use crate::routing::placement::Placement;

/// Loading went wrong in a way that only a person can mend; the node ends.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Data(#[from] overlay_ingest::Error),
    /// Only where there is no Parquet cache.
    #[error("the partitions placed on this node need about {needed} bytes of memory, data_bytes_max allows {max}")]
    TooLarge { needed: u64, max: u64 },
    #[error("loading was interrupted: {0}")]
    Interrupted(String),
}

/// How often a newer cache is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Follows the placement until the node ends, or loading fails.
pub async fn keep_loaded(
    membership: Arc<Membership>,
    store: Arc<Store>,
    data: Arc<LocalData>,
) -> Result<std::convert::Infallible, LoadError> {
    let mut placements = membership.placements();
    let mut changes = membership.changes();
    let mut change_over = ChangeOver::new(Arc::clone(&membership), Arc::clone(&store), Arc::clone(&data));
    // Days whose CSV files are not those any more that were listed at the start; at most those that were.
    let mut changed = BTreeSet::new();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let placement = placements.borrow_and_update().clone();
        if let Some(placement) = placement {
            let mut wanted = wanted(&placement, &membership, &data);
            wanted.retain(|id| !changed.contains(id));
            if let Err(error) = load_missing(&membership, &store, &data, &wanted, &mut changed).await {
                // A file that was there may be gone because a newer cache does not name it.
                if change_over.look().await {
                    continue;
                }
                return Err(error);
            }
            give_up(&membership, &store, &placement, &wanted);
            change_over.drop_replaced(&placement);
        }
        // The end of either channel would mean that the membership is gone, and this task with it.
        tokio::select! {
            _ = placements.changed() => {}
            _ = changes.changed() => {}
            _ = looks.tick() => {
                change_over.look().await;
            }
        }
    }
}

/// What the placement gives to this node, of what this host knows.
fn wanted(placement: &Placement, membership: &Membership, data: &LocalData) -> BTreeSet<PartitionId> {
    let known: BTreeSet<PartitionId> = data.known().iter().map(|known| known.id).collect();
    placement.holds(membership.me()).into_iter().filter(|id| known.contains(id)).collect()
}

async fn load_missing(
    membership: &Arc<Membership>,
    store: &Arc<Store>,
    data: &Arc<LocalData>,
    wanted: &BTreeSet<PartitionId>,
    changed: &mut BTreeSet<PartitionId>,
) -> Result<(), LoadError> {
    let held: BTreeSet<PartitionId> = store.ids().into_iter().collect();
    let missing: Vec<PartitionId> = wanted.difference(&held).copied().collect();
    let (node_state, _) = membership.node_state();
    if missing.is_empty() {
        if matches!(node_state, NodeState::Waiting | NodeState::Loading) {
            membership.set_held(store, NodeState::Ready);
        }
        return Ok(());
    }
    let max = membership.config().limits.data_bytes_max;
    if data.source() == DataSource::Csv {
        check_size(max, data, wanted)?;
    }
    membership.set_held(store, NodeState::Loading);
    let (store_of_task, view) = (Arc::clone(store), data.view());
    let filled = tokio::task::spawn_blocking(move || fill(&store_of_task, &view, &missing, max));
    let filled = filled.await.map_err(|error| LoadError::Interrupted(error.to_string()))??;
    // Everybody knows such a day under the old id, and nothing else would be right under it: a hole with a name is.
    for id in filled.changed {
        let date = id.date;
        tracing::error!(%date, "its CSV files changed since the start, so it is not held; start the node again");
        changed.insert(id);
    }
    // Decoding needs several times the memory that stays.
    os::give_back_memory();
    membership.count(&filled.counted);
    membership.set_held(store, NodeState::Ready);
    tracing::info!(
        partitions = store.ids().len(),
        on_disk = store.ids_on_disk().len(),
        rows = store.rows(),
        bytes = store.memory_bytes(),
        "ready"
    );
    Ok(())
}

/// What became of partitions that were to be loaded.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// The statistics of those that were read.
    pub counted: BTreeMap<PartitionId, PartitionStats>,
    /// Those whose CSV files are others by now; they are not in the store.
    pub changed: BTreeSet<PartitionId>,
}

/// Loads the partitions into the store until it takes `bytes_max`; those that are left it answers from their files.
/// Without files everything is loaded.
pub(super) fn fill(store: &Store, view: &View, ids: &[PartitionId], bytes_max: u64) -> Result<Filled, LoadError> {
    use overlay_ingest::Error;
    use rayon::prelude::*;
    // Threads that end with the loading: what they held for the decoder goes with them. What stays is allocated by threads
    // of its own: between blocks that stay, the decoder's could not be given back.
    let mut threads = Vec::new();
    let (decoding, keeping) = (pool("load", &mut threads)?, pool("keep", &mut threads)?);
    let room = AtomicU64::new(bytes_max.saturating_sub(store.memory_bytes()));
    let load = |id: &PartitionId| {
        let on_disk = view.on_disk(id);
        // The first that did not fit left no room, so that the others are not read in vain.
        if room.load(Ordering::Relaxed) == 0
            && let Some(on_disk) = on_disk
        {
            store.insert_on_disk(on_disk);
            return Ok(None);
        }
        let partition = match view.load(id) {
            Ok(Some(partition)) => partition,
            Ok(None) => return Ok(None),
            Err(Error::FilesChanged { .. }) => return Ok(Some((*id, None))),
            Err(error) => return Err(error),
        };
        let held = keeping.install(|| HeldPartition::new(&partition));
        let taken = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(held.memory_bytes));
        match on_disk {
            Some(on_disk) if taken.is_err() => {
                room.store(0, Ordering::Relaxed);
                store.insert_on_disk(on_disk);
            }
            _ => store.insert(held),
        }
        Ok(Some((*id, Some(partition.stats))))
    };
    let loaded = decoding.install(|| {
        let loaded = ids.par_iter().filter_map(|id| load(id).transpose());
        loaded.collect::<Result<Vec<_>, Error>>()
    });
    drop((decoding, keeping));
    // The memory of a thread is free only once it has ended.
    for thread in threads {
        thread.join().map_err(|_| LoadError::Interrupted("a thread panicked".to_owned()))?;
    }
    let mut filled = Filled::default();
    for (id, stats) in loaded? {
        match stats {
            Some(stats) => drop(filled.counted.insert(id, stats)),
            None => {
                filled.changed.insert(id);
            }
        }
    }
    Ok(filled)
}

/// A pool whose threads can be waited for: they end some time after the pool is dropped.
fn pool(name: &str, threads: &mut Vec<JoinHandle<()>>) -> Result<rayon::ThreadPool, LoadError> {
    let builder = rayon::ThreadPoolBuilder::new().spawn_handler(|thread| {
        let named = std::thread::Builder::new().name(format!("{name}-{}", thread.index()));
        threads.push(named.spawn(|| thread.run())?);
        Ok(())
    });
    builder.build().map_err(|error| LoadError::Interrupted(error.to_string()))
}

/// Bytes of a row in memory at most: 5 columns of 8 bytes, 6 dictionary keys of 4, and 3 bytes of small integers. Where a
/// site's rows stand together and its values are few it is about a quarter; see `engine::zone_rows`.
pub(super) const ROW_BYTES: u64 = 67;
/// Bytes of CSV for each byte in memory, at the least: a row has about 160. For what nobody has counted yet.
const CSV_BYTES_PER_BYTE: u64 = 2;

/// Bytes of memory for partitions, dictionaries apart.
pub fn memory_bytes(rows: Option<u64>, csv_bytes: u64) -> u64 {
    match rows {
        Some(rows) => rows.saturating_mul(ROW_BYTES),
        None => csv_bytes / CSV_BYTES_PER_BYTE,
    }
}

fn check_size(max: u64, data: &LocalData, wanted: &BTreeSet<PartitionId>) -> Result<(), LoadError> {
    let known = data.known();
    let wanted = known.iter().filter(|known| wanted.contains(&known.id));
    let needed = wanted.map(|known| memory_bytes(known.stats.as_ref().map(|stats| stats.rows), known.csv_bytes)).sum();
    if needed > max { Err(LoadError::TooLarge { needed, max }) } else { Ok(()) }
}

/// Gives a partition up only once every new holder says that it holds it.
fn give_up(membership: &Membership, store: &Store, placement: &Placement, wanted: &BTreeSet<PartitionId>) {
    let mut gave_up = false;
    for id in store.ids() {
        if wanted.contains(&id) {
            continue;
        }
        let Some(holders) = placement.holders.get(&id) else { continue };
        if holders.contains(membership.me()) {
            // Placed here under the id that others still say; this host's files have become others.
            continue;
        }
        let held_by = membership.holders(&id);
        if holders.iter().all(|holder| held_by.contains(holder)) {
            store.remove(&id);
            gave_up = true;
        }
    }
    if gave_up {
        os::give_back_memory();
        membership.set_held(store, NodeState::Ready);
    }
}
