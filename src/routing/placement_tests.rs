use overlay_ingest::Date;

use super::super::topology::tests::topology;
use super::*;

/// `days` partitions of team `t` from 20200801 on, of about a million bytes, known by every member.
fn input(links: &str, leader: &str, members: &str, days: u32, replicas: Replicas) -> PlacementInput {
    let members: BTreeMap<NodeId, Team> =
        members.split_whitespace().map(|id| (NodeId::from(id), Team::from("t"))).collect();
    let first: Date = "20200801".parse().unwrap();
    let dates = std::iter::successors(Some(first), |date| Some(date.next()));
    let knowers: Vec<NodeId> = members.keys().cloned().collect();
    let partitions = dates.take(days as usize).zip(0u64..).map(|(date, i)| ToPlace {
        id: PartitionId { date, digest: u128::from(i) },
        csv_bytes: 900_000 + (i * 7919) % 200_000,
        team: "t".into(),
        knowers: knowers.clone(),
    });
    PlacementInput {
        leader: leader.into(),
        incarnation: 1,
        partitions: partitions.collect(),
        members,
        topology: topology(links),
        replicas,
    }
}

fn bytes_of(input: &PlacementInput, placement: &Placement, node: &NodeId) -> u64 {
    let held = placement.holds(node);
    input.partitions.iter().filter(|p| held.contains(&p.id)).map(|p| p.csv_bytes).sum()
}

const COMPLETE: &str = "A-B A-C A-D A-E A-F A-G B-C B-D B-E B-F C-D D-E E-F";

#[test]
fn every_partition_gets_its_replicas_and_no_member_too_much() {
    let check = |members: &str, days: u32, replicas: Replicas, each: usize| {
        let input = input(COMPLETE, "A", members, days, replicas);
        let placement = place(&input);
        assert_eq!(placement, place(&input), "the same twice");
        assert_eq!(placement.holders.len(), days as usize);
        assert!(placement.homeless.is_empty());
        for (id, holders) in &placement.holders {
            assert_eq!(holders.iter().collect::<BTreeSet<_>>().len(), holders.len(), "{id}: {holders:?}");
            assert_eq!(holders.len(), each, "{id}: {holders:?}");
        }
        let total: u64 = input.partitions.iter().map(|p| p.csv_bytes).sum();
        let fair = total * each as u64 / input.members.len() as u64;
        for member in input.members.keys() {
            let bytes = bytes_of(&input, &placement, member);
            assert!(bytes <= fair + each as u64 * 1_100_000, "{member} of {members} holds {bytes}, fair is {fair}");
        }
    };
    check("D E F", 35, Replicas::Count(1), 1);
    check("B C", 8, Replicas::Count(1), 1);
    check("B C D", 43, Replicas::Count(2), 2);
    check("B C D E F G", 400, Replicas::Count(3), 3);
    check("B C", 8, Replicas::Count(5), 2);
    check("B C D", 10, Replicas::All, 3);
    check("A", 43, Replicas::Count(1), 1);
    check("B C", 0, Replicas::Count(1), 1);
}

#[test]
fn only_members_of_the_team_that_have_the_files_hold() {
    let mut input = input(COMPLETE, "A", "B C D", 6, Replicas::Count(2));
    input.members.insert("D".into(), "other".into());
    input.partitions[0].knowers = vec!["D".into(), "X".into()];
    input.partitions[1].knowers = vec!["C".into(), "C".into(), "D".into()];
    input.partitions[2].knowers = vec![];
    input.partitions[3].team = "nobody".into();
    let placement = place(&input);
    let ids: Vec<PartitionId> = input.partitions.iter().map(|p| p.id).collect();
    assert_eq!(placement.homeless, [ids[0], ids[2], ids[3]]);
    assert_eq!(placement.holders[&ids[1]], [NodeId::from("C")]);
    assert!(placement.holds(&"D".into()).is_empty());
    assert_eq!(placement.holders[&ids[4]].len(), 2);
}

#[test]
fn a_day_that_is_ingested_again_stays_where_it_is() {
    let before = input(COMPLETE, "A", "D E F", 35, Replicas::Count(1));
    let mut after = before.clone();
    for partition in &mut after.partitions {
        partition.id.digest += 1_000_000;
    }
    let (before, after) = (place(&before), place(&after));
    assert!(before.holders.values().eq(after.holders.values()));
    assert_ne!(before.version, after.version);
}

#[test]
fn the_version_speaks_of_the_content_only() {
    let first = input(COMPLETE, "A", "D E F", 35, Replicas::Count(1));
    let mut later = first.clone();
    later.incarnation = 9;
    later.partitions.reverse();
    let (first, later) = (place(&first), place(&later));
    assert_eq!((first.version, &first.holders), (later.version, &later.holders));
    let text = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<Placement>(&text).unwrap(), first);
}

#[test]
fn replicas_do_not_share_a_cut_node_where_that_can_be_avoided() {
    let check = |links: &str, members: &str, together: &[(&str, &str)], avoidable: bool| {
        let input = input(links, "A", members, 40, Replicas::Count(2));
        let placement = place(&input);
        let both = |a: &str, b: &str| {
            placement.holders.values().filter(|h| h.contains(&a.into()) && h.contains(&b.into())).count()
        };
        for (a, b) in together {
            assert_eq!(both(a, b) == 0, avoidable, "{a} and {b} over {links}");
        }
    };
    const ONE_HOST: &str = "A-B A-E B-C B-D D-E E-F";
    check(ONE_HOST, "D E F", &[("E", "F")], true);
    check(ONE_HOST, "B C", &[("B", "C")], false);
    check("A-B B-C B-D A-E E-F", "B C D E F", &[("C", "D"), ("B", "C"), ("E", "F")], true);
    check("A-B B-C", "A B C", &[("B", "C")], true);
}

/// How many copies a node must load when the members change from one set to another.
fn copies_moved(before: &PlacementInput, after: &PlacementInput) -> usize {
    let (before, after) = (place(before), place(after));
    let new = |(id, holders): (&PartitionId, &Vec<NodeId>)| {
        holders.iter().filter(|holder| !before.holders[id].contains(holder)).count()
    };
    after.holders.iter().map(new).sum()
}

#[test]
fn a_member_more_or_less_moves_little() {
    let members = ["B", "C", "D", "E", "F", "G"];
    for count in 2..=members.len() {
        for days in [35, 100, 400] {
            let few = input(COMPLETE, "A", &members[..count - 1].join(" "), days, Replicas::Count(1));
            let many = input(COMPLETE, "A", &members[..count].join(" "), days, Replicas::Count(1));
            // Ideal is one member's share. The bound moves with the count and pushes some others along.
            let bound = days as usize / count + days as usize / 8 + 2;
            for (moved, what) in [(copies_moved(&few, &many), "added"), (copies_moved(&many, &few), "removed")] {
                println!("{days} partitions, {count} members, one {what}: {moved} moved");
                assert!(moved <= bound, "{days} partitions, {count} members, one {what}: {moved} > {bound}");
            }
        }
    }
}
