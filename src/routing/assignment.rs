//! Who scans what, once: from a snapshot of the overlay to orders, each a path and the partitions at its end; and how
//! a node on the way splits the orders it is handed. The strategy picks among holders and orders the hops; what a
//! holder answers, and whether zones of it were accepted already, is not known here.
//!
//! A retry is a new assignment of what is missing, with what was tried. Each holder is asked once for a partition, and
//! once more over another path; a holder not asked yet goes before one that was. So a partition is assigned at most
//! twice per holder, and retries end.
//!
//! Invariants: a partition is in at most one order of an assignment; each of the others is `unassigned`. Paths use
//! links of the snapshot between live nodes, and none that was found broken.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use overlay_ingest::PartitionId;

use super::forwarding::Candidate;
use super::path::shortest;
use super::{Announcements, Forwarding, Link, Load, NodeId, NodeState, Path, Role, Team, Topology};

/// What is known of one node.
#[derive(Debug, Clone)]
pub struct NodeView {
    pub team: Option<Team>,
    pub role: Role,
    pub holds: Arc<HashSet<PartitionId>>,
    pub load: Load,
    /// Whether it may be given work and be crossed.
    pub alive: bool,
}

/// The overlay as the reader sees it at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Who asks; it counts as alive.
    pub reader: NodeId,
    /// Links that are up.
    pub topology: Topology,
    pub nodes: BTreeMap<NodeId, NodeView>,
}

impl Snapshot {
    /// What the announcements say of the configured nodes. A draining node gets no new work.
    pub fn of<'a>(
        reader: NodeId,
        configured: impl IntoIterator<Item = (&'a NodeId, &'a Team, Role)>,
        announcements: &Announcements,
    ) -> Snapshot {
        let nodes = configured.into_iter().map(|(node, team, role)| {
            let said = announcements.get(node);
            let view = NodeView {
                team: Some(team.clone()),
                role,
                holds: said.map(|said| Arc::new(said.holds.iter().copied().collect())).unwrap_or_default(),
                load: said.map(|said| said.load).unwrap_or_default(),
                alive: said.is_some_and(|said| said.state != NodeState::Draining),
            };
            (node.clone(), view)
        });
        Snapshot { nodes: nodes.collect(), topology: announcements.topology(), reader }
    }

    fn is_up(&self, node: &NodeId) -> bool {
        *node == self.reader || self.nodes.get(node).is_some_and(|view| view.alive)
    }
}

/// Partitions to be scanned at the end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// From the reader to the holder, both included; it stays whole at every hop.
    pub path: Path,
    /// By id.
    pub partitions: Vec<PartitionId>,
}

/// The decision for one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// In the order in which they are asked: at every node first its own, then branch by branch.
    pub orders: Vec<Order>,
    /// How many next hops each node keeps in flight.
    pub in_flight: usize,
    /// Partitions without a live holder that can be reached and was not tried in every way.
    pub unassigned: Vec<PartitionId>,
}

/// What the earlier attempts of one leaf have shown. At most two paths are kept per partition and holder.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    paths: HashMap<(PartitionId, NodeId), Vec<Path>>,
    refused: HashSet<(PartitionId, NodeId)>,
    broken: BTreeSet<Link>,
}

impl Tried {
    /// These orders were sent, and not answered in full. What a limit cut short is not recorded: nobody failed.
    pub fn record(&mut self, orders: &[Order]) {
        for order in orders {
            for partition in &order.partitions {
                let paths = self.paths.entry((*partition, order.path.holder().clone())).or_default();
                paths.push(order.path.clone());
            }
        }
    }

    /// The link failed: no path of this query uses it again.
    pub fn broke(&mut self, link: Link) {
        self.broken.insert(link);
    }

    /// The holder answered that it lacks the partition: another path would lead to the same answer.
    pub fn refused(&mut self, partition: PartitionId, holder: NodeId) {
        self.refused.insert((partition, holder));
    }

    /// The links found broken.
    pub fn broken(&self) -> &BTreeSet<Link> {
        &self.broken
    }
}

/// Assigns each of the partitions to one live holder and a path to it. `turn` is the number of the query at the
/// Leader.
pub fn assign(
    snapshot: &Snapshot,
    partitions: &[PartitionId],
    forwarding: &dyn Forwarding,
    asynchronous: bool,
    turn: u64,
    tried: &Tried,
) -> Assignment {
    let mut routes = Routes::new(snapshot, &tried.broken);
    let mut by_path: BTreeMap<Path, Vec<PartitionId>> = BTreeMap::new();
    let mut unassigned = Vec::new();
    // What this assignment gives to each holder: it will have that to do too.
    let mut given: HashMap<NodeId, u32> = HashMap::new();
    for partition in partitions.iter().copied().collect::<BTreeSet<_>>() {
        let mut fresh: Vec<(Candidate, Path)> = Vec::new();
        let mut again: Vec<(Candidate, Path)> = Vec::new();
        for (node, view) in &snapshot.nodes {
            let key = (partition, node.clone());
            if !snapshot.is_up(node) || !view.holds.contains(&partition) || tried.refused.contains(&key) {
                continue;
            }
            let (ways, path) = match tried.paths.get(&key).map(Vec::as_slice).unwrap_or_default() {
                [] => (&mut fresh, routes.first(node)),
                [first] => (&mut again, routes.other_than(first)),
                _ => continue,
            };
            if let Some(path) = path {
                let queued = view.load.queued.saturating_add(given.get(node).copied().unwrap_or(0));
                let load = Load { queued, ..view.load };
                ways.push((Candidate { node: node.clone(), load, hops: path.hops() }, path));
            }
        }
        let (candidates, paths): (Vec<Candidate>, Vec<Path>) =
            if fresh.is_empty() { again } else { fresh }.into_iter().unzip();
        if candidates.is_empty() {
            unassigned.push(partition);
            continue;
        }
        let holder = forwarding.holder(turn, &candidates);
        *given.entry(holder.node.clone()).or_default() += 1;
        let path = paths.into_iter().find(|path| *path.holder() == holder.node);
        by_path.entry(path.expect("the holder is one of the candidates")).or_default().push(partition);
    }
    let orders = by_path.into_iter().map(|(path, partitions)| Order { path, partitions }).collect();
    Assignment {
        orders: in_asking_order(snapshot, forwarding, turn, 0, &snapshot.reader, orders),
        in_flight: forwarding.in_flight(asynchronous),
        unassigned,
    }
}

/// The orders of the tree below `node`, which is `depth` hops from the reader: its own, then branch by branch.
fn in_asking_order(
    snapshot: &Snapshot,
    forwarding: &dyn Forwarding,
    turn: u64,
    depth: usize,
    node: &NodeId,
    orders: Vec<Order>,
) -> Vec<Order> {
    let mut sorted = Vec::with_capacity(orders.len());
    let mut branches: BTreeMap<NodeId, Vec<Order>> = BTreeMap::new();
    for order in orders {
        match order.path.next_after(node).cloned() {
            None => sorted.push(order),
            Some(next) => branches.entry(next).or_default().push(order),
        }
    }
    let load = |node: &NodeId| snapshot.nodes.get(node).map(|view| view.load).unwrap_or_default();
    let mut next_hops: Vec<Candidate> =
        branches.keys().map(|next| Candidate { node: next.clone(), load: load(next), hops: depth + 1 }).collect();
    forwarding.order(turn, &mut next_hops);
    for next in next_hops {
        let below = branches.remove(&next.node).unwrap_or_default();
        sorted.extend(in_asking_order(snapshot, forwarding, turn, depth + 1, &next.node, below));
    }
    sorted
}

/// Paths from the reader over live nodes, found once per holder.
struct Routes<'a> {
    snapshot: &'a Snapshot,
    usable: Topology,
    first: HashMap<NodeId, Option<Path>>,
    other: HashMap<Path, Option<Path>>,
}

impl<'a> Routes<'a> {
    fn new(snapshot: &'a Snapshot, broken: &BTreeSet<Link>) -> Routes<'a> {
        let usable = snapshot.topology.without(broken).among(&|node| snapshot.is_up(node));
        Routes { snapshot, usable, first: HashMap::new(), other: HashMap::new() }
    }

    /// The best path to a holder.
    fn first(&mut self, holder: &NodeId) -> Option<Path> {
        if let Some(found) = self.first.get(holder) {
            return found.clone();
        }
        let found = self.search(holder, &BTreeSet::new());
        self.first.insert(holder.clone(), found.clone());
        found
    }

    /// The best path to the same holder that is not this one. A path that is not this one lacks at least one of its
    /// links; so the best of the paths that avoid one link each is the best of all.
    fn other_than(&mut self, tried: &Path) -> Option<Path> {
        if let Some(found) = self.other.get(tried) {
            return found.clone();
        }
        let found = match self.first(tried.holder()) {
            Some(best) if best != *tried => Some(best),
            _ => tried
                .links()
                .filter_map(|link| self.search(tried.holder(), &BTreeSet::from([link])))
                .min_by_key(|path| (path.hops(), path.clone())),
        };
        self.other.insert(tried.clone(), found.clone());
        found
    }

    fn search(&self, holder: &NodeId, avoid: &BTreeSet<Link>) -> Option<Path> {
        let team_of = |node: &NodeId| self.snapshot.nodes.get(node).and_then(|view| view.team.as_ref());
        let team = team_of(holder);
        shortest(&self.usable, &self.snapshot.reader, holder, &|node| team.is_some() && team_of(node) == team, avoid)
    }
}

/// The orders of one node, split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What the node scans itself, by id.
    pub own: Vec<PartitionId>,
    /// What it passes on, in asking order.
    pub branches: Vec<Branch>,
    /// Orders whose path does not name this node; they were sent here by mistake and must be refused by name.
    pub stray: Vec<Order>,
}

/// What one next hop is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub next: NodeId,
    pub orders: Vec<Order>,
}

/// Splits orders at a node of their paths. The order of branches is that of the first order of each.
pub fn split(me: &NodeId, orders: Vec<Order>) -> Split {
    let mut own = BTreeSet::new();
    let mut branches: Vec<Branch> = Vec::new();
    let mut stray = Vec::new();
    for order in orders {
        if !order.path.nodes().contains(me) {
            stray.push(order);
            continue;
        }
        let Some(next) = order.path.next_after(me).cloned() else {
            own.extend(order.partitions);
            continue;
        };
        match branches.iter_mut().find(|branch| branch.next == next) {
            Some(branch) => branch.orders.push(order),
            None => branches.push(Branch { next, orders: vec![order] }),
        }
    }
    Split { own: own.into_iter().collect(), branches, stray }
}

#[cfg(test)]
#[path = "assignment_tests.rs"]
mod tests;
