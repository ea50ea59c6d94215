//! Where each partition should be, computed by the Leader and carried by its announcement. It sees configured members
//! whether alive or not, so that a node's death moves nothing; making it so is the work of each node.
//!
//! Rendezvous hashing with bounded load. Each member of the team scores each date by a hash, and the best scores get
//! the partition, unless a member is already at its fair share of the team's bytes. A member thus ends with less than
//! its fair share plus one partition (with n replicas plus n: the last partitions may find all others full). The score depends on the date, not on the digest: a day that is ingested again
//! stays where it is. Partitions are handed out in an order that is also a hash of the date, so a partition more or
//! less shifts the bound only a little for those after it.
//!
//! Replicas: two members *share fate* if one node's loss cuts both off from the Leader. In the tree of cut nodes two
//! members share fate exactly if they hang from the same child of the Leader; so whichever member is taken first, if
//! any two members do not share fate, one is left that does not share the first one's. Picking one replica after the
//! other finds it; it is preferred over balance.
//!
//! Invariant: the same input gives the same placement, on every host; a partition is held only by members of its team
//! that have its files, each at most once.

use std::collections::{BTreeMap, BTreeSet};

use overlay_ingest::PartitionId;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{NodeId, Team, Topology};

/// On how many members each partition is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replicas {
    /// On this many, at least 1, or on all that have its files if they are fewer.
    Count(u32),
    /// On every member of the team that has its files.
    All,
}

/// One partition of the manifest, as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToPlace {
    pub id: PartitionId,
    /// Its weight. Known before it is parsed, which rows are not.
    pub csv_bytes: u64,
    pub team: Team,
    /// The nodes that have its files, alive or not.
    pub knowers: Vec<NodeId>,
}

/// All that decides a placement.
#[derive(Debug, Clone)]
pub struct PlacementInput {
    /// Who computes it, and in which of its lives.
    pub leader: NodeId,
    pub incarnation: u64,
    /// The configured members that hold data, alive or not.
    pub members: BTreeMap<NodeId, Team>,
    pub partitions: Vec<ToPlace>,
    /// The links as configured, up or not.
    pub topology: Topology,
    pub replicas: Replicas,
}

/// Who should hold what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub leader: NodeId,
    pub incarnation: u64,
    /// Digest of holders and homeless: equal versions say the same, whoever computed them.
    pub version: u64,
    /// The holders of each partition, in the order of preference.
    pub holders: BTreeMap<PartitionId, Vec<NodeId>>,
    /// Partitions that no member of their team has the files of.
    pub homeless: Vec<PartitionId>,
}

impl Placement {
    /// What a node should hold, by id.
    pub fn holds(&self, node: &NodeId) -> Vec<PartitionId> {
        self.holders.iter().filter(|(_, holders)| holders.contains(node)).map(|(id, _)| *id).collect()
    }
}

/// Computes the placement.
pub fn place(input: &PlacementInput) -> Placement {
    let cut_nodes = cut_nodes(input);
    let mut fair_shares: BTreeMap<&Team, u64> = BTreeMap::new();
    for team in input.members.values() {
        fair_shares.entry(team).or_insert_with(|| fair_share(input, team));
    }
    let mut partitions: Vec<&ToPlace> = input.partitions.iter().collect();
    partitions.sort_by_key(|partition| (hash(&[partition.id.date.days()], ""), partition.id));
    let mut bytes_held: BTreeMap<&NodeId, u64> = BTreeMap::new();
    let mut holders = BTreeMap::new();
    let mut homeless = Vec::new();
    for partition in partitions {
        let eligible: BTreeSet<&NodeId> = partition
            .knowers
            .iter()
            .filter_map(|knower| input.members.get_key_value(knower))
            .filter(|(_, team)| **team == partition.team)
            .map(|(member, _)| member)
            .collect();
        if eligible.is_empty() {
            homeless.push(partition.id);
            continue;
        }
        let wanted = match input.replicas {
            Replicas::All => eligible.len(),
            Replicas::Count(count) => eligible.len().min(count.max(1) as usize),
        };
        let fair_share = fair_shares.get(&partition.team).copied().unwrap_or(0);
        let mut chosen: Vec<NodeId> = Vec::with_capacity(wanted);
        // The cut nodes that stand between the Leader and every replica chosen so far.
        let mut shared: Option<BTreeSet<NodeId>> = None;
        while chosen.len() < wanted {
            let best = eligible.iter().filter(|member| !chosen.contains(member)).min_by_key(|member| {
                let shares_fate =
                    shared.as_ref().is_some_and(|s| !s.is_empty() && !s.is_disjoint(&cut_nodes[**member]));
                let held = bytes_held.get(*member).copied().unwrap_or(0);
                // Beyond every fair share, which happens where files are not everywhere, the least loaded is best.
                let excess = if held < fair_share { 0 } else { held };
                let score = hash(&[partition.id.date.days()], member.as_str());
                (shares_fate, excess, u64::MAX - score, **member)
            });
            let best = *best.expect("fewer are chosen than are eligible");
            shared = Some(match shared {
                None => cut_nodes[best].clone(),
                Some(shared) => &shared & &cut_nodes[best],
            });
            *bytes_held.entry(best).or_default() += partition.csv_bytes;
            chosen.push(best.clone());
        }
        holders.insert(partition.id, chosen);
    }
    homeless.sort();
    Placement {
        leader: input.leader.clone(),
        incarnation: input.incarnation,
        version: version(&holders, &homeless),
        holders,
        homeless,
    }
}

/// Bytes of the team times replicas, divided by the members of the team.
fn fair_share(input: &PlacementInput, team: &Team) -> u64 {
    let members = input.members.values().filter(|other| *other == team).count().max(1) as u64;
    let bytes =
        input.partitions.iter().filter(|p| p.team == *team).fold(0u64, |sum, p| sum.saturating_add(p.csv_bytes));
    match input.replicas {
        Replicas::All => bytes,
        Replicas::Count(count) => (bytes / members).saturating_mul(u64::from(count.max(1)).min(members)),
    }
}

/// For each member, the nodes whose loss cuts it off from the Leader: itself, and every cut node on the way. Empty for
/// the Leader, whose own loss ends the query anyway.
fn cut_nodes(input: &PlacementInput) -> BTreeMap<&NodeId, BTreeSet<NodeId>> {
    let reachable = input.topology.reachable(&input.leader);
    let mut cut: BTreeMap<&NodeId, BTreeSet<NodeId>> =
        input.members.keys().map(|member| (member, BTreeSet::from([member.clone()]))).collect();
    cut.insert(&input.leader, BTreeSet::new());
    for lost in reachable.iter().filter(|node| **node != input.leader) {
        let left = input.topology.among(&|node| node != lost).reachable(&input.leader);
        for (member, nodes) in &mut cut {
            if reachable.contains(*member) && !left.contains(*member) {
                nodes.insert(lost.clone());
            }
        }
    }
    cut
}

fn hash(numbers: &[i32], text: &str) -> u64 {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.extend_from_slice(text.as_bytes());
    xxh3_64(&bytes)
}

fn version(holders: &BTreeMap<PartitionId, Vec<NodeId>>, homeless: &[PartitionId]) -> u64 {
    let text = serde_json::to_vec(&(holders, homeless)).expect("partition ids are written as text");
    xxh3_64(&text)
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
