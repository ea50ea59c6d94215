//! Cut nodes that die: who is behind them adopts a link to the Leader, answers over it, and gives it up again.

use overlay::failure::FailureKind;
use overlay::leader::answer::{QuerySpec, QueryState};
use overlay::node::status::NodeStatus;
use overlay::routing::{Link, NodeId};

use crate::asking::{Answer, range};
use crate::cluster::{Cluster, Graph, Setup, until};
use crate::oracle::{COLUMNS, Question};
use crate::rows::assert_same;

fn ids(names: &str) -> Vec<NodeId> {
    names.chars().map(|name| NodeId::from(name.to_string().as_str())).collect()
}

fn link(a: &str, b: &str) -> Link {
    Link::between(&a.into(), &b.into())
}

/// The links that are up and not configured, as the Leader sees them.
fn adopted(status: &NodeStatus) -> Vec<Link> {
    let of = |id: &NodeId| status.members.iter().find(|member| member.process_id == *id);
    let mut links: Vec<Link> = Vec::new();
    for member in &status.members {
        let both = |peer: &&NodeId| of(peer).is_some_and(|other| other.has_adopted(&member.process_id));
        links.extend(
            member
                .links
                .iter()
                .filter(|peer| member.has_adopted(peer))
                .filter(both)
                .map(|peer| Link::between(&member.process_id, peer)),
        );
    }
    links.sort();
    links.dedup();
    links
}

async fn until_adopted(cluster: &Cluster, wanted: &[Link]) {
    until(&format!("{wanted:?} are adopted"), async || {
        let status = cluster.status("A").await;
        if adopted(&status) == wanted { Ok(()) } else { Err(format!("{status:#?}")) }
    })
    .await;
}

fn route_to(answer: &Answer, node: &str) -> Option<Vec<NodeId>> {
    answer.footer.work.iter().find(|work| work.node == node.into()).map(|work| work.route.clone())
}

/// Kills a cut node: exactly its own dates are missing, and the rows of the node behind it come over an adopted link.
async fn check_cut(cut: &str, behind: &str) {
    let mut cluster = Cluster::start(Setup::default()).await;
    let mut lost = cluster.held(cut);
    lost.sort();
    assert!(!lost.is_empty() && !cluster.held(behind).is_empty());
    cluster.kill(cut);
    until_adopted(&cluster, &[link("A", behind)]).await;

    let all = range(&Question::default());
    let failure = cluster.ask(all.clone()).await.err().expect("something is missing");
    let mut dates = failure.dates.clone();
    dates.sort();
    assert_eq!((failure.kind, dates), (FailureKind::Unavailable, lost.clone()), "{failure}");

    let answer = cluster.ask(QuerySpec { allow_partial: true, ..all.clone() }).await.expect("the rest");
    let mut gaps: Vec<String> = answer.footer.coverage.gaps.iter().map(|gap| gap.date.clone()).collect();
    gaps.sort();
    assert_eq!((answer.footer.state, gaps), (QueryState::Partial, lost.clone()));
    let others = cluster.oracle.rows.iter().filter(|row| !lost.contains(&row.date));
    let mut expected: Vec<String> = others.map(|row| row.canonical(&COLUMNS)).collect();
    expected.sort();
    assert_same(&answer.rows, &expected, cut);
    assert_eq!(route_to(&answer, behind), Some(ids(&format!("A{behind}"))));
    assert_eq!(answer.footer.adopted, [link("A", behind)]);

    cluster.start_node(&cut.into()).await;
    // Complete means the links of the configuration and no others.
    cluster.until_complete().await;
    let answer = cluster.ask(all).await.expect("all is there again");
    assert_same(&answer.rows, &cluster.oracle.answer(&Question::default()), "back again");
    assert_eq!(route_to(&answer, behind), Some(ids(&format!("A{cut}{behind}"))));
    assert_eq!(answer.footer.adopted, []);
}

#[tokio::test]
async fn while_b_is_dead_c_answers_over_a_link_of_its_own() {
    check_cut("B", "C").await;
}

#[tokio::test]
async fn while_e_is_dead_f_answers_over_a_link_of_its_own() {
    check_cut("E", "F").await;
}

#[tokio::test]
async fn everybody_behind_the_only_way_to_the_leader_finds_another() {
    let mut cluster = Cluster::start(Setup { graph: Graph::Five, ..Setup::default() }).await;
    let mut lost = cluster.held("B");
    lost.sort();
    cluster.kill("B");
    until("C, D and E are reached", async || {
        let answer = cluster.ask(QuerySpec { allow_partial: true, ..range(&Question::default()) }).await;
        let answer = answer.map_err(|failure| failure.to_string())?;
        let mut gaps: Vec<String> = answer.footer.coverage.gaps.iter().map(|gap| gap.date.clone()).collect();
        gaps.sort();
        if gaps == lost { Ok(()) } else { Err(format!("{gaps:?} are missing")) }
    })
    .await;
    cluster.start_node(&"B".into()).await;
    cluster.until_complete().await;
}

#[tokio::test]
async fn a_leader_that_comes_back_finds_its_adopted_link_again() {
    let mut cluster = Cluster::start(Setup::default()).await;
    cluster.kill("B");
    until_adopted(&cluster, &[link("A", "C")]).await;
    let lost = cluster.ask(range(&Question::default())).await.err().expect("B is dead").dates;
    cluster.kill("A");
    cluster.start_node(&"A".into()).await;
    until_adopted(&cluster, &[link("A", "C")]).await;
    until("only B's dates are missing", async || match cluster.ask(range(&Question::default())).await {
        Err(failure) if failure.dates == lost => Ok(()),
        Err(failure) => Err(failure.to_string()),
        Ok(_) => Err("whole".into()),
    })
    .await;
    cluster.start_node(&"B".into()).await;
    cluster.until_complete().await;
}
