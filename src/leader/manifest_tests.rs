use std::sync::Arc;

use super::*;
use crate::routing::known::known_digest;
use crate::routing::{Load, NodeState};

/// Green (B, C) owns 20200810..20200812, pink (D) 20200813..20200814.
fn expected() -> Expected {
    let range = |from: &str, to: &str| DateRange { from: from.parse().unwrap(), to: to.parse().unwrap() };
    Expected {
        members: [("B", "green"), ("C", "green"), ("D", "pink")].map(|(id, team)| (id.into(), team.into())).into(),
        ranges: BTreeMap::from([
            ("green".into(), range("20200810", "20200812")),
            ("pink".into(), range("20200813", "20200814")),
        ]),
    }
}

/// `"10:1"` is the partition of 10 August with digest 1.
fn id(text: &str) -> PartitionId {
    let (day, digest) = text.split_once(':').unwrap();
    PartitionId { date: format!("202008{day}").parse().unwrap(), digest: digest.parse().unwrap() }
}

fn ids(text: &str) -> Vec<PartitionId> {
    text.split_whitespace().map(id).collect()
}

/// What a node says: what it knows, and that it holds the same.
fn says(node: &str, known: &str) -> Announcement {
    let holds = Arc::new(ids(known));
    let known = holds.iter().map(|id| KnownPartition { id: *id, csv_bytes: 5, stats: None }).collect::<Vec<_>>();
    Announcement {
        origin: node.into(),
        incarnation: 1,
        sequence: 1,
        state: NodeState::Ready,
        links: Vec::new(),
        known_digest: known_digest(&known),
        known: Some(Arc::new(known)),
        holds,
        on_disk: Arc::default(),
        load: Load::default(),
        placement: None,
    }
}

fn stored(said: &[Announcement]) -> StoredManifest {
    let mut stored = StoredManifest::default();
    for announcement in said {
        assert!(stored.replace(announcement));
    }
    stored
}

/// `"10:1 BC | 13:1 D"`, then what is unheard and in conflict.
fn show(manifest: &Manifest) -> String {
    let join = |nodes: &[NodeId]| nodes.iter().map(NodeId::as_str).collect::<String>();
    let entries: Vec<String> = manifest
        .partitions
        .values()
        .map(|e| format!("{}:{} {}", e.known.id.date.ymd().2, e.known.id.digest, join(&e.knowers)))
        .collect();
    let mut shown = entries.join(" | ");
    if !manifest.unheard.is_empty() {
        shown += &format!("; unheard {}", join(&manifest.unheard));
    }
    for (date, sayings) in &manifest.conflicts {
        let sayings: Vec<String> = sayings.iter().map(|(node, id)| format!("{node}={}", id.digest)).collect();
        shown += &format!("; conflict {} {}", date.ymd().2, sayings.join(" "));
    }
    shown
}

fn check(alive: &[Announcement], dead: &[Announcement], shown: &str) {
    assert_eq!(show(&Manifest::build(&expected(), alive, &stored(dead))), shown);
}

#[test]
fn the_list_is_what_all_members_say() {
    let all = [says("B", "10:1 11:1"), says("C", "10:1 11:1 12:1"), says("D", "13:1")];
    check(&all, &[], "10:1 BC | 11:1 BC | 12:1 C | 13:1 D");
    check(&all[..2], &all[2..], "10:1 BC | 11:1 BC | 12:1 C | 13:1 D");
    check(&all[..2], &[], "10:1 BC | 11:1 BC | 12:1 C; unheard D");
    check(&[], &[], "; unheard BCD");
    check(&[says("B", ""), says("C", ""), says("D", "")], &[], "");
    check(&[says("B", ""), says("C", ""), says("D", ""), says("A", "10:1")], &[], "");
}

#[test]
fn days_of_other_teams_are_ignored() {
    check(&[says("B", "10:1 13:9"), says("C", "09:1 15:1"), says("D", "12:7 13:1")], &[], "10:1 B | 13:1 D");
}

#[test]
fn the_living_beat_the_dead_and_two_living_words_are_a_conflict() {
    let d = says("D", "");
    check(&[says("B", "10:1"), d.clone()], &[says("C", "10:2 11:2")], "10:1 B | 11:2 C");
    check(&[says("B", "10:1"), says("C", "10:2"), d.clone()], &[], "10:2 BC; conflict 10 B=1 C=2");
    check(&[says("B", "10:1 10:2"), says("C", "10:1"), d.clone()], &[], "10:1 BC; conflict 10 B=1 B=2 C=1");
    check(std::slice::from_ref(&d), &[says("B", "10:1"), says("C", "10:2")], "10:2 C");
    check(std::slice::from_ref(&d), &[says("C", "10:2"), says("B", "10:1")], "10:1 B");
    // The dead agree with the living: they have the files too.
    check(&[says("B", "10:1"), d], &[says("C", "10:1")], "10:1 BC");
}

#[test]
fn a_live_node_without_its_list_counts_as_it_means() {
    let without_list = |announcement: &Announcement| Announcement { known: None, ..announcement.clone() };
    let unlisted = |node| Announcement { known_digest: UNLISTED, known: None, ..says(node, "") };
    let (b, c, d) = (says("B", "10:1"), says("C", "10:2"), says("D", ""));
    check(&[b.clone(), without_list(&c), d.clone()], &[], "10:1 B; unheard C");
    check(&[b.clone(), without_list(&c), d.clone()], &[says("C", "11:1")], "10:1 B; unheard C");
    check(&[b.clone(), without_list(&c), d.clone()], std::slice::from_ref(&c), "10:2 BC; conflict 10 B=1 C=2");
    check(&[b.clone(), unlisted("C"), d.clone()], &[c], "10:1 B");
    check(&[b, unlisted("C"), d], &[], "10:1 B; unheard C");
}

#[test]
fn the_version_is_of_the_ids_and_the_dates() {
    let version = |expected: &Expected, alive: &[Announcement]| {
        Manifest::build(expected, alive, &StoredManifest::default()).version
    };
    let base = version(&expected(), &[says("B", "10:1 11:1")]);
    assert_eq!(base, version(&expected(), &[says("C", "11:1"), says("B", "10:1")]), "whoever says it");
    assert_ne!(base, version(&expected(), &[says("B", "10:1 11:2")]));
    assert_ne!(base, version(&expected(), &[says("B", "10:1")]));
    let mut longer = expected();
    longer.ranges.get_mut(&Team::from("pink")).unwrap().to = "20200815".parse().unwrap();
    assert_ne!(base, version(&longer, &[says("B", "10:1 11:1")]));
}

#[test]
fn statistics_that_somebody_has_are_used() {
    let mut counted = says("C", "10:1");
    let known = counted.known.as_ref().unwrap()[0].clone();
    let stats = PartitionStats { rows: 9, ..PartitionStats::default() };
    counted.known = Some(Arc::new(vec![KnownPartition { stats: Some(stats.clone()), ..known }]));
    let alive = [says("B", "10:1"), counted, says("D", "")];
    let manifest = Manifest::build(&expected(), &alive, &StoredManifest::default());
    let entry = manifest.within(expected().ranges[&Team::from("green")]).next().unwrap();
    assert_eq!(entry.known.stats, Some(stats));
    assert_eq!(manifest.within(expected().ranges[&Team::from("pink")]).count(), 0);
}

#[test]
fn an_announcement_replaces_all_that_was_stored_of_its_node() {
    let mut stored = stored(&[says("B", "10:1 11:1"), says("C", "10:1")]);
    assert_eq!(stored.last_holders(&id("10:1")), ["B", "C"].map(NodeId::from));
    let later = Announcement { sequence: 9, ..says("B", "10:1 11:1") };
    assert!(!stored.replace(&later), "being alive is not worth a write");
    let moved = Announcement { known: None, holds: Arc::new(ids("11:1")), ..later };
    assert!(stored.replace(&moved), "holds changed");
    assert_eq!(stored.last_holders(&id("10:1")), [NodeId::from("C")]);
    let pending = Announcement { known: None, ..says("B", "12:1") };
    assert!(!stored.replace(&pending), "its list is not here yet");
    assert!(!stored.replace(&Announcement { known_digest: UNLISTED, ..pending }));
    assert_eq!(stored.last_holders(&id("11:1")), [NodeId::from("B")]);
    assert!(stored.replace(&says("B", "12:1")));
    assert!(stored.last_holders(&id("11:1")).is_empty());
    let text = serde_json::to_string(&stored).unwrap();
    assert_eq!(serde_json::from_str::<StoredManifest>(&text).unwrap(), stored);
    let manifest = Manifest::build(&expected(), [], &stored);
    assert_eq!(show(&manifest), "10:1 C | 12:1 B; unheard D");
}
