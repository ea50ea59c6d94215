//! Which links are up, as a set of unordered pairs. It answers who is next to whom and what can be reached; it does
//! not know why a link is up (announced by both ends, configured, adopted) and picks no path.
//!
//! Invariant: a link is held once whichever end is named first, and no node is linked to itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use super::NodeId;

/// Two nodes that can speak to each other, in id order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    low: NodeId,
    high: NodeId,
}

impl Link {
    /// The link between two nodes; the order in which they are named does not matter.
    pub fn between(a: &NodeId, b: &NodeId) -> Link {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        Link { low: low.clone(), high: high.clone() }
    }

    /// Both ends, the lower id first.
    pub fn ends(&self) -> (&NodeId, &NodeId) {
        (&self.low, &self.high)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

/// A set of links. A node without links is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    neighbors: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl Topology {
    /// The nodes one hop away, in id order.
    pub fn neighbors(&self, node: &NodeId) -> impl Iterator<Item = &NodeId> {
        self.neighbors.get(node).into_iter().flatten()
    }

    /// Whether the link is up.
    pub fn contains(&self, link: &Link) -> bool {
        self.neighbors.get(&link.low).is_some_and(|others| others.contains(&link.high))
    }

    /// Every link once, in order.
    pub fn links(&self) -> impl Iterator<Item = Link> {
        self.neighbors.iter().flat_map(|(low, others)| {
            others.iter().filter(move |high| low < high).map(move |high| Link::between(low, high))
        })
    }

    /// Adds a link. False if it was there, or if both ends are the same node, which is no link.
    pub fn insert(&mut self, link: Link) -> bool {
        if link.low == link.high {
            return false;
        }
        self.neighbors.entry(link.high.clone()).or_default().insert(link.low.clone());
        self.neighbors.entry(link.low).or_default().insert(link.high)
    }

    /// Takes a link away. False if it was not there.
    pub fn remove(&mut self, link: &Link) -> bool {
        let was_there = self.contains(link);
        for (end, other) in [(&link.low, &link.high), (&link.high, &link.low)] {
            if let Some(others) = self.neighbors.get_mut(end) {
                others.remove(other);
                if others.is_empty() {
                    self.neighbors.remove(end);
                }
            }
        }
        was_there
    }

    /// The topology that is left when these links are down.
    pub fn without(&self, broken: &BTreeSet<Link>) -> Topology {
        self.links().filter(|link| !broken.contains(link)).collect()
    }

    /// The topology that is left when only these nodes are up.
    pub fn among(&self, is_up: &dyn Fn(&NodeId) -> bool) -> Topology {
        self.links().filter(|link| is_up(&link.low) && is_up(&link.high)).collect()
    }

    /// Every node that can be reached, `from` itself included.
    pub fn reachable(&self, from: &NodeId) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::from([from.clone()]);
        let mut to_visit = VecDeque::from([from]);
        while let Some(node) = to_visit.pop_front() {
            for neighbor in self.neighbors(node) {
                if seen.insert(neighbor.clone()) {
                    to_visit.push_back(neighbor);
                }
            }
        }
        seen
    }

    /// The nodes in groups that can reach each other, in order of each group's lowest id. Nodes named here but
    /// without a link are groups of one.
    pub fn components<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> Vec<BTreeSet<NodeId>> {
        let nodes: BTreeSet<&NodeId> = nodes.into_iter().collect();
        let mut components: Vec<BTreeSet<NodeId>> = Vec::new();
        for node in nodes {
            if !components.iter().any(|component| component.contains(node)) {
                components.push(self.reachable(node));
            }
        }
        components
    }
}

impl FromIterator<Link> for Topology {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Topology {
        let mut topology = Topology::default();
        for link in links {
            topology.insert(link);
        }
        topology
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::names;
    use super::*;

    /// `"A-B A-E"` as a topology; ids hold no `-` in tests.
    pub(crate) fn topology(text: &str) -> Topology {
        text.split_whitespace().map(link).collect()
    }

    /// `"A-B"` as a link.
    pub(crate) fn link(text: &str) -> Link {
        let (a, b) = text.split_once('-').expect("a test link has two ends");
        Link::between(&a.into(), &b.into())
    }

    /// A connected graph of `nodes` nodes `a`, `b`, … with a random tree and up to `extra` more links.
    pub(crate) fn random_connected(random: &mut fastrand::Rng, nodes: usize, extra: usize) -> Topology {
        let ids: Vec<NodeId> = ('a'..='z').take(nodes).map(|c| c.to_string().as_str().into()).collect();
        let mut topology = Topology::default();
        for i in 1..nodes {
            topology.insert(Link::between(&ids[i], &ids[random.usize(..i)]));
        }
        for _ in 0..extra {
            topology.insert(Link::between(&ids[random.usize(..nodes)], &ids[random.usize(..nodes)]));
        }
        topology
    }

    const ONE_HOST: &str = "A-B A-E B-C B-D D-E E-F";

    #[test]
    fn a_link_has_no_direction() {
        let mut topology = topology("B-A A-B");
        assert_eq!(topology.links().map(|l| l.to_string()).collect::<Vec<_>>(), ["A-B"]);
        assert!(!topology.insert(link("B-A")));
        assert!(!topology.insert(link("A-A")), "a node is not its own neighbor");
        assert!(topology.contains(&link("B-A")));
        assert!(topology.remove(&link("B-A")));
        assert!(!topology.remove(&link("A-B")));
        assert_eq!(topology, Topology::default());
    }

    #[test]
    fn neighbors_come_in_id_order_and_reach_follows_links() {
        let topology = topology(ONE_HOST);
        assert_eq!(names(topology.neighbors(&"B".into()), " "), "A C D");
        assert_eq!(names(topology.neighbors(&"X".into()), " "), "");
        assert_eq!(names(&topology.reachable(&"F".into()), " "), "A B C D E F");
        let cut = topology.without(&BTreeSet::from([link("E-F"), link("A-E"), link("D-E")]));
        assert_eq!(names(&cut.reachable(&"E".into()), " "), "E");
        assert_eq!(names(&cut.reachable(&"A".into()), " "), "A B C D");
        let nodes: Vec<NodeId> = ["F", "A", "E", "D"].map(NodeId::from).into();
        assert_eq!(
            cut.components(&nodes).iter().map(|group| names(group, " ")).collect::<Vec<_>>(),
            ["A B C D", "E", "F"]
        );
        assert_eq!(names(&topology.among(&|node| node.as_str() != "E").reachable(&"A".into()), " "), "A B C D");
    }
}
