//! A small overlay of real nodes in this process, on port 0, over a generated data set.
//!
//! Each node has a runtime of its own, so that a kill takes everything of it away at once: tasks, connections,
//! listener. What is waited for is polled against a deadline; nothing sleeps for a fixed time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use overlay::client::Client;
use overlay::config::Config;
use overlay::failure::Failure;
use overlay::leader::answer::QuerySpec;
use overlay::node::status::{Metrics, NodeStatus};
use overlay::node::{Node, NodeError};
use overlay::routing::NodeId;
use overlay_ingest::generate::{GenerateOptions, generate};
use overlay_ingest::progress::Silent;
use overlay_ingest::run::{RunOptions, run};
use overlay_ingest::{Dataset, DateRange, Layout};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::asking::{Answer, read};
use crate::oracle::Oracle;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
const CALL: Duration = Duration::from_secs(5);

/// Which processes there are, as `id role team neighbors`.
#[derive(Debug, Clone, Copy)]
pub enum Graph {
    Six,
    Five,
    /// A Leader and a worker that holds everything.
    Pair,
    Embedded,
}

impl Graph {
    fn processes(self) -> &'static [(&'static str, &'static str, &'static str, &'static str)] {
        match self {
            Graph::Six => &[
                ("A", "leader", "green", "BE"),
                ("B", "team_leader", "green", "ACD"),
                ("C", "worker", "green", "B"),
                ("D", "worker", "pink", "BE"),
                ("E", "team_leader", "pink", "AFD"),
                ("F", "worker", "pink", "E"),
            ],
            Graph::Five => &[
                ("A", "leader", "all", "B"),
                ("B", "team_leader", "all", "ACD"),
                ("C", "worker", "all", "BE"),
                ("D", "worker", "all", "BE"),
                ("E", "worker", "all", "CD"),
            ],
            Graph::Pair => &[("A", "leader", "all", "B"), ("B", "worker", "all", "A")],
            Graph::Embedded => &[("A", "leader", "all", "")],
        }
    }
}

/// What to build; the defaults are the shipped ones but for one thread a process.
pub struct Setup {
    pub graph: Graph,
    pub strategies: Value,
    pub limits: Value,
    pub replicas: Value,
    pub adopt_links: bool,
    pub days: u32,
    pub sites: u32,
    /// Runs on the folder of the data set after it was generated and before it is ingested.
    pub edit: fn(&Path),
}

impl Default for Setup {
    fn default() -> Setup {
        let strategies = json!({ "forwarding_strategy": "parallel", "async_forwarding": true,
            "chunking_strategy": "adaptive", "fairness_strategy": "strict", "chunk_size": 200 });
        let limits = json!({ "threads": 1 });
        let replicas = json!(1);
        Setup { graph: Graph::Six, strategies, limits, replicas, adopt_links: true, days: 12, sites: 20, edit: |_| {} }
    }
}

/// The first generated day: half of the default days are green's, half are pink's.
const FIRST_DAY: &str = "20200815";
/// Few rows a zone, so that a day has several.
pub const ZONE_ROWS: usize = 64;
pub const ZONES: Layout = Layout { zone_rows: ZONE_ROWS };

pub struct Cluster {
    folder: TempDir,
    pub text: Value,
    config: Arc<Config>,
    nodes: BTreeMap<NodeId, Running>,
    pub oracle: Oracle,
}

/// A node and all that belongs to it.
pub struct Running {
    /// `None` only while it is dropped.
    node: Option<Node>,
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.node = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Cluster {
    /// Data, configuration and every node, complete.
    pub async fn start(setup: Setup) -> Cluster {
        let mut cluster = Cluster::prepare(&setup);
        for id in cluster.ids() {
            cluster.start_node(&id).await;
        }
        cluster.until_complete().await;
        cluster
    }

    /// Data and configuration; no node runs.
    pub fn prepare(setup: &Setup) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("set");
        let from = FIRST_DAY.parse().expect("a date");
        let options = GenerateOptions { days: setup.days, sites: setup.sites, seed: 7, from };
        generate(&root, &options).expect("generated");
        (setup.edit)(&root);
        ingest(&root, ZONES);
        let text = config_text(setup, folder.path(), &root);
        let config = parse(&text);
        let oracle = Oracle::read(&root);
        Cluster { folder, text, config, nodes: BTreeMap::new(), oracle }
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.config.processes.keys().cloned().collect()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the data set.
    pub fn data_set(&self) -> PathBuf {
        self.folder().join("set")
    }

    /// Starts a node with the cluster's configuration.
    pub async fn start_node(&mut self, id: &NodeId) {
        let config = Arc::clone(&self.config);
        let begun = Instant::now();
        loop {
            match self.start_with(id, Arc::clone(&config)).await {
                Ok(()) => return,
                // A killed node's last tasks let go of the folder's lock a moment after it.
                Err(NodeError::State(error)) if begun.elapsed() < PATIENCE => {
                    tracing::debug!(%error, "once more");
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => panic!("{id} does not start: {error}"),
            }
        }
    }

    /// Starts a node with another configuration.
    pub async fn start_with(&mut self, id: &NodeId, config: Arc<Config>) -> Result<(), NodeError> {
        let running = start(id, config).await?;
        self.nodes.insert(id.clone(), running);
        Ok(())
    }

    /// Ends a node at once, like a kill.
    pub fn kill(&mut self, id: &str) {
        assert!(self.nodes.remove(&NodeId::from(id)).is_some(), "{id} runs");
    }

    /// Ends a node in order, as a signal to end does.
    pub async fn drain(&mut self, id: &str) {
        let mut running = self.take(id);
        let node = running.node.take().expect("it runs");
        let runtime = running.runtime.as_ref().expect("it runs");
        runtime.spawn(node.drain(PATIENCE)).await.expect("no panic");
    }

    /// Stops a node's only thread, as SIGSTOP does: its connections stay and nothing answers. Dropping what is returned
    /// lets it go on.
    pub fn freeze(&self, id: &str) -> Sender<()> {
        let (release, held) = channel::<()>();
        let (tell, told) = channel();
        let runtime = self.nodes[&NodeId::from(id)].runtime.as_ref().expect("it runs");
        runtime.spawn(async move {
            tell.send(()).expect("the test waits for it");
            // Nothing is ever sent; the end of the sender is the word to go on.
            let _ = held.recv();
        });
        told.recv().expect("the task runs");
        release
    }

    /// Takes a node out of the cluster's list; it runs on.
    pub fn take(&mut self, id: &str) -> Running {
        self.nodes.remove(&NodeId::from(id)).expect("it runs")
    }

    /// Puts it back.
    pub fn put(&mut self, id: &str, running: Running) {
        self.nodes.insert(NodeId::from(id), running);
    }

    /// Starts the Leader again, with these strategies.
    pub async fn restart_leader(&mut self, strategies: Value) {
        self.text["strategies"] = strategies;
        self.config = parse(&self.text);
        self.kill("A");
        self.start_node(&"A".into()).await;
        self.until_complete().await;
    }

    pub fn node(&self, id: &str) -> &Node {
        self.nodes[&NodeId::from(id)].node.as_ref().expect("it runs")
    }

    /// A new connection to a node.
    pub fn client_of(&self, id: &str) -> Client {
        Client::new(self.node(id).address())
    }

    /// A new connection to the Leader.
    pub fn client(&self) -> Client {
        self.client_of("A")
    }

    pub async fn status(&self, id: &str) -> NodeStatus {
        self.client_of(id).status(CALL).await.unwrap_or_else(|error| panic!("no status of {id}: {error}"))
    }

    pub async fn metrics(&self) -> Metrics {
        self.client().metrics(CALL).await.expect("metrics")
    }

    /// The dates that a node holds.
    pub fn held(&self, id: &str) -> Vec<String> {
        self.node(id).store().ids().into_iter().map(|id| id.date.to_string()).collect()
    }

    /// Waits until the Leader sees every node, link and partition.
    pub async fn until_complete(&self) {
        until("the overlay is complete", async || {
            let status = self.status("A").await;
            let links_up = status.members.iter().all(|member| {
                let mut links = member.links.clone();
                links.sort();
                let mut wanted = self.config.processes[&member.process_id].neighbors.clone();
                wanted.sort();
                member.state == "ready" && links == wanted
            });
            let held = status.partitions.iter().all(|partition| {
                let (mut holders, mut placed) = (partition.holders.clone(), partition.placed.clone());
                holders.sort();
                placed.sort();
                !holders.is_empty() && holders == placed
            });
            let complete = links_up && held && status.unheard.is_empty() && !status.partitions.is_empty();
            if complete { Ok(()) } else { Err(format!("{status:#?}")) }
        })
        .await;
    }

    /// Asks the Leader over a connection of its own, in a task.
    pub fn ask_later(&self, spec: QuerySpec) -> JoinHandle<Result<Answer, Failure>> {
        let client = self.client();
        tokio::spawn(async move { read(&client, spec).await })
    }

    /// Asks the Leader and reads to the end.
    pub async fn ask(&self, spec: QuerySpec) -> Result<Answer, Failure> {
        read(&self.client(), spec).await
    }
}

/// Polls until the condition holds; fails with its last words.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    loop {
        match condition().await {
            Ok(()) => return,
            Err(words) => assert!(begun.elapsed() < PATIENCE, "not in time: {what}; {words}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn start(id: &NodeId, config: Arc<Config>) -> Result<Running, NodeError> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let id = id.clone();
    let started = runtime.spawn(async move { Node::start(config, &id).await }).await.expect("no panic");
    match started {
        Ok(node) => Ok(Running { node: Some(node), runtime: Some(runtime) }),
        Err(error) => {
            runtime.shutdown_background();
            Err(error)
        }
    }
}

/// Commits a cache of the data set as it is now.
pub fn ingest(root: &Path, layout: Layout) {
    let cache: PathBuf = root.join(".overlay");
    let options = RunOptions { cache, range: DateRange::ALL, layout, force: false };
    let dataset = Dataset::open(root).expect("a data set");
    run(&dataset, &options, &Silent).expect("ingested");
}

fn config_text(setup: &Setup, folder: &Path, root: &Path) -> Value {
    let processes = setup.graph.processes().iter().map(|(id, role, team, neighbors)| {
        let neighbors: Vec<String> = neighbors.chars().map(String::from).collect();
        let mut process = json!({ "id": id, "role": role, "team": team, "host": "127.0.0.1", "port": 0,
            "neighbors": neighbors });
        if matches!(setup.graph, Graph::Embedded) {
            process["holds_data"] = json!(true);
        }
        (id.to_string(), process)
    });
    let teams = match setup.graph {
        Graph::Six => json!({ "green": { "from": "20200810", "to": "20200820" },
            "pink": { "from": "20200821", "to": "20200924" } }),
        _ => json!({ "all": { "from": "20200810", "to": "20200924" } }),
    };
    json!({
        "dataset": { "name": "set", "root": root },
        "teams": teams,
        "strategies": setup.strategies,
        "limits": setup.limits,
        "replicas": setup.replicas,
        "adopt_links": setup.adopt_links,
        "state_dir": folder.join("state"),
        "processes": processes.collect::<serde_json::Map<_, _>>(),
    })
}

pub fn parse(text: &Value) -> Arc<Config> {
    Arc::new(Config::parse(text.to_string(), "test").unwrap_or_else(|error| panic!("{error}")))
}
