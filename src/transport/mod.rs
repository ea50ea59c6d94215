//! The wire, behind its door: only this folder sees tonic, prost and generated types.
//!
//! - [`connector`] says how a connection is made and where one is awaited: TCP, or an in-process pipe.
//! - [`services`] are what a node must offer to be served; [`server`] serves them.
//! - [`peer`] talks to a neighbour and implements [`crate::engine::hop::RemoteScan`]; [`leader`] talks to a Leader.
//! - `codec` puts messages into buffers, `chunk_batch` the one that carries rows without another copy of them.
//! - the `convert_*` modules turn our words into messages and back; nothing from the wire is trusted.

mod chunk_batch;
mod codec;
pub mod connector;
mod convert_answer;
mod convert_peer;
mod convert_status;
mod convert_trace;
pub mod leader;
pub mod peer;
pub mod server;
pub mod services;
mod status;

/// Largest message taken or sent, either way. Zones travel in parts of about 1 MiB; the largest chunk (`chunk_rows_max`
/// rows of every column) takes about 5 MiB, the rest is head-room for wide text.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Flow-control window of one stream. A half-read stream may hold this much and no more.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Flow-control window of a connection: that of all its streams together, so that half-read ones stall nobody.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX;
/// A frame carries up to this much: a message of a megabyte in the customary 16 KiB is many hand-overs. Larger frames would
/// let small calls on the same connection wait longer behind one.
pub(crate) const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Streams on one connection. More wait for a place on it.
pub(crate) const STREAMS_MAX: u32 = 256;

pub(crate) mod wire {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("overlay.v1");
}
