//! A random overlay in memory: a connected graph with cycles, partitions with replicas, and wires between nodes that go
//! wrong by seed. What the wires saw is kept, so that a test can say what should have been tried.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use fastrand::Rng;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use overlay::delivery::QueryId;
use overlay::engine::coverage::CoverageSink;
use overlay::engine::executor::InlinePool;
use overlay::engine::hop::{Hop, RemoteError, RemoteScan};
use overlay::engine::message::{NodeInstance, ScanMessage, ScanPath, ScanRequest};
use overlay::engine::reader::{LeafSpec, Overview, PinnedPartition, QueryContext};
use overlay::engine::scan::Output;
use overlay::engine::session::Engine;
use overlay::engine::statistics::ZoneMap;
use overlay::engine::stop::Stop;
use overlay::engine::store::{HeldPartition, Store, Zone};
use overlay::engine::typed_zones::TypedZones;
use overlay::routing::assignment::{NodeView, Order, Snapshot, Tried, assign};
use overlay::routing::forwarding::{self, Forwarding};
use overlay::routing::{Link, Load, NodeId, Role, Topology};
use overlay_ingest::{Date, PartitionId, PartitionStats};

use crate::faults::{Cut, Fault, cut_off, distort, unavailable};

/// What goes wrong in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Anything, as often as the seed says.
    ByChance,
    /// This, at every call.
    Always(Fault),
    /// One link, without which all nodes are still connected, is cut while answers cross it. Everything has two replicas.
    OneCut,
}

pub const HOUR: Duration = Duration::from_secs(3600);

/// One overlay made from a seed.
pub struct World {
    pub reader: NodeId,
    pub hops: BTreeMap<NodeId, Arc<Hop>>,
    pub snapshot: Snapshot,
    /// The row ids of every partition.
    pub rows: BTreeMap<PartitionId, Vec<i64>>,
    /// Who says it holds a partition and does not.
    pub liars: BTreeSet<(NodeId, PartitionId)>,
    pub seen: Arc<Seen>,
    pub forwarding: Arc<dyn Forwarding>,
    cut: Arc<OnceLock<(Link, Arc<Cut>)>>,
    asynchronous: bool,
    counted: bool,
}

/// What the wires saw.
#[derive(Default)]
pub struct Seen {
    /// Orders that left the reader.
    pub orders: Mutex<Vec<Order>>,
    pub broken: Mutex<BTreeSet<Link>>,
    pub faults: Mutex<BTreeSet<&'static str>>,
}

/// The way from one node to its neighbours.
struct Wire {
    me: NodeId,
    hops: Weak<OnceLock<BTreeMap<NodeId, Arc<Hop>>>>,
    dead: BTreeSet<NodeId>,
    is_reader: bool,
    trouble: Trouble,
    /// Set once it is known which links are used.
    cut: Arc<OnceLock<(Link, Arc<Cut>)>>,
    /// Of 100 calls, how many go wrong.
    fault_rate: u8,
    random: Mutex<Rng>,
    seen: Arc<Seen>,
}

impl RemoteScan for Wire {
    fn scan(
        &self,
        next: &NodeId,
        mut request: ScanRequest,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<ScanMessage, RemoteError>>, RemoteError>> {
        if self.is_reader {
            self.seen.orders.lock().unwrap().extend(request.orders.iter().cloned());
        }
        let mut random = self.random.lock().unwrap().fork();
        let by_chance = match (self.dead.contains(next), random.u8(0..100) < self.fault_rate) {
            (true, _) => Fault::Refuse,
            (false, true) => Fault::draw(&mut random),
            (false, false) => Fault::None,
        };
        let cut = self.cut.get().filter(|(link, _)| *link == Link::between(&self.me, next)).map(|(_, cut)| cut.clone());
        let fault = match self.trouble {
            Trouble::Always(fault) => fault,
            Trouble::OneCut if cut.as_ref().is_some_and(|cut| cut.is_down()) => Fault::Refuse,
            _ => by_chance,
        };
        if (self.fault_rate > 0 || self.trouble == Trouble::OneCut) && random.bool() {
            // The neighbour sends whole partitions where a retry asked for some zones.
            request.zones.clear();
        }
        self.seen.faults.lock().unwrap().insert(fault.name());
        if fault.breaks_the_link() {
            self.seen.broken.lock().unwrap().insert(Link::between(&self.me, next));
        }
        let hop = self.hops.upgrade().and_then(|hops| hops.get()?.get(next).cloned()).expect("the world is there");
        async move {
            match fault {
                Fault::Refuse => Err(unavailable("refused")),
                fault => {
                    let schema = Arc::new(hop.schema.project(&request.projection).expect("columns of the table"));
                    let messages = hop.run(request, Stop::default(), Output::ForPeer);
                    let messages = distort(messages, fault, schema, random);
                    Ok(match cut {
                        Some(cut) => cut_off(messages, cut),
                        None => messages,
                    })
                }
            }
        }
        .boxed()
    }
}

/// The hops of a world, by node; set once all are made, because each knows the others.
pub type Hops = Arc<OnceLock<BTreeMap<NodeId, Arc<Hop>>>>;

/// The world of one seed, with the graph that holds its wires together.
pub fn make(seed: u64, engine: &Engine, trouble: Trouble) -> (World, Hops) {
    let mut random = Rng::with_seed(seed);
    let ids: Vec<NodeId> = (0..random.usize(4..=9)).map(|n| NodeId::from(format!("n{n}").as_str())).collect();
    let topology = connected(&mut random, &ids, trouble == Trouble::OneCut);
    let fault_rate = *random.choice(&[0u8, 10, 25, 60]).expect("not empty");
    let fault_rate = if trouble == Trouble::OneCut { 0 } else { fault_rate };
    let cut: Arc<OnceLock<(Link, Arc<Cut>)>> = Arc::default();
    let dead: BTreeSet<NodeId> = ids[1..].iter().filter(|_| fault_rate > 0 && random.u8(0..100) < 8).cloned().collect();
    let shared: Hops = Arc::default();
    let seen = Arc::new(Seen::default());
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("row", DataType::Int64, false)]));
    let hop = |id: &NodeId, random: &mut Rng| {
        let wire = Wire {
            me: id.clone(),
            hops: Arc::downgrade(&shared),
            dead: dead.clone(),
            is_reader: *id == ids[0],
            trouble,
            cut: Arc::clone(&cut),
            fault_rate,
            random: Mutex::new(random.fork()),
            seen: Arc::clone(&seen),
        };
        Arc::new(Hop {
            me: id.clone(),
            store: Arc::new(Store::default()),
            remote: Arc::new(wire),
            pool: Arc::new(InlinePool),
            clock: Arc::new(|| Duration::ZERO),
            work_clock: Arc::new(|| Duration::ZERO),
            schema: Arc::clone(&schema),
            functions: engine.functions(),
        })
    };
    let hops: BTreeMap<NodeId, Arc<Hop>> = ids.iter().map(|id| (id.clone(), hop(id, &mut random))).collect();
    let mut holds: BTreeMap<NodeId, HashSet<PartitionId>> = BTreeMap::new();
    let (mut rows, mut liars) = (BTreeMap::new(), BTreeSet::new());
    for number in 0..random.usize(1..8) {
        let id = PartitionId { date: Date::new(2020, 8, 1 + number as u8).expect("a date"), digest: number as u128 };
        let first = number as i64 * 1000;
        let of_partition: Vec<i64> = (first..first + random.i64(0..200)).collect();
        let zone_rows = random.usize(1..60);
        let mut holders = ids.clone();
        random.shuffle(&mut holders);
        let replicas = if trouble == Trouble::OneCut { 2 } else { random.usize(1..=3) };
        for holder in holders.into_iter().take(replicas) {
            holds.entry(holder.clone()).or_default().insert(id);
            if fault_rate > 0 && random.u8(0..100) < 5 {
                liars.insert((holder, id));
            } else {
                hops[&holder].store.insert(held(id, &of_partition, zone_rows, &schema));
            }
        }
        rows.insert(id, of_partition);
    }
    let view = |id: &NodeId| NodeView {
        team: None,
        role: Role::Worker,
        holds: Arc::new(holds.get(id).cloned().unwrap_or_default()),
        load: Load::default(),
        alive: true,
    };
    let snapshot =
        Snapshot { reader: ids[0].clone(), topology, nodes: ids.iter().map(|id| (id.clone(), view(id))).collect() };
    let strategy = random.choice(forwarding::STRATEGIES).expect("not empty");
    shared.set(hops.clone()).unwrap_or_else(|_| panic!("set once"));
    let world = World {
        reader: ids[0].clone(),
        hops,
        snapshot,
        rows,
        liars,
        seen,
        forwarding: Arc::from((strategy.make)()),
        cut,
        asynchronous: random.bool(),
        counted: random.u8(0..4) > 0,
    };
    if trouble == Trouble::OneCut {
        world.choose_cut(&mut random);
    }
    (world, shared)
}

/// A random tree, and some links more, which make cycles; at least one if so told.
fn connected(random: &mut Rng, ids: &[NodeId], with_cycle: bool) -> Topology {
    let mut topology = Topology::default();
    for (n, id) in ids.iter().enumerate().skip(1) {
        topology.insert(Link::between(id, &ids[random.usize(..n)]));
    }
    for _ in 0..random.usize(0..ids.len() * 2) {
        topology.insert(Link::between(&ids[random.usize(..ids.len())], &ids[random.usize(..ids.len())]));
    }
    while with_cycle && !topology.links().any(|link| stays_connected(&topology, &link)) {
        topology.insert(Link::between(&ids[random.usize(..ids.len())], &ids[random.usize(..ids.len())]));
    }
    topology
}

fn stays_connected(topology: &Topology, without: &Link) -> bool {
    let (node, _) = without.ends();
    let left = topology.without(&BTreeSet::from([without.clone()]));
    left.reachable(node).len() == topology.reachable(node).len()
}

fn held(id: PartitionId, rows: &[i64], zone_rows: usize, schema: &SchemaRef) -> HeldPartition {
    let batch = |rows: &[i64]| {
        RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(Int64Array::from(rows.to_vec()))]).expect("one column")
    };
    let mut batches: Vec<RecordBatch> = rows.chunks(zone_rows).map(batch).collect();
    if batches.is_empty() {
        batches.push(batch(&[]));
    }
    let zones = batches.into_iter().enumerate();
    let zones: Vec<Zone> = zones.map(|(index, batch)| Zone::new(id, index as u32, &batch)).collect();
    let typed = TypedZones::of(&zones);
    HeldPartition {
        id,
        map: ZoneMap::of(&zones),
        typed,
        zones,
        stats: stats(rows.len()),
        csv_bytes: 0,
        memory_bytes: 0,
    }
}

fn stats(rows: usize) -> PartitionStats {
    PartitionStats {
        rows: rows as u64,
        parameters: None,
        latitude: None,
        longitude: None,
        utc: None,
        concentration: None,
        raw_concentration: None,
        aqi: None,
        category: None,
    }
}

struct Fixed(Snapshot);

impl Overview for Fixed {
    fn snapshot(&self) -> Snapshot {
        self.0.clone()
    }

    fn last_holder(&self, _: &PartitionId) -> Option<(NodeId, Vec<NodeId>)> {
        None
    }
}

impl World {
    pub fn context(&self, allow_partial: bool) -> Arc<QueryContext> {
        let sink = Arc::new(CoverageSink::default());
        sink.planned(0, false, &[]);
        Arc::new(QueryContext {
            query: QueryId(1),
            team: None,
            client: 1,
            weight: 1,
            leader: NodeInstance { id: self.reader.clone(), incarnation: 1 },
            hop: Arc::clone(&self.hops[&self.reader]),
            overview: Arc::new(Fixed(self.snapshot.clone())),
            partitions: Arc::new(self.pinned()),
            forwarding: Arc::clone(&self.forwarding),
            asynchronous: self.asynchronous,
            turn: 1,
            allow_partial,
            stop: Stop::default(),
            deadline: HOUR,
            sink,
            scan_path: ScanPath::Any,
            plain_texts: false,
            meter: Arc::default(),
        })
    }

    /// The link that will be cut: where there is one, a link that the first attempt crosses.
    fn choose_cut(&self, random: &mut Rng) {
        let all: Vec<PartitionId> = self.rows.keys().copied().collect();
        let first = assign(&self.snapshot, &all, &*self.forwarding, self.asynchronous, 1, &Tried::default());
        let crossed: BTreeSet<Link> = first
            .orders
            .iter()
            .flat_map(|order| order.path.nodes().windows(2).map(|pair| Link::between(&pair[0], &pair[1])))
            .collect();
        let topology = &self.snapshot.topology;
        let able: Vec<Link> = topology.links().filter(|link| stays_connected(topology, link)).collect();
        let best: Vec<&Link> = able.iter().filter(|link| crossed.contains(link)).collect();
        let link = random.choice(&best).copied().or(random.choice(&able)).expect("there is a cycle");
        let cut = Cut { left: AtomicIsize::new(random.isize(0..12)) };
        self.cut.set((link.clone(), Arc::new(cut))).unwrap_or_else(|_| panic!("set once"));
    }

    /// Whether the link was cut while something crossed it.
    pub fn was_cut(&self) -> bool {
        self.cut.get().is_some_and(|(_, cut)| cut.left.load(Ordering::Relaxed) < 0)
    }

    fn pinned(&self) -> Vec<PinnedPartition> {
        let stats = |rows: &Vec<i64>| self.counted.then(|| stats(rows.len()));
        self.rows.iter().map(|(id, rows)| PinnedPartition { id: *id, stats: stats(rows) }).collect()
    }

    pub fn leaf(&self, limit: Option<u64>) -> LeafSpec {
        let schema = Arc::clone(&self.hops[&self.reader].schema);
        LeafSpec { leaf: 0, partitions: self.pinned(), projection: vec![0], schema, predicate: Vec::new(), limit }
    }

    /// Fails unless every way to the partition that the rules allow was tried. With a limit nothing can be said: an
    /// order may count that a hop never sent on because the limit was used up, and be sent again for the same reason.
    pub fn check_exhausted(&self, id: &PartitionId, limit: Option<u64>) {
        let orders = self.seen.orders.lock().unwrap();
        let broken = self.seen.broken.lock().unwrap();
        let usable = self.snapshot.topology.without(&broken);
        for (holder, _) in self.snapshot.nodes.iter().filter(|(_, view)| view.holds.contains(id)) {
            let is_liar = self.liars.contains(&(holder.clone(), *id));
            assert!(is_liar || *holder != self.reader, "the reader holds {id} and did not answer");
            let tried: Vec<&Order> =
                orders.iter().filter(|order| order.path.holder() == holder && order.partitions.contains(id)).collect();
            if limit.is_some() {
                continue;
            }
            assert!(tried.len() <= 2, "{holder} was asked {} times for {id}", tried.len());
            if *holder == self.reader || tried.len() == 2 || (is_liar && !tried.is_empty()) {
                continue;
            }
            let mut ways = Vec::new();
            simple_paths(&usable, &mut vec![self.reader.clone()], holder, &mut ways);
            ways.retain(|way| tried.iter().all(|order| order.path.nodes() != way));
            assert!(ways.is_empty(), "{id} is missing, and {holder} was not asked over {:?}", ways[0]);
        }
    }
}

fn simple_paths(topology: &Topology, way: &mut Vec<NodeId>, to: &NodeId, found: &mut Vec<Vec<NodeId>>) {
    let last = way.last().expect("never empty").clone();
    if last == *to {
        return found.push(way.clone());
    }
    for next in topology.neighbors(&last) {
        if !way.contains(next) && found.len() < 4 {
            way.push(next.clone());
            simple_paths(topology, way, to, found);
            way.pop();
        }
    }
}
