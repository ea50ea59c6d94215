//! Messages that are well formed and say what cannot be: endless limits, bounds that are no numbers, partitions that
//! nobody has, nodes that speak of each other in impossible numbers.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{IsNotNullExpr, NotExpr, col};
use overlay::config::Config;
use overlay::engine::predicate;
use overlay_ingest::observations;
use tonic::Code;

use super::protobuf::Message;
use super::raw::{call, channel, check_status};
use super::{NODES, Sound, seeded};
use crate::asking::range;
use crate::cluster::{Cluster, Setup, until};
use crate::oracle::Question;
use crate::rows::assert_same;

const MAX: u64 = u64::MAX;
/// 2020-08-22, a day of pink.
const DAY: i64 = 18_496;

/// A range query that waits for its end.
pub fn query() -> Message {
    of_range(Message::new().bytes(1, "PM2.5").double(2, 5.0).double(3, 35.0))
}

fn of_range(range: Message) -> Message {
    Message::new().message(1, range).number(9, 1)
}

fn of_sql(sql: impl AsRef<[u8]>) -> Message {
    Message::new().bytes(2, sql).number(9, 1)
}

fn partition(day: i64, digest: &[u8]) -> Message {
    Message::new().signed(1, day).bytes(2, digest)
}

fn path(nodes: &[&str], partitions: usize) -> Message {
    let order = Message::new().each(nodes, |order, node| order.bytes(1, node));
    order.each(0..partitions, |order, n| order.message(2, partition(DAY, &(n as u128).to_be_bytes())))
}

/// A scan of nothing yet.
fn scan_head() -> Message {
    Message::new().bytes(1, [7; 16]).number(6, 2_000).bytes(8, "A").number(9, 1000)
}

/// A scan of a partition that the node does not hold.
pub fn scan(id: &str) -> Message {
    scan_head().bytes(7, "A").message(10, path(&["A", id], 1)).number(12, 1).bytes(13, [0, 1])
}

/// What a node's neighbour may tell it about some node, in these numbers.
fn announce(from: &str, origin: &str, incarnation: u64, sequence: u64, more: Message) -> Message {
    let mut said = Message::new().bytes(1, origin).number(2, incarnation).number(3, sequence).number(4, 2);
    said.0.extend(more.0);
    Message::new().bytes(1, from).number(2, 1).message(3, said)
}

/// A neighbour of each node.
fn neighbor(id: &str) -> &'static str {
    match id {
        "A" | "C" | "D" => "B",
        "B" => "A",
        "E" => "F",
        _ => "E",
    }
}

/// An announcement that could come from a neighbour.
pub fn announcement(id: &str) -> Message {
    let known = Message::new().message(1, known(100, Some(stats(10))));
    announce(neighbor(id), neighbor(id), 1, 1_000_000, Message::new().fixed64(6, 77).message(7, known))
}

fn known(csv_bytes: u64, stats: Option<Message>) -> Message {
    let known = Message::new().message(1, partition(DAY, &[9; 16])).number(2, csv_bytes);
    stats.into_iter().fold(known, |known, stats| known.message(3, stats))
}

fn stats(rows: u64) -> Message {
    Message::new().number(1, rows)
}

/// `NOT (NOT (… utc IS NOT NULL))` as it crosses the wire. Written around its middle, because encoding it would recurse.
fn not(times: usize) -> Vec<u8> {
    let column = col("utc", &observations()).expect("a column");
    let innermost: Arc<dyn PhysicalExpr> = Arc::new(IsNotNullExpr::new(column));
    let once = predicate::encode(&(Arc::new(NotExpr::new(Arc::clone(&innermost))) as _)).expect("encoded");
    let mut predicate = predicate::encode(&innermost).expect("encoded");
    // The number of NOT's field: two bytes of a key, of which the last three bits are its type.
    let key = if once[0] < 0x80 { u32::from(once[0]) } else { u32::from(once[0] & 0x7f) | u32::from(once[1]) << 7 };
    for _ in 0..times {
        predicate = Message::new().message(key >> 3, Message::new().bytes(1, predicate)).0;
    }
    if times == 1 {
        assert_eq!(predicate, once);
    }
    predicate
}

fn queries() -> Vec<(&'static str, Message)> {
    let long = "x".repeat(1 << 20);
    let nested = |open: &str, close: &str, times| format!("SELECT {}1{}", open.repeat(times), close.repeat(times));
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -0.0];
    let mut queries = vec![
        ("nothing asked", Message::new()),
        ("no rows", query().number(7, 0)),
        ("all rows", query().number(7, MAX)),
        ("all rows, counted signed", query().number(7, i64::MAX as u64)),
        ("all time", query().number(5, MAX)),
        ("a millisecond", query().number(5, 1)),
        ("no encoding", query().number(4, 7)),
        ("a long team", query().bytes(3, &long)),
        ("a long client", query().bytes(10, &long)),
        ("a long parameter", of_range(Message::new().bytes(1, &long))),
        ("an empty parameter", of_range(Message::new().bytes(1, ""))),
        ("a parameter of zeros", of_range(Message::new().bytes(1, [0; 40]))),
        ("a long column", of_range(Message::new().bytes(10, &long))),
        ("an empty column", of_range(Message::new().bytes(10, ""))),
        ("a column twice", of_range(Message::new().bytes(10, "utc").bytes(10, "utc"))),
        ("many columns", of_range(Message::new().each(0..100_000, |range, _| range.bytes(10, "utc")))),
        ("a range upside down", of_range(Message::new().double(2, 5.0).double(3, -5.0))),
        ("a box upside down", of_range(Message::new().double(6, 90.0).double(7, -90.0))),
        ("both asked", query().bytes(2, "SELECT 1")),
        ("a parameter that is no text", of_range(Message::new().bytes(1, [0xff, 0xfe]))),
        ("empty SQL", of_sql("")),
        ("SQL of zeros", of_sql([0; 100])),
        ("long SQL", of_sql(format!("SELECT '{long}'"))),
        ("a literal near the limit", of_sql(format!("SELECT '{}'", &long[..60_000]))),
        ("open brackets", of_sql("(".repeat(20_000))),
        ("deep brackets", of_sql(nested("(", ")", 8_000))),
        ("deep NOT", of_sql(nested("NOT ", "", 8_000))),
        ("deep minus", of_sql(nested("- ", "", 8_000))),
        ("a long sum", of_sql(nested("1+", "", 8_000))),
        ("deep CASE", of_sql(nested("CASE WHEN true THEN ", " END", 1_000))),
        ("deep subqueries", of_sql(nested("(SELECT ", ")", 2_000))),
        (
            "a limit beyond counting",
            of_sql("SELECT utc FROM observations LIMIT 9223372036854775807 OFFSET 9223372036854775807"),
        ),
        ("a number beyond counting", of_sql("SELECT 1e400, 99999999999999999999999999999999999999999999")),
    ];
    for number in numbers {
        for field in [2, 3, 6, 7, 8, 9] {
            queries.push(("a strange bound", of_range(Message::new().double(field, number))));
        }
    }
    for date in ["", "00000000", "99999999", "20201301", "2020-08-10", "２０２００８１０", &long[..9]] {
        queries.push(("a strange date", of_range(Message::new().bytes(4, date))));
    }
    queries.push(("the last day there is", of_range(Message::new().bytes(4, "00010101").bytes(5, "99991231"))));
    queries
}

fn about_results() -> Vec<(&'static str, &'static str, Message)> {
    let uids = ["".to_owned(), "x".repeat(1 << 20), "0".repeat(32), "f".repeat(32), "g".repeat(32), "０".repeat(32)];
    let mut calls = Vec::new();
    for uid in &uids {
        let of = Message::new().bytes(1, uid);
        calls.push(("Overlay/GetChunk", "a strange uid", of.clone().number(2, MAX).number(3, MAX)));
        calls.push(("Overlay/StreamChunks", "a strange uid", of.clone().number(2, MAX).number(3, MAX)));
        calls.push(("Overlay/Cancel", "a strange uid", of.clone()));
        calls.push(("Overlay/GetStatus", "a strange uid", of));
    }
    calls
}

fn scans(id: &str) -> Vec<(&'static str, Message)> {
    let far: Vec<String> = (0..2_000).map(|n| format!("n{n}")).collect();
    let mut far: Vec<&str> = far.iter().map(String::as_str).collect();
    far.insert(0, id);
    // Every node has a neighbour, so this leaves the node, with all the time there is.
    let onward = scan_head().message(10, path(&["Z", id, neighbor(id)], 3));
    let with = |field, bytes: Vec<u8>| scan(id).bytes(field, bytes);
    vec![
        ("nothing", Message::new()),
        ("no orders", scan_head()),
        ("an id of 3 bytes", scan(id).bytes(1, [1, 2, 3])),
        ("an empty path", scan_head().message(10, path(&[], 1))),
        ("a path in a circle", scan_head().message(10, path(&["A", id, "A", id], 1))),
        ("a path past this node", scan_head().message(10, path(&["Y", "Z"], 1))),
        ("a path that is far too long", scan_head().message(10, path(&far, 1))),
        ("an unknown neighbour", scan_head().message(10, path(&["A", id, "Z"], 1))),
        ("empty names", scan_head().message(10, path(&["", id, ""], 1))),
        ("all time, onward", onward.clone().number(6, MAX)),
        ("no time", onward.number(6, 0)),
        ("all time", scan(id).number(6, MAX)),
        ("many partitions", scan_head().message(10, path(&["A", id], 200_000))),
        (
            "a day beyond the calendar",
            scan_head().message(10, Message::new().bytes(1, id).message(2, partition(i32::MAX.into(), &[0; 16]))),
        ),
        (
            "a day before the calendar",
            scan_head().message(10, Message::new().bytes(1, id).message(2, partition(i32::MIN.into(), &[0; 16]))),
        ),
        (
            "a digest of 3 bytes",
            scan_head().message(10, Message::new().bytes(1, id).message(2, partition(DAY, &[1, 2, 3]))),
        ),
        ("a partition without a name", scan_head().message(10, Message::new().bytes(1, id).bytes(2, ""))),
        (
            "zones that are none",
            scan(id).message(
                11,
                Message::new()
                    .message(1, partition(DAY, &[0; 16]))
                    .each(0..50_000, |zones, n| zones.number(2, MAX - n)),
            ),
        ),
        ("all at once", scan(id).number(12, u32::MAX.into())),
        ("columns that are none", with(13, vec![99; 50_000])),
        ("a predicate of zeros", with(14, vec![0; 1 << 20])),
        ("a predicate", with(14, not(1))),
        ("a deep predicate", with(14, not(40))),
        ("a predicate that is far too deep", with(14, not(10_000))),
        ("no rows", scan(id).number(15, 0)),
        ("all rows", scan(id).number(15, MAX)),
        ("a long way behind it", scan(id).each(0..100_000, |scan, _| scan.bytes(7, "B"))),
        ("it was here", scan(id).bytes(7, id)),
        ("an empty Leader", scan(id).bytes(8, "")),
        ("a Leader from the past", scan(id).number(9, 0)),
        ("a Leader from the future", scan(id).number(9, MAX)),
    ]
}

/// What can be said of a node that is configured, with the code that the saying gets; `None` if it may be believed.
fn sayings() -> Vec<(&'static str, Message, Option<Code>)> {
    let invalid = Some(Code::InvalidArgument);
    let lists = |known: Message| Message::new().fixed64(6, 5).message(7, Message::new().message(1, known));
    let bounds = |field: u32, min: f64, max: f64| {
        lists(known(1, Some(stats(1).message(field, Message::new().double(1, min).double(2, max)))))
    };
    let placed = Message::new().message(1, partition(DAY, &[1; 16])).bytes(2, "Z").bytes(2, "");
    let many = Message::new().each(0..5_000_u128, |list, n| {
        let of_day = partition(DAY + (n % 40) as i64, &n.to_be_bytes());
        list.message(1, Message::new().message(1, of_day).number(2, 1))
    });
    vec![
        ("nothing", Message::new(), None),
        ("no such state", Message::new().number(4, 9), invalid),
        ("that it drains", Message::new().number(4, 3), None),
        ("links to everywhere", Message::new().each(0..10_000, |said, n| said.bytes(5, format!("n{n}"))), None),
        (
            "links to itself and nobody",
            Message::new().each([NODES[0], NODES[5], ""], |said, id| said.bytes(5, id)),
            None,
        ),
        ("a list that never comes", Message::new().fixed64(6, 1234), None),
        ("an empty list", Message::new().fixed64(6, 3).bytes(7, ""), None),
        ("a list of days that are others", Message::new().fixed64(6, 4).message(7, many), None),
        (
            "that it holds everything",
            Message::new().each(0..50_000_u128, |said, n| said.message(8, partition(DAY, &n.to_be_bytes()))),
            None,
        ),
        ("a digest of 3 bytes", Message::new().message(8, partition(DAY, &[1, 2, 3])), invalid),
        ("too many bytes", lists(known(MAX, None)), invalid),
        ("too many rows", lists(known(1, Some(stats(MAX)))), invalid),
        ("bounds that are no numbers", bounds(4, f64::NAN, f64::NAN), invalid),
        ("bounds upside down", bounds(6, 1.0, -1.0), invalid),
        ("bounds without end", bounds(6, f64::NEG_INFINITY, f64::INFINITY), None),
        ("a load that is no number", Message::new().message(9, Message::new().float(4, f32::NAN)), invalid),
        ("a load below nothing", Message::new().message(9, Message::new().float(4, -1.0)), invalid),
        (
            "a load beyond counting",
            Message::new().message(9, Message::new().number(1, u32::MAX.into()).float(4, 1e30)),
            None,
        ),
        (
            "a placement nowhere",
            Message::new().message(10, Message::new().bytes(1, "A").number(2, MAX).fixed64(3, 1).message(4, placed)),
            None,
        ),
        ("an empty placement", Message::new().message(10, Message::new()), None),
    ]
}

async fn absurd_messages(sound: &Sound) {
    let mut random = seeded();
    let leader = channel(&sound.place.address("A"));
    for (what, message) in queries() {
        check_status(&leader, "Overlay/Query", message.0, what).await;
    }
    for (method, what, message) in about_results() {
        check_status(&leader, method, message.0, what).await;
    }
    let config = Config::load(&sound.place.path("overlay.json")).expect("a configuration");
    let right = overlay::node::fingerprint(&config);
    for id in NODES {
        let channel = channel(&sound.place.address(id));
        for (what, message) in scans(id) {
            check_status(&channel, "Peer/Scan", message.0, what).await;
        }
        let entry = |key: &str, digest| Message::new().bytes(1, key).fixed64(2, digest);
        let named = |name: &str| Message::new().bytes(1, name).number(2, MAX).fixed64(5, 1);
        let other = named(neighbor(id)).each(0..50_000, |hello, n| hello.message(3, entry(&format!("key{n}"), n)));
        let same = |name| named(name).each(right.keys(), |hello, (key, digest)| hello.message(3, entry(key, *digest)));
        for (what, hello, code) in [
            ("nobody", Message::new(), Code::FailedPrecondition),
            ("a long name", named(&"x".repeat(1 << 20)), Code::FailedPrecondition),
            ("another configuration", other, Code::FailedPrecondition),
            ("a node that has no link", same("Z"), Code::FailedPrecondition),
            ("itself", same(id), Code::FailedPrecondition),
            ("a neighbour that is alive", same(neighbor(id)), Code::AlreadyExists),
        ] {
            assert_eq!(check_status(&channel, "Peer/Hello", hello.0, what).await, code, "{id}: {what}");
        }
        for (what, said, code) in sayings() {
            let origin = NODES[random.usize(..NODES.len())];
            let number = random.u64(..) >> random.u8(1..64);
            for (incarnation, sequence, code) in
                [(1, MAX, code), (number, random.u64(..), code), (MAX, 1, Some(Code::InvalidArgument))]
            {
                let message = announce(neighbor(id), origin, incarnation, sequence, said.clone());
                let got = check_status(&channel, "Peer/Announce", message.0, what).await;
                assert_eq!(
                    got,
                    code.unwrap_or(Code::Ok),
                    "{id} is told of {origin} ({incarnation}, {sequence}): {what}"
                );
            }
        }
        let stranger = check_status(&channel, "Peer/Announce", announce("Z", "A", 1, MAX, Message::new()).0, "Z").await;
        assert_eq!(stranger, Code::FailedPrecondition);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_messages_get_a_status_and_every_node_takes_its_word_back() {
    let sound = tokio::task::spawn_blocking(Sound::start).await.expect("started");
    absurd_messages(&sound).await;
    tokio::task::spawn_blocking(move || {
        sound.check();
        sound.end();
    })
    .await
    .expect("sound");
}

/// What is said of `of` to `to` in its name: that it holds nothing and drains, in the highest number there is.
async fn check_refuted(to: &str, of: &str) {
    let cluster = Cluster::start(Setup::default()).await;
    let before = cluster.status(of).await.incarnation;
    let drains = Message::new().number(4, 3);
    let lie = announce(neighbor(to), of, before, MAX, drains);
    call(&channel(cluster.node(to).address()), "Peer/Announce", lie.0).await.expect("nobody can know better");
    until("it counts on", async || {
        let now = cluster.status(of).await.incarnation;
        if now > before { Ok(()) } else { Err(format!("{of} still counts {now}")) }
    })
    .await;
    cluster.until_complete().await;
    let all = Question::default();
    let answer = cluster.ask(range(&all)).await.unwrap_or_else(|error| panic!("{of} of {to}: {error:?}"));
    assert_same(&answer.rows, &cluster.oracle.answer(&all), "afterwards");
}

#[tokio::test]
async fn a_node_that_is_lied_about_counts_on() {
    // To its only neighbour, to one far away, to itself, and of the Leader.
    for (to, of) in [("E", "F"), ("C", "F"), ("F", "F"), ("B", "A")] {
        check_refuted(to, of).await;
    }
}

#[tokio::test]
async fn a_node_whose_counter_is_at_its_end_is_told_so() {
    let cluster = Cluster::prepare(&Setup::default());
    let config = crate::cluster::parse(&cluster.text);
    let state = overlay::node::state_dir::StateDir::open(
        &config.state_dir,
        &overlay::node::fingerprint(&config).to_string(),
        &"A".into(),
    );
    state.expect("a folder").set_incarnation(MAX).expect("written");
    let mut cluster = cluster;
    let error = cluster.start_with(&"A".into(), config).await.expect_err("nobody could count on");
    assert!(error.to_string().contains("not a number of starts"), "{error}");
}
