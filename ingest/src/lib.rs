//! Bytes of CSV to partitions: the only code that reads the data set's text.
//!
//! The journey of a row:
//!
//! 1. [`dataset`] walks the tree and says which files belong to which day, which are refused and which are ignored.
//! 2. `csv` cuts a file into lines and a line into 13 fields, or says why it cannot.
//! 3. `row` decodes the fields into typed values, or says why it cannot; `number` and `dictionary` are its hands.
//!    Most rows take a short cut past 2 and 3: `series` recognises them by what their site says every hour.
//! 4. [`partition`] reads the files of one day and names the result by what it was made from; `sorted` puts the rows
//!    into one total order.
//! 5. `parquet_file` writes it and reads it back, [`partition_file`] in pieces; [`rejects`] keeps every row that was not
//!    taken.
//!    [`counts`] keeps how often each concentration occurs.
//! 6. [`manifest`] is the one point of commit; [`run`] decides what must be redone; [`cache`] loads what was committed.
//!
//! Invariant: every line that is not blank is either a row of a partition or a line of the rejects file, never both
//! and never neither. Nothing here knows of networks, nodes or queries.

pub mod cache;
mod cache_writer;
pub mod counts;
mod csv;
pub mod dataset;
pub mod date;
mod dictionary;
pub mod error;
mod finishing;
pub mod generate;
mod key_hasher;
pub mod manifest;
mod number;
mod parquet_file;
pub mod partition;
pub mod partition_file;
pub mod partition_id;
pub mod progress;
pub mod receipt;
pub mod rejects;
mod row;
pub mod run;
pub mod schema;
mod series;
mod sorted;
pub mod stats;

pub use cache::Cache;
pub use dataset::{Dataset, Refusal, SourceFile};
pub use date::{Date, DateRange};
pub use error::Error;
pub use manifest::{Manifest, PartitionEntry, SourceEntry};
pub use partition::{Parsed, Partition, identify_date, parse_date};
pub use partition_file::PartitionFile;
pub use partition_id::PartitionId;
pub use rejects::{Reason, Reject};
pub use schema::{LAYOUT_VERSION, Layout, ZONE_ROWS, observations};
pub use stats::{Bounds, PartitionStats};
