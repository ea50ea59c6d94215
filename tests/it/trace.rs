//! The route probe: who is visited over whom, and what a dead node looks like in it.

use std::time::Duration;

use overlay::routing::trace::{Trace, TraceHop};

use crate::cluster::{Cluster, Setup, until};

/// Every path of the tree as its nodes' names, sorted; a branch that failed ends in `!`.
fn paths(trace: &Trace) -> Vec<String> {
    fn add(hop: &TraceHop, before: &str, paths: &mut Vec<String>) {
        let path = format!("{before}{}", hop.node);
        for branch in &hop.branches {
            match &branch.hop {
                Some(next) => add(next, &path, paths),
                None => paths.push(format!("{path}{}!", branch.next)),
            }
        }
        paths.push(path);
    }
    let mut all = Vec::new();
    add(&trace.root, "", &mut all);
    all.sort();
    all
}

async fn trace(cluster: &Cluster, from: &str) -> Trace {
    cluster.client_of(from).trace(Duration::from_secs(5)).await.expect("a trace")
}

#[tokio::test]
async fn every_node_is_visited_over_the_path_of_a_query() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let whole = trace(&cluster, "A").await;
    assert_eq!(paths(&whole), ["A", "AB", "ABC", "AE", "AED", "AEF"]);
    assert_eq!(whole.unreached, []);
    assert_eq!(paths(&trace(&cluster, "F").await), ["F", "FE", "FEA", "FEAB", "FEABC", "FED"]);
    let f = &whole.root.branches.iter().find(|branch| branch.next == "E".into()).expect("E").hop;
    let f = f.iter().flat_map(|hop| &hop.branches).find(|branch| branch.next == "F".into()).expect("F");
    let f = f.hop.as_ref().expect("it answers");
    assert_eq!(f.partitions as usize, cluster.held("F").len());
    assert_eq!((f.state.as_str(), f.team.as_str()), ("ready", "pink"));

    cluster.kill("F");
    until("F is not visited", async || {
        let trace = trace(&cluster, "A").await;
        // First its link fails, then everybody knows.
        let found = (paths(&trace), trace.unreached);
        match found.0.iter().any(|path| path == "AEF") {
            false if found.1 == ["F".into()] => Ok(()),
            _ => Err(format!("{found:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn an_adopted_link_is_marked() {
    let mut cluster = Cluster::start(Setup::default()).await;
    cluster.kill("B");
    until("C is visited over a link of its own", async || {
        let trace = trace(&cluster, "A").await;
        let adopted: Vec<_> = trace.root.branches.iter().filter(|b| b.adopted).map(|b| b.next.clone()).collect();
        match adopted.as_slice() {
            [c] if *c == "C".into() && paths(&trace) == ["A", "AC", "AE", "AED", "AEF"] => Ok(()),
            _ => Err(format!("{trace:#?}")),
        }
    })
    .await;
}
