//! What two processes must agree on to be of one cluster, as a digest per key. Peers exchange it when they meet: a
//! mismatch is refused with the keys that differ, which says where to look without sending the file. What a node
//! keeps on disk is kept per fingerprint, so state of another cluster is never taken for its own.
//!
//! Not in it: paths, addresses, limits, strategies, weights and teams without days, which may differ from host to host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Config;
use crate::routing::Replicas;

/// A digest for each key that must agree. Written as 16 hexadecimal digits, which name a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, u64>);

impl Fingerprint {
    /// `protocol` and `layout` are the versions of the wire and of the files; `schema` is the table's columns and types
    /// in any form that is the same on every host.
    pub fn of(config: &Config, protocol: u32, layout: u32, schema: &str) -> Fingerprint {
        let mut keys = BTreeMap::new();
        let mut add = |key: String, value: &str| keys.insert(key, xxh3_64(value.as_bytes()));
        add("protocol".into(), &protocol.to_string());
        add("layout".into(), &layout.to_string());
        add("schema".into(), schema);
        add("dataset.name".into(), &config.dataset.name);
        add("dataset.table".into(), &config.dataset.table);
        for (name, range) in config.team_ranges() {
            add(format!("teams.{name}"), &format!("{}..{}", range.from, range.to));
        }
        let replicas = match config.replicas {
            Replicas::Count(count) => count.to_string(),
            Replicas::All => "all".to_string(),
        };
        add("replicas".into(), &replicas);
        add("adopt_links".into(), &config.adopt_links.to_string());
        for (id, process) in &config.processes {
            add(format!("processes.{id}.role"), &process.role.to_string());
            add(format!("processes.{id}.team"), process.team.as_str());
            add(format!("processes.{id}.holds_data"), &process.holds_data.to_string());
        }
        for link in config.links().links() {
            add(format!("links.{link}"), "");
        }
        Fingerprint(keys)
    }

    /// One number for all keys.
    pub fn digest(&self) -> u64 {
        let text = serde_json::to_vec(&self.0).expect("a map from text to numbers can be written");
        xxh3_64(&text)
    }

    /// The keys on which the two differ, sorted; a key that only one of them has counts.
    pub fn differences(&self, other: &Fingerprint) -> Vec<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        keys.into_iter().filter(|key| self.0.get(*key) != other.0.get(*key)).cloned().collect()
    }

    /// The digest of each key, to be sent.
    pub fn keys(&self) -> &BTreeMap<String, u64> {
        &self.0
    }

    /// A fingerprint as it was received; nothing in it is trusted but compared.
    pub fn from_keys(keys: BTreeMap<String, u64>) -> Fingerprint {
        Fingerprint(keys)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn fingerprints_differ_in_the_keys_that_must_agree() {
        let base = load("one_host.json");
        let differences = |change: &dyn Fn(&mut Config)| {
            let mut other = base.clone();
            change(&mut other);
            let (base, other) = (Fingerprint::of(&base, 1, 1, "s"), Fingerprint::of(&other, 1, 1, "s"));
            assert_eq!(base.differences(&other), other.differences(&base));
            assert_eq!(base.digest() == other.digest(), base.differences(&other).is_empty());
            base.differences(&other).join(" ")
        };
        assert_eq!(differences(&|_| {}), "");
        let addresses_and_limits = |config: &mut Config| {
            config.dataset.root = "/elsewhere".into();
            config.limits.threads = 3;
            config.strategies.chunk_size = 1;
            config.state_dir = "/state".into();
            for process in config.processes.values_mut() {
                process.host = "10.0.0.1".into();
                process.port += 1;
            }
            for team in config.teams.values_mut() {
                team.weight = 9;
            }
        };
        assert_eq!(differences(&addresses_and_limits), "");
        assert_eq!(differences(&|c| c.dataset.name = "x".into()), "dataset.name");
        assert_eq!(differences(&|c| c.dataset.table = "x".into()), "dataset.table");
        assert_eq!(differences(&|c| c.replicas = Replicas::All), "replicas");
        assert_eq!(differences(&|c| c.adopt_links = false), "adopt_links");
        assert_eq!(
            differences(&|c| c.processes.get_mut(&"A".into()).unwrap().holds_data = true),
            "processes.A.holds_data"
        );
        assert_eq!(
            differences(&|c| c.processes.get_mut(&"C".into()).unwrap().team = "pink".into()),
            "processes.C.team"
        );
        assert_eq!(
            differences(&|c| drop(c.processes.remove(&"F".into()))),
            "processes.F.holds_data processes.F.role processes.F.team"
        );
        assert_eq!(differences(&|c| c.teams.retain(|team, _| team.as_str() == "green")), "teams.pink");
        assert_eq!(differences(&|c| c.processes.get_mut(&"A".into()).unwrap().neighbors.push("F".into())), "links.A-F");
        let (a, b) = (Fingerprint::of(&base, 1, 1, "s"), Fingerprint::of(&base, 2, 3, "t"));
        assert_eq!(a.differences(&b), ["layout", "protocol", "schema"]);
        assert_eq!(Fingerprint::from_keys(b.keys().clone()), b);
        assert_eq!((a.to_string().len(), a.to_string() == b.to_string()), (16, false));
    }
}
