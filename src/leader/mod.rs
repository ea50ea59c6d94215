//! What the Leader decides: what there is to be asked for, and what becomes of a query.

pub mod manifest;

pub use manifest::{Entry, Expected, Manifest, StoredManifest};
