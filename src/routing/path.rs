//! Paths over the overlay, and the one rule by which they are chosen. The rule sees a topology, never load or data:
//! so everyone who has the same snapshot finds the same path.
//!
//! Rule: fewest hops; among those, most preferred nodes on the way; among those, the lexicographically first.
//! Argument: nodes are settled layer by layer. Hops and preferred nodes add up along a path, and paths of one layer
//! have equal length; so the best path to a node is the best path to one of its neighbors in the layer before, plus
//! one step, and keeping only the best path of each node loses nothing. A node is settled once: cycles end there.
//!
//! Invariant: a `Path` is never empty and names no node twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Link, NodeId, Topology};

/// The nodes from the reader to the holder, both included; one node if the reader holds the data itself.
/// Written `A → E → F`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<NodeId>", into = "Vec<NodeId>")]
pub struct Path(Vec<NodeId>);

/// The nodes are not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("the path names no node")]
    Empty,
    #[error("the path {path} names {node} twice")]
    Loop { path: String, node: NodeId },
}

impl Path {
    /// The path of a reader that is also the holder.
    pub fn only(node: NodeId) -> Path {
        Path(vec![node])
    }

    /// The nodes in order.
    pub fn nodes(&self) -> &[NodeId] {
        &self.0
    }

    /// Where the path starts.
    pub fn reader(&self) -> &NodeId {
        self.0.first().expect("a path is never empty")
    }

    /// Where the path ends.
    pub fn holder(&self) -> &NodeId {
        self.0.last().expect("a path is never empty")
    }

    /// How many links are crossed.
    pub fn hops(&self) -> usize {
        self.0.len() - 1
    }

    /// The links crossed, from the reader on.
    pub fn links(&self) -> impl Iterator<Item = Link> {
        self.0.windows(2).map(|pair| Link::between(&pair[0], &pair[1]))
    }

    /// The node after `node`; `None` at the holder, and for a node that is not on the path.
    pub fn next_after(&self, node: &NodeId) -> Option<&NodeId> {
        let position = self.0.iter().position(|n| n == node)?;
        self.0.get(position + 1)
    }

    fn then(&self, node: &NodeId) -> Path {
        Path(self.0.iter().chain([node]).cloned().collect())
    }
}

impl TryFrom<Vec<NodeId>> for Path {
    type Error = BadPath;

    fn try_from(nodes: Vec<NodeId>) -> Result<Path, BadPath> {
        if nodes.is_empty() {
            return Err(BadPath::Empty);
        }
        let mut seen = BTreeSet::new();
        let repeated = nodes.iter().find(|node| !seen.insert(*node)).cloned();
        match repeated {
            Some(node) => Err(BadPath::Loop { path: Path(nodes).to_string(), node }),
            None => Ok(Path(nodes)),
        }
    }
}

impl From<Path> for Vec<NodeId> {
    fn from(path: Path) -> Vec<NodeId> {
        path.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, node) in self.0.iter().enumerate() {
            write!(f, "{}{node}", if i == 0 { "" } else { " → " })?;
        }
        Ok(())
    }
}

/// The path from `from` to `to` by the rule above, over links that are up and not in `avoid`; `None` if there is
/// none. Callers prefer the nodes of the holder's team, which makes its team leader the first hop into the team.
pub fn shortest(
    topology: &Topology,
    from: &NodeId,
    to: &NodeId,
    prefer: &dyn Fn(&NodeId) -> bool,
    avoid: &BTreeSet<Link>,
) -> Option<Path> {
    let mut settled: BTreeSet<NodeId> = BTreeSet::from([from.clone()]);
    let mut layer: BTreeMap<NodeId, Best> =
        BTreeMap::from([(from.clone(), Best { preferred: 0, path: Path::only(from.clone()) })]);
    while !layer.is_empty() {
        if let Some(best) = layer.remove(to) {
            return Some(best.path);
        }
        let mut next: BTreeMap<NodeId, Best> = BTreeMap::new();
        for (node, best) in &layer {
            for neighbor in topology.neighbors(node) {
                if settled.contains(neighbor) || avoid.contains(&Link::between(node, neighbor)) {
                    continue;
                }
                let preferred = best.preferred + usize::from(prefer(neighbor));
                let candidate = Best { preferred, path: best.path.then(neighbor) };
                match next.get(neighbor) {
                    Some(found) if !candidate.is_better_than(found) => {}
                    _ => drop(next.insert(neighbor.clone(), candidate)),
                }
            }
        }
        settled.extend(next.keys().cloned());
        layer = next;
    }
    None
}

/// The best path found to one node of the current layer.
struct Best {
    preferred: usize,
    path: Path,
}

impl Best {
    fn is_better_than(&self, other: &Best) -> bool {
        self.preferred > other.preferred || (self.preferred == other.preferred && self.path < other.path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::topology::tests::{link, random_connected, topology};
    use super::*;

    const ONE_HOST: &str = "A-B A-E B-C B-D D-E E-F";

    fn check(links: &str, from: &str, to: &str, preferred: &str, avoid: &str, expected: &str) {
        let avoid = avoid.split_whitespace().map(link).collect();
        let prefer = |node: &NodeId| preferred.contains(node.as_str());
        let found = shortest(&topology(links), &from.into(), &to.into(), &prefer, &avoid);
        let found = found.map_or("none".to_string(), |path| path.to_string());
        assert_eq!(found, expected, "{from} to {to} over {links}, preferring {preferred}");
    }

    #[test]
    fn few_hops_first_then_the_team_then_the_id() {
        check(ONE_HOST, "A", "D", "DEF", "", "A → E → D");
        check(ONE_HOST, "A", "D", "", "", "A → B → D");
        check(ONE_HOST, "A", "D", "BC", "", "A → B → D");
        check(ONE_HOST, "A", "D", "DEF", "A-E", "A → B → D");
        check(ONE_HOST, "A", "F", "DEF", "A-E", "A → B → D → E → F");
        check(ONE_HOST, "A", "F", "DEF", "E-F", "none");
        check(ONE_HOST, "A", "A", "", "", "A");
        check(ONE_HOST, "A", "X", "", "", "none");
        check("", "A", "B", "", "", "none");
        check("A-B B-C C-D D-E A-E", "A", "D", "BC", "", "A → E → D");
    }

    #[test]
    fn a_path_is_never_empty_and_has_no_loop() {
        let path = |text: &str| Path::try_from(text.split_whitespace().map(NodeId::from).collect::<Vec<_>>());
        assert_eq!(path(""), Err(BadPath::Empty));
        assert_eq!(path("A B A").unwrap_err().to_string(), "the path A → B → A names A twice");
        let good = path("A E F").unwrap();
        assert_eq!((good.hops(), good.reader().as_str(), good.holder().as_str()), (2, "A", "F"));
        assert_eq!(good.next_after(&"E".into()), Some(&"F".into()));
        assert_eq!((good.next_after(&"F".into()), good.next_after(&"X".into())), (None, None));
        assert!(serde_json::from_str::<Path>("[]").is_err());
        assert_eq!(serde_json::from_str::<Path>(&serde_json::to_string(&good).unwrap()).unwrap(), good);
    }

    /// Every simple path, found by walking all of them.
    fn all_paths(topology: &Topology, path: Path, to: &NodeId, found: &mut Vec<Path>) {
        if path.holder() == to {
            return found.push(path);
        }
        for neighbor in topology.neighbors(path.holder()) {
            if !path.nodes().contains(neighbor) {
                all_paths(topology, path.then(neighbor), to, found);
            }
        }
    }

    #[test]
    fn the_layered_search_finds_what_brute_force_finds() {
        for seed in 0..600 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (nodes, extra) = (random.usize(2..8), random.usize(0..9));
            let graph = random_connected(&mut random, nodes, extra);
            let ids: Vec<NodeId> = graph.reachable(&"a".into()).into_iter().collect();
            let team: BTreeSet<NodeId> = ids.iter().filter(|_| random.bool()).cloned().collect();
            let avoid: BTreeSet<Link> = graph.links().filter(|_| random.u8(..) < 30).collect();
            let to = &ids[random.usize(..ids.len())];
            let mut paths = Vec::new();
            all_paths(&graph.without(&avoid), Path::only("a".into()), to, &mut paths);
            let preferred = |path: &Path| path.nodes().iter().filter(|node| team.contains(*node)).count();
            let expected =
                paths.into_iter().min_by_key(|path| (path.hops(), usize::MAX - preferred(path), path.clone()));
            let found = shortest(&graph, &"a".into(), to, &|node| team.contains(node), &avoid);
            assert_eq!(found, expected, "seed {seed}");
        }
    }
}
