//! `overlay-ingest`: bytes of CSV to partitions.

pub mod date;
pub mod partition_id;

pub use date::{Date, DateRange};
pub use partition_id::PartitionId;
