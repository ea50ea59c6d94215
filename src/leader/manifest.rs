//! The Leader's view of all partitions: which there are, of which team, and who has their files. It is made from what
//! live nodes announce and from what the dead last said, which is stored. Who holds a partition right now is not in it
//! (`routing::assignment`), nor what a query does about what is missing (coverage).
//!
//! A node's word counts for the days of its own team only. What a live node says beats what a dead one said; of what
//! only dead nodes said, the latest change stands. Two ids said now by live nodes for one day are a conflict: nobody
//! can know which is meant, and queries that touch the day must be refused. Its entry stays, with the id that most
//! nodes say and with all who say one, so that placement does not move data about while files are being replaced.
//!
//! Invariants: the version is a function of the ids and the teams' dates, whoever said them. A node is `unheard` as
//! long as its list is neither here nor stored; until `unheard` is empty for a team, that team's list may lack days.

use std::collections::{BTreeMap, BTreeSet};

use overlay_ingest::{Date, DateRange, PartitionId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::routing::known::UNLISTED;
use crate::routing::{Announcement, KnownPartition, NodeId, PartitionStats, Team};

/// What the configuration says about data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The members that hold data, and their teams.
    pub members: BTreeMap<NodeId, Team>,
    /// The days of each team; disjoint.
    pub ranges: BTreeMap<Team, DateRange>,
}

/// All partitions there are, as known at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Digest of the sorted ids and the teams' dates: equal versions are the same data, cut the same way.
    pub version: u128,
    pub partitions: BTreeMap<Date, Entry>,
    /// Configured members that hold data whose list is not known, by id.
    pub unheard: Vec<NodeId>,
    /// Days for which live nodes say more than one id, with who says which.
    pub conflicts: BTreeMap<Date, Vec<(NodeId, PartitionId)>>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub known: KnownPartition,
    pub team: Team,
    /// Who has its files, alive or not, by id.
    pub knowers: Vec<NodeId>,
}

impl Manifest {
    /// Makes the view. `alive` are the newest announcements of the nodes that are alive, in any order.
    pub fn build<'a>(
        expected: &Expected,
        alive: impl IntoIterator<Item = &'a Announcement>,
        stored: &StoredManifest,
    ) -> Manifest {
        let alive: BTreeMap<&NodeId, &Announcement> = alive.into_iter().map(|a| (&a.origin, a)).collect();
        let mut unheard = Vec::new();
        let mut said: BTreeMap<Date, Vec<Saying>> = BTreeMap::new();
        for (node, team) in &expected.members {
            let Some(word) = word_of(alive.get(node).copied(), stored.nodes.get(node)) else {
                unheard.push(node.clone());
                continue;
            };
            let Some(range) = expected.ranges.get(team) else { continue };
            for known in word.known.iter().filter(|known| range.contains(known.id.date)) {
                let saying = Saying { node, team, known, alive: word.alive, changed: word.changed };
                said.entry(known.id.date).or_default().push(saying);
            }
        }
        let mut partitions = BTreeMap::new();
        let mut conflicts = BTreeMap::new();
        for (date, sayings) in said {
            let live: Vec<&Saying> = sayings.iter().filter(|saying| saying.alive).collect();
            let live_ids: BTreeSet<PartitionId> = live.iter().map(|saying| saying.known.id).collect();
            if live_ids.len() > 1 {
                conflicts.insert(date, live.iter().map(|saying| (saying.node.clone(), saying.known.id)).collect());
            }
            partitions.insert(date, entry(&sayings));
        }
        Manifest { version: version(&partitions, expected), partitions, unheard, conflicts }
    }

    /// The partitions of these days, in order.
    pub fn within(&self, range: DateRange) -> impl Iterator<Item = &Entry> {
        self.partitions.iter().filter(move |(date, _)| range.contains(**date)).map(|(_, entry)| entry)
    }
}

/// One node's word for one day.
struct Saying<'a> {
    node: &'a NodeId,
    team: &'a Team,
    known: &'a KnownPartition,
    alive: bool,
    changed: u64,
}

/// What a node says it knows.
struct Word<'a> {
    known: &'a [KnownPartition],
    alive: bool,
    /// When the word last changed, in the order of the stored manifest; only compared between dead nodes.
    changed: u64,
}

/// `None` if the node's list is not known. A live node whose list has not arrived yet counts with its stored list only
/// if that is the one it means; while it has not listed its files, what it last said stands as if it were dead.
fn word_of<'a>(said: Option<&'a Announcement>, stored: Option<&'a StoredNode>) -> Option<Word<'a>> {
    let as_stored = |alive| stored.map(|stored| Word { known: &stored.known, alive, changed: stored.changed });
    match said {
        None => as_stored(false),
        Some(said) if said.known_digest == UNLISTED => as_stored(false),
        Some(Announcement { known: Some(known), .. }) => Some(Word { known, alive: true, changed: 0 }),
        Some(said) if stored.is_some_and(|stored| stored.known_digest == said.known_digest) => as_stored(true),
        Some(_) => None,
    }
}

/// The entry of a day; there is at least one saying.
fn entry(sayings: &[Saying]) -> Entry {
    let live_votes = |id: PartitionId| sayings.iter().filter(|s| s.alive && s.known.id == id).count();
    let chosen = sayings
        .iter()
        .max_by_key(|saying| (live_votes(saying.known.id), saying.changed, saying.known.id))
        .expect("a day is listed because somebody said it");
    let id = chosen.known.id;
    let agreeing: Vec<&Saying> = sayings.iter().filter(|saying| saying.known.id == id).collect();
    let stats: Option<&PartitionStats> = agreeing.iter().find_map(|saying| saying.known.stats.as_ref());
    // Of the dead only those who agree: what they have is another partition for good, as far as anybody can tell.
    let knowers = sayings.iter().filter(|saying| saying.alive || saying.known.id == id);
    let knowers: BTreeSet<&NodeId> = knowers.map(|saying| saying.node).collect();
    Entry {
        known: KnownPartition { id, csv_bytes: chosen.known.csv_bytes, stats: stats.cloned() },
        team: chosen.team.clone(),
        knowers: knowers.into_iter().cloned().collect(),
    }
}

fn version(partitions: &BTreeMap<Date, Entry>, expected: &Expected) -> u128 {
    let mut text = String::new();
    for entry in partitions.values() {
        text.push_str(&format!("{}\n", entry.known.id));
    }
    for (team, range) in &expected.ranges {
        text.push_str(&format!("{team} {}..{}\n", range.from, range.to));
    }
    xxh3_128(text.as_bytes())
}

/// What every node last said of its partitions, kept on the Leader's disk so that the dead are not forgotten with it.
/// It belongs to one fingerprint; under another one start with an empty one. At most one entry per configured member
/// is kept by a caller that offers only accepted announcements.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredManifest {
    /// Counts the changes.
    changes: u64,
    nodes: BTreeMap<NodeId, StoredNode>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredNode {
    incarnation: u64,
    sequence: u64,
    known_digest: u64,
    /// The count of changes when its list last changed.
    changed: u64,
    known: Vec<KnownPartition>,
    holds: Vec<PartitionId>,
}

impl StoredManifest {
    /// Takes in what a node says now, in place of all it said before. True if there is something new to be written to
    /// disk: that the node is still there is not. An announcement whose list has not arrived changes nothing; its
    /// holds come with the list.
    pub fn replace(&mut self, announcement: &Announcement) -> bool {
        if announcement.known_digest == UNLISTED {
            return false;
        }
        let before = self.nodes.get_mut(&announcement.origin);
        let same_list = before.as_ref().is_some_and(|before| before.known_digest == announcement.known_digest);
        if let Some(before) = before
            && same_list
        {
            (before.incarnation, before.sequence) = announcement.number();
            if before.holds == *announcement.holds {
                return false;
            }
            before.holds = announcement.holds.to_vec();
            self.changes += 1;
            return true;
        }
        let Some(known) = &announcement.known else { return false };
        self.changes += 1;
        let node = StoredNode {
            incarnation: announcement.incarnation,
            sequence: announcement.sequence,
            known_digest: announcement.known_digest,
            changed: self.changes,
            known: known.to_vec(),
            holds: announcement.holds.to_vec(),
        };
        self.nodes.insert(announcement.origin.clone(), node);
        true
    }

    /// Counts the changes that this process and those before it have seen: as long as it stays, so does what is stored, but
    /// for how often the nodes said it.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Who held the partition when last heard, by id: to name whose loss made a hole.
    pub fn last_holders(&self, partition: &PartitionId) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.holds.contains(partition)).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
