//! Takes a client's query and answers for it.
//!
//! - [`admission`] says who may start and who waits, [`fairness`] which flow comes next, by an account of what each got.
//! - [`manifest`] is what there is to be asked for; a query is pinned to one version of it.
//! - [`desk`] follows every query from its arrival to its one end, with the result that is left of it.
//! - [`coverage`] judges whether what came together is the answer.
//! - [`answer`] is what the client gets to see besides rows.
//!
//! Plain synchronous code: `now` is a [`std::time::Duration`] since an epoch of the caller's choice.

pub mod admission;
pub mod answer;
pub mod coverage;
pub mod desk;
pub mod fairness;
pub mod manifest;

pub use manifest::{Entry, Expected, Manifest, StoredManifest};
