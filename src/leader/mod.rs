//! Takes a client's query and answers for it.
//!
//! Here so far: who may start and who waits ([`admission`]), and which flow comes next ([`fairness`]). Plain synchronous
//! code: `now` is a [`std::time::Duration`] since an epoch of the caller's choice.

pub mod admission;
pub mod fairness;
