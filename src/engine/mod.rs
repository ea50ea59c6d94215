//! The engine: what a node holds, how it is scanned, and how a query reads it wherever it lies.
//!
//! - [`store`] holds partitions, cut into zones, with a zone map; [`zone_rows`] and [`coded`] say in which form.
//! - [`on_disk`] is for those that found no room there: their files, read in pieces by each scan.
//! - [`scan`] turns held zones into answers, many small jobs on the executor that it is given.
//! - [`conjunction`], [`typed_zones`] and [`count_index`] are the fast way to the rows of simple predicates.
//! - [`turns`] says whose zone is scanned next, by the [`share`] that its query has; [`fair_pool`] keeps the threads,
//!   and [`plan_turns`] makes plans take turns as well.
//! - [`hop`] runs one `Scan`: this node's own partitions, and a branch for each next hop.
//! - [`acceptance`] lets every zone into the answer once, whole, or says why not.
//! - [`leaf`] is the only way to read observations: a DataFusion plan node on top of the three above.
//! - [`session`] plans range queries and SQL over that leaf, [`sql_gate`] says which SQL is let in, and [`plan_cache`] keeps
//!   plans for when they are asked for again. [`estimate`] is what the planner is told of the data, [`by_distinct`] computes
//!   what it need not compute for each row.
//!
//! Invariant: a leaf that ends normally has accepted every zone of every partition that it was asked for, or its
//! coverage names the ones that are pruned, not needed or missing.

pub mod acceptance;
pub mod by_distinct;
pub mod cache_figures;
pub mod coded;
pub mod cold;
pub mod conjunction;
pub mod count_index;
pub mod coverage;
pub mod estimate;
pub mod executor;
pub mod fair_pool;
pub mod filter;
pub mod hop;
pub mod leaf;
pub mod message;
pub mod meter;
pub mod on_disk;
pub mod plain;
pub mod plan_cache;
pub mod plan_turns;
pub mod predicate;
pub mod reader;
pub mod row_count;
pub mod scan;
pub mod session;
pub mod share;
pub mod short_plan;
pub mod sql_gate;
pub mod statistics;
pub mod stop;
pub mod store;
pub mod table;
pub mod turns;
pub mod typed_zones;
pub mod zone_rows;
