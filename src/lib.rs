//! Overlay: a columnar analytics engine behind an overlay network.
//!
//! # The map
//!
//! `overlay-ingest` (the other package, which this one imports and never the other way round) turns a tree of hourly
//! CSV files into immutable partitions, one a UTC day, sorted by parameter, site and hour, and cut into zones of 8,192
//! rows. Every node is the same program. It holds some partitions of its team's dates as Arrow, scans them, and speaks
//! gRPC with its neighbours on a configured graph. A client asks the Leader, which admits the query, plans it, assigns
//! every partition to exactly one live holder and a path to it, and delivers the answer in chunks.
//!
//! # The journey of a query
//!
//! 1. [`transport::server`] turns the message into a [`leader::answer::QuerySpec`]; `node::clients` checks what can be
//!    judged unparsed and offers it to [`leader::admission`], which queues it, starts it, or sheds it.
//! 2. Its task pins the [`leader::manifest`] and plans with [`engine::session`]: a range query is a small logical plan,
//!    SQL passes [`engine::sql_gate`] first. Both end in leaves, [`engine::leaf`], with what could be pruned left out; what
//!    is asked most gets there by [`engine::short_plan`], and SQL that was asked before by [`engine::plan_cache`].
//! 3. A leaf's [`engine::reader`] makes an assignment ([`routing::assignment`]) and runs it on this node's
//!    [`engine::hop`]: own partitions from the [`engine::store`], in memory or on disk, the others by `Scan` to the next hop,
//!    which does the same.
//!    Zones are decided by their bounds, counted from an index, compared, or left to DataFusion ([`engine::scan`]).
//! 4. Zones come back packed ([`delivery::encoding::packed`]), several in one block, and stay so unless somebody looks at
//!    rows; each is taken once ([`engine::acceptance`]); what is missing is asked for again, from another holder or over
//!    another path; what stays missing is a failure, or with `allow_partial` a named gap.
//! 5. Rows go into the [`delivery::store`], beyond its memory onto disk ([`delivery::spool`]), and leave it as chunks
//!    ([`delivery::chunking`], [`delivery::encoding`]).
//! 6. [`leader::coverage`] judges whether every partition is accounted for; only then the last chunk and the footer go out.
//!
//! Everything that computes for a query does it in turn: zones, plans, what plans compute ([`engine::plan_turns`]) and
//! chunks wait for [`engine::turns`], which divides a node's cores among teams, their clients and their queries; what it
//! all cost, refusals among it, goes to the account of [`leader::fairness`].
//!
//! Replies carry how busy their nodes are ([`routing::live_load`]), so that the next assignment may go by it, and how
//! many queries run at the same time.
//!
//! Meanwhile nodes announce what they know, hold and hear ([`routing::announcements`], `node::membership`), the Leader
//! places partitions on the members of their team ([`routing::placement`]), and a node that is cut off from the Leader
//! makes a link of its own for the time being ([`routing::adoption`], `node::adopted`). A data set that is ingested again is
//! taken over by the nodes while they run (`node::change_over`), and queries wait until they agree (`node::settling`).
//!
//! A query that was refused comes back when the Leader said, within its time (`client::retry`). `overlay bench` and
//! `overlay test` ([`cli`]) ask a running overlay from outside, as clients do, and say what its promises come to.
//!
//! # What always holds
//!
//! - An answer that ends well counts every row of the pinned manifest once, or names what is missing.
//! - Nothing grows without a bound: queue, results, messages, scans, plans' memory, retries.
//! - The parts ([`routing`], [`engine`], [`leader`], [`delivery`], [`config`]) decide; [`node`], [`client`] and [`transport`] own
//!   tasks, timers and connections. Parts never import those, and only [`transport`] sees the wire. A test keeps this.
//! - No part reads a clock or draws a random number: both are passed in, as are executors, connector and listener, so
//!   that a whole cluster can run in a simulation.
//!
//! # What is not here yet
//!
//! One copy of each partition is placed unless `replicas` says more; copies that are lost are not made again. SQL runs
//! at the Leader over distributed leaves, not distributed itself.

pub mod cli;
pub mod client;
pub mod config;
pub mod delivery;
pub mod engine;
pub mod failure;
pub mod leader;
pub mod node;
pub mod routing;
pub mod transport;
