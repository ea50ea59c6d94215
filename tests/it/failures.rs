//! Nodes that die, never come, come back, or are not who they should be: what is missing is named, what is there is
//! answered.

use std::sync::Arc;

use overlay::failure::{Failure, FailureKind};
use overlay::leader::answer::{QuerySpec, QueryState};
use overlay::node::NodeError;
use overlay::routing::NodeId;

use crate::asking::{Answer, range, sql};
use crate::cluster::{Cluster, Graph, Setup, parse, until};
use crate::oracle::Question;
use crate::rows::assert_same;

fn ids(names: &str) -> Vec<NodeId> {
    names.chars().map(|name| NodeId::from(name.to_string().as_str())).collect()
}

/// The dates that these nodes hold, sorted.
fn dates_of(cluster: &Cluster, names: &str) -> Vec<String> {
    let mut dates: Vec<String> = names.chars().flat_map(|name| cluster.held(&name.to_string())).collect();
    dates.sort();
    assert!(names.chars().all(|name| !cluster.held(&name.to_string()).is_empty()), "each of {names} holds something");
    dates
}

async fn refused(cluster: &Cluster, spec: QuerySpec) -> Failure {
    match cluster.ask(spec).await {
        Ok(answer) => panic!("answered with {} rows: {:?}", answer.rows.len(), answer.footer.coverage),
        Err(failure) => failure,
    }
}

/// Rows of all dates but these, in the oracle's words.
fn without(cluster: &Cluster, dates: &[String]) -> Vec<String> {
    let others = cluster.oracle.rows.iter().filter(|row| !dates.contains(&row.date));
    let mut rows: Vec<String> = others.map(|row| row.canonical(&crate::oracle::COLUMNS)).collect();
    rows.sort();
    rows
}

/// Without `allow_partial` the failure names node, route and dates; with it everything else is there.
async fn check_lost(cluster: &Cluster, lost: &[String], node: &str, route: &str, what: &str) -> Answer {
    let all = range(&Question::default());
    let failure = refused(cluster, all.clone()).await;
    assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::Unavailable, "MISSING_PARTITIONS"), "{what}");
    let mut dates = failure.dates.clone();
    dates.sort();
    assert_eq!(dates, lost, "{what}");
    assert_eq!(failure.node, Some(node.into()), "{what}: {failure:?}");
    assert_eq!(failure.route, ids(route), "{what}: {failure:?}");
    assert!(failure.message.contains(node) && failure.message.contains(&lost[0]), "{what}: {failure}");

    let answer = cluster.ask(QuerySpec { allow_partial: true, ..all }).await;
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(answer.footer.state, QueryState::Partial, "{what}");
    let mut gaps: Vec<String> = answer.footer.coverage.gaps.iter().map(|gap| gap.date.clone()).collect();
    gaps.sort();
    assert_eq!(gaps, lost, "{what}");
    assert_same(&answer.rows, &without(cluster, lost), what);

    let count = QuerySpec { allow_partial: true, ..sql("SELECT count(*) FROM observations") };
    let count = cluster.ask(count).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((count.rows, count.footer.state), (vec![answer.rows.len().to_string()], QueryState::Partial), "{what}");
    answer
}

async fn check_whole(cluster: &Cluster, what: &str) -> Answer {
    let answer = cluster.ask(range(&Question::default())).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_same(&answer.rows, &cluster.oracle.answer(&Question::default()), what);
    assert_eq!(answer.footer.state, QueryState::Ready, "{what}");
    answer
}

async fn until_dead(cluster: &Cluster, id: &str) {
    until(&format!("{id} counts as dead"), async || {
        let status = cluster.status("A").await;
        let member = status.members.into_iter().find(|member| member.process_id == id.into()).expect("configured");
        if member.state == "dead" { Ok(()) } else { Err(format!("{member:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_dead_worker_is_named_and_back_again_the_answer_is_whole() {
    let mut cluster = Cluster::start(Setup::default()).await;
    check_whole(&cluster, "before").await;
    let lost = dates_of(&cluster, "F");
    let mut incarnations = Vec::new();
    for id in ["A", "B", "C", "D", "E", "F"] {
        incarnations.push(cluster.status(id).await.incarnation);
    }
    cluster.kill("F");
    check_lost(&cluster, &lost, "F", "AEF", "the moment after").await;
    until_dead(&cluster, "F").await;
    let answer = check_lost(&cluster, &lost, "F", "AEF", "when all know").await;
    assert!(answer.footer.coverage.gaps.iter().all(|gap| gap.node == Some("F".into()) && gap.route == ids("AEF")));
    // Whatever does not need F is whole.
    let green = Question { dates: Some(("20200810", "20200820")), ..Question::default() };
    let answer = cluster.ask(range(&green)).await.expect("green is whole");
    assert_same(&answer.rows, &cluster.oracle.answer(&green), "green");
    assert_eq!(answer.footer.state, QueryState::Ready);

    cluster.start_node(&"F".into()).await;
    cluster.until_complete().await;
    check_whole(&cluster, "back again").await;
    for (id, before) in ["A", "B", "C", "D", "E", "F"].into_iter().zip(incarnations) {
        let after = cluster.status(id).await.incarnation;
        assert_eq!(after, before + u64::from(id == "F"), "{id} was started again only if it is F");
    }
}

#[tokio::test]
async fn behind_a_dead_cut_node_dates_are_lost_and_a_second_path_is_found() {
    let mut cluster = Cluster::start(Setup { adopt_links: false, ..Setup::default() }).await;
    let of_d = dates_of(&cluster, "D");
    let lost = dates_of(&cluster, "EF");
    let whole = check_whole(&cluster, "before").await;
    let route_to_d =
        |answer: &Answer| answer.footer.work.iter().find(|work| work.node == "D".into()).map(|w| w.route.clone());
    assert_eq!(route_to_d(&whole), Some(ids("AED")), "of two equal paths the one through the team");
    cluster.kill("E");
    // The nearest of what is missing is what the failure names.
    let failure = refused(&cluster, range(&Question::default())).await;
    assert_eq!(failure.reason, "MISSING_PARTITIONS");
    let mut dates = failure.dates.clone();
    dates.sort();
    assert_eq!(dates, lost);
    let partial = QuerySpec { allow_partial: true, ..range(&Question::default()) };
    let answer = cluster.ask(partial.clone()).await.expect("the rest");
    assert_same(&answer.rows, &without(&cluster, &lost), "the moment after");
    assert_eq!(route_to_d(&answer), Some(ids("ABD")));
    until_dead(&cluster, "E").await;
    let answer = cluster.ask(partial).await.expect("the rest");
    assert_same(&answer.rows, &without(&cluster, &lost), "when all know");
    assert_eq!(route_to_d(&answer), Some(ids("ABD")));
    for date in &of_d {
        let text = format!(
            "SELECT count(*) FROM observations WHERE date_trunc('day', utc) = '{}-{}-{}'",
            &date[..4],
            &date[4..6],
            &date[6..]
        );
        let expected = cluster.oracle.rows.iter().filter(|row| row.date == *date).count();
        let answer = cluster.ask(QuerySpec { allow_partial: true, ..sql(&text) }).await.expect("D's dates are there");
        assert_eq!(answer.rows, [expected.to_string()], "{date}");
    }
    cluster.start_node(&"E".into()).await;
    cluster.until_complete().await;
    check_whole(&cluster, "back again").await;
}

#[tokio::test]
async fn a_dead_team_leader_takes_along_only_what_is_behind_it() {
    let mut cluster = Cluster::start(Setup { adopt_links: false, ..Setup::default() }).await;
    let lost = dates_of(&cluster, "BC");
    cluster.kill("B");
    let partial = QuerySpec { allow_partial: true, ..range(&Question::default()) };
    for what in ["the moment after", "when all know"] {
        let failure = refused(&cluster, range(&Question::default())).await;
        let mut dates = failure.dates.clone();
        dates.sort();
        assert_eq!((dates, failure.reason.as_str()), (lost.clone(), "MISSING_PARTITIONS"), "{what}");
        let answer = cluster.ask(partial.clone()).await.expect("the rest");
        assert_same(&answer.rows, &without(&cluster, &lost), what);
        assert_eq!(answer.footer.state, QueryState::Partial);
        until_dead(&cluster, "B").await;
        until_dead(&cluster, "C").await;
    }
}

#[tokio::test]
async fn a_second_replica_answers_for_a_dead_worker() {
    let mut cluster = Cluster::start(Setup { replicas: serde_json::json!(2), ..Setup::default() }).await;
    cluster.kill("F");
    check_whole(&cluster, "the moment after").await;
    until_dead(&cluster, "F").await;
    check_whole(&cluster, "when all know").await;
}

#[tokio::test]
async fn a_leader_that_starts_again_remembers_who_is_missing() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let lost = dates_of(&cluster, "F");
    cluster.kill("F");
    cluster.kill("A");
    cluster.start_node(&"A".into()).await;
    until("the others are heard", async || {
        let status = cluster.status("A").await;
        let ready = status.members.iter().filter(|member| member.state == "ready" && !member.links.is_empty()).count();
        if ready == 5 && status.unheard.is_empty() { Ok(()) } else { Err(format!("{status:#?}")) }
    })
    .await;
    check_lost(&cluster, &lost, "F", "AEF", "after a restart of the Leader").await;
}

#[tokio::test]
async fn a_member_that_never_came_is_named() {
    let mut cluster = Cluster::prepare(&Setup::default());
    for id in ids("ABCDE") {
        cluster.start_node(&id).await;
    }
    until("the others are ready", async || {
        let status = cluster.status("A").await;
        let ready = status.members.iter().filter(|member| member.state == "ready").count();
        let placed = status.partitions.len() == 12
            && status.partitions.iter().all(|partition| {
                partition.placed == ids("F") || partition.holders == partition.placed && !partition.placed.is_empty()
            });
        if ready == 5 && placed { Ok(()) } else { Err(format!("{status:#?}")) }
    })
    .await;
    let failure = refused(&cluster, range(&Question::default())).await;
    assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::Unavailable, "NEVER_ANNOUNCED"));
    assert!(failure.message.contains("F has never announced"), "{failure}");
    let answer = cluster.ask(QuerySpec { allow_partial: true, ..range(&Question::default()) }).await.expect("the rest");
    let coverage = &answer.footer.coverage;
    assert_eq!((answer.footer.state, &coverage.unheard), (QueryState::Partial, &ids("F")));
    // The files are known to the others of its team, so its dates are gaps like any others.
    let status = cluster.status("A").await;
    let of_f = status.partitions.iter().filter(|partition| partition.placed == ids("F"));
    let mut of_f: Vec<String> = of_f.map(|partition| partition.date.clone()).collect();
    of_f.sort();
    assert_eq!(coverage.gaps.iter().map(|gap| gap.date.clone()).collect::<Vec<_>>(), of_f);
    assert_same(&answer.rows, &without(&cluster, &of_f), "without F");
    cluster.start_node(&"F".into()).await;
    cluster.until_complete().await;
    check_whole(&cluster, "F came").await;
}

/// A configuration in which F finds E, though its own state is kept elsewhere.
fn other_config(cluster: &Cluster, change: impl FnOnce(&mut serde_json::Value)) -> Arc<overlay::config::Config> {
    let mut text = cluster.text.clone();
    let port = cluster.node("E").address().rsplit_once(':').expect("host:port").1.parse::<u16>().expect("a port");
    text["processes"]["E"]["port"] = port.into();
    change(&mut text);
    parse(&text)
}

async fn until_refused(cluster: &Cluster, words: &str) {
    until("the link is refused", async || {
        let status = cluster.status("F").await;
        if status.waiting_for.contains(words) { Ok(()) } else { Err(format!("waiting for {:?}", status.waiting_for)) }
    })
    .await;
}

#[tokio::test]
async fn another_configuration_is_refused_by_the_key_that_differs() {
    let mut cluster = Cluster::prepare(&Setup::default());
    cluster.start_node(&"E".into()).await;
    let config = other_config(&cluster, |text| text["dataset"]["table"] = "other".into());
    cluster.start_with(&"F".into(), config).await.expect("it starts");
    until_refused(&cluster, "E refuses the link: the configurations of E and F differ in dataset.table").await;
}

#[tokio::test]
async fn a_second_process_of_one_id_is_refused() {
    let mut cluster = Cluster::start(Setup::default()).await;
    // On the same host, by the lock of its folder.
    let same = parse(&cluster.text);
    match cluster.start_with(&"F".into(), same).await {
        Err(NodeError::State(error)) => assert!(error.to_string().contains("another process with id F"), "{error}"),
        other => panic!("{:?}", other.map(|()| "it started")),
    }
    // From another host, by the neighbour that knows the first one alive; both count this as their first start.
    let elsewhere = cluster.folder().join("elsewhere");
    let config = other_config(&cluster, |text| text["state_dir"] = elsewhere.to_string_lossy().into());
    let first = cluster.take("F");
    cluster.start_with(&"F".into(), config).await.expect("it starts");
    until_refused(&cluster, "E refuses the link: another process runs as F").await;
    cluster.kill("F");
    cluster.put("F", first);
    check_whole(&cluster, "the first one serves on").await;
}

#[tokio::test]
async fn only_the_leader_takes_queries() {
    let cluster = Cluster::start(Setup { graph: Graph::Five, ..Setup::default() }).await;
    let failure = cluster.client_of("B").open(range(&Question::default())).await.err().expect("refused");
    assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::FailedPrecondition, "NOT_THE_LEADER"));
    assert!(failure.message.contains("ask the Leader, A"), "{failure}");
}
