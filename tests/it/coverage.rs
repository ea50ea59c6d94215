//! Damage to what a node holds: whatever a query asks, it fails by name, and never gives a wrong answer.

use std::fs;
use std::path::Path;

use overlay::engine::statistics::ZoneMap;
use overlay::engine::store::{HeldPartition, Store, Zone};
use overlay::engine::typed_zones::TypedZones;
use overlay::leader::answer::QuerySpec;
use overlay_ingest::PartitionId;

use crate::asking::{range, sql};
use crate::cluster::{Cluster, Graph, Setup};
use crate::oracle::Question;
use crate::rows::assert_same;

/// Rows of every day: four zones, the last with 8 rows.
const DAY_ROWS: usize = 200;

/// Leaves the same number of rows to every day, all in its first file, so that days can be mistaken for each other.
fn level_days(root: &Path) {
    for day in fs::read_dir(root.join("data")).expect("days") {
        let day = day.expect("a day").path();
        let mut files: Vec<_> = fs::read_dir(&day).expect("files").map(|file| file.expect("a file").path()).collect();
        files.sort();
        let text: String = files.iter().map(|file| fs::read_to_string(file).expect("text")).collect();
        let lines: Vec<&str> = text.lines().take(DAY_ROWS).collect();
        assert_eq!(lines.len(), DAY_ROWS, "a day has enough rows");
        fs::write(&files[0], lines.join("\n") + "\n").expect("written");
        files[1..].iter().for_each(|file| fs::remove_file(file).expect("removed"));
    }
}

fn with_zones(partition: &HeldPartition, zones: Vec<Zone>) -> HeldPartition {
    HeldPartition {
        id: partition.id,
        map: ZoneMap::of(&zones),
        typed: TypedZones::of(&zones),
        zones,
        stats: partition.stats.clone(),
        csv_bytes: partition.csv_bytes,
        memory_bytes: partition.memory_bytes,
    }
}

/// What is done to a store that holds at least two partitions.
struct Damage {
    name: &'static str,
    apply: fn(&Store, &[PartitionId]),
}

fn change_zones(store: &Store, ids: &[PartitionId], change: fn(&mut Vec<Zone>)) {
    let held = store.get(&ids[0]).expect("it is held");
    let mut zones = held.zones.clone();
    assert_eq!(zones.len(), 4);
    change(&mut zones);
    store.insert(with_zones(&held, zones));
}

const DAMAGES: &[Damage] = &[
    Damage { name: "the last zone is gone", apply: |store, ids| change_zones(store, ids, |zones| drop(zones.pop())) },
    Damage { name: "a zone is gone", apply: |store, ids| change_zones(store, ids, |zones| drop(zones.remove(1))) },
    Damage {
        name: "a zone is gone, the others are numbered anew",
        apply: |store, ids| {
            change_zones(store, ids, |zones| {
                zones.remove(1);
                zones.iter_mut().enumerate().for_each(|(index, zone)| zone.index = index as u32);
            });
        },
    },
    Damage {
        name: "rows of a zone are gone",
        apply: |store, ids| change_zones(store, ids, |zones| zones[2].rows = zones[2].rows.slice(0, 63)),
    },
    Damage {
        name: "a zone is there twice",
        apply: |store, ids| change_zones(store, ids, |zones| zones.push(zones[1].clone())),
    },
    Damage {
        name: "a zone is there twice, the second as one more",
        apply: |store, ids| {
            change_zones(store, ids, |zones| zones.push(Zone { index: 4, ..zones[1].clone() }));
        },
    },
    Damage {
        name: "a zone is in the place of another",
        apply: |store, ids| change_zones(store, ids, |zones| zones[2] = zones[1].clone()),
    },
    Damage {
        name: "a partition under the name of another",
        apply: |store, ids| {
            let other = store.get(&ids[1]).expect("it is held");
            store.insert_as(ids[0], with_zones(&other, other.zones.clone()));
        },
    },
];

/// The query fails, and says why.
async fn check_fails(cluster: &Cluster, spec: QuerySpec, what: &str) {
    for allow_partial in [false, true] {
        let what = format!("{what}, allow_partial={allow_partial}: {:?}", spec.ask);
        match cluster.ask(QuerySpec { allow_partial, ..spec.clone() }).await {
            Ok(answer) => panic!("{what}: answered with {} rows, {:?}", answer.rows.len(), answer.footer.coverage),
            Err(failure) => assert_eq!(failure.reason, "COVERAGE_VIOLATION", "{what}: {failure:?}"),
        }
    }
}

async fn check_right(cluster: &Cluster, question: &Question, what: &str) {
    let answer = cluster.ask(range(question)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_same(&answer.rows, &cluster.oracle.answer(question), what);
}

async fn every_damage_is_caught(graph: Graph, at: &str) {
    let cluster = Cluster::start(Setup { graph, edit: level_days, ..Setup::default() }).await;
    let store = cluster.node(at).store();
    let ids = store.ids();
    assert!(ids.len() >= 2, "{at} holds {ids:?}");
    let whole: Vec<_> = ids.iter().map(|id| store.get(id).expect("it is held")).collect();
    let all = Question::default();
    for damage in DAMAGES {
        check_right(&cluster, &all, "before").await;
        (damage.apply)(store, &ids);
        let some = Question { parameter: Some("PM2.5"), min: Some(0.0), ..all.clone() };
        let nothing = Question { max: Some(-100.0), ..all.clone() };
        let none_of_its_columns = Question { columns: &["utc"], ..all.clone() };
        for question in [&all, &some, &none_of_its_columns] {
            check_fails(&cluster, range(question), damage.name).await;
        }
        // All days are ruled out by their statistics, so nothing is read and nothing can be wrong.
        check_right(&cluster, &nothing, damage.name).await;
        for text in [
            "SELECT count(*) FROM observations",
            "SELECT parameter, max(concentration) FROM observations GROUP BY parameter",
            "SELECT count(*) FROM observations WHERE site_name = 'nowhere'",
            "SELECT utc FROM observations ORDER BY concentration LIMIT 1",
        ] {
            check_fails(&cluster, sql(text), damage.name).await;
        }
        // A limit that the whole partitions can fill may be answered, with real rows; never with rows twice.
        let limited = QuerySpec { limit: Some(30), ..range(&all) };
        if let Ok(answer) = cluster.ask(limited).await {
            let rows = cluster.oracle.answer(&all);
            assert!(answer.rows.iter().all(|row| rows.binary_search(row).is_ok()), "{}", damage.name);
            assert!(
                answer.rows.len() == 30 && answer.rows.windows(2).all(|pair| pair[0] != pair[1]),
                "{}",
                damage.name
            );
        }
        // More than the others have.
        let most = QuerySpec { limit: Some(cluster.oracle.rows.len() as u64 - 1), ..range(&all) };
        check_fails(&cluster, most, damage.name).await;
        for partition in &whole {
            store.insert(with_zones(partition, partition.zones.clone()));
        }
    }
    check_right(&cluster, &all, "afterwards").await;

    // Every zone carries the name of its own partition, and an answer also the one that was asked for: a query for one of
    // two that were swapped finds the wrong name, and so does one that reads both.
    let [one, other] = [0, 1].map(|n| store.get(&ids[n]).expect("it is held"));
    assert_eq!(one.rows(), other.rows());
    store.insert_as(ids[0], with_zones(&other, other.zones.clone()));
    store.insert_as(ids[1], with_zones(&one, one.zones.clone()));
    for id in &ids[..2] {
        let date = id.date.to_string();
        let text = format!(
            "utc >= '{0}-{1}-{2}T00:00:00' AND utc <= '{0}-{1}-{2}T23:59:59'",
            &date[..4],
            &date[4..6],
            &date[6..]
        );
        for columns in ["count(*)", "*", "max(concentration)"] {
            let query = sql(&format!("SELECT {columns} FROM observations WHERE {text}"));
            check_fails(&cluster, query, "two partitions are swapped").await;
        }
    }
    check_fails(&cluster, range(&all), "two partitions are swapped, both read").await;
}

#[tokio::test]
async fn damage_at_a_worker_is_caught() {
    every_damage_is_caught(Graph::Six, "F").await;
}

#[tokio::test]
async fn damage_at_the_leader_itself_is_caught() {
    every_damage_is_caught(Graph::Embedded, "A").await;
}

#[tokio::test]
async fn a_replica_that_is_whole_does_not_hide_the_damage_of_another() {
    let setup = Setup { replicas: serde_json::json!("all"), edit: level_days, ..Setup::default() };
    let cluster = Cluster::start(setup).await;
    let all = Question::default();
    for node in ["D", "E", "F"] {
        let store = cluster.node(node).store();
        change_zones(store, &store.ids(), |zones| drop(zones.pop()));
    }
    check_fails(&cluster, range(&all), "every replica lacks a zone").await;
}
