//! From accepted rows to the chunks a client reads: how a result is cut, kept and encoded.
//!
//! Decides where chunks begin and end ([`chunking`]), how long a result stays, in how much memory and how much of it on
//! disk ([`store`], [`spool`]), and what its bytes look like ([`encoding`]). Leaves to others which rows belong to a result (the leader's acceptance) and
//! how bytes travel (`transport`). Plain synchronous code: `now` is a [`std::time::Duration`] since an epoch of the
//! caller's choice, the same in every call.
//!
//! Invariant: a row once appended is in exactly one chunk, and a chunk once handed out is the same at every later read.

mod arrived;
mod chunk;
pub mod chunking;
mod columns;
pub mod encoding;
mod footprint;
mod reading_speed;
pub mod result;
mod rows;
pub mod spool;
pub mod store;

use std::fmt;
use std::str::FromStr;

pub use arrived::Arrived;
pub use chunk::{Chunk, ChunkState, Cut, LastLoaded, Piece};
pub use columns::OtherColumns;

/// The id of one query and of its result: 128 random bits, drawn by the caller so that nobody can guess another's.
/// Written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u128);

impl fmt::Display for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no query id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a query id (32 hexadecimal digits): {0:?}")]
pub struct BadQueryId(String);

impl FromStr for QueryId {
    type Err = BadQueryId;

    fn from_str(text: &str) -> Result<QueryId, BadQueryId> {
        // The digits are checked one by one because `from_str_radix` also takes a sign.
        let bad = || BadQueryId(text.chars().take(64).collect());
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u128::from_str_radix(text, 16).map(QueryId).map_err(|_| bad())
    }
}

/// Why rows that may once have been there cannot be had. The words are part of the wire: they are the reason beside
/// `NOT_FOUND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Gone {
    /// The client said it has them.
    #[error("acknowledged")]
    Acknowledged,
    /// Others needed the memory.
    #[error("evicted")]
    Evicted,
    /// Nobody read the finished result for its time to live.
    #[error("expired")]
    Expired,
    /// Nobody attended to the query at all.
    #[error("abandoned")]
    Abandoned,
    /// Cancelled by its client or by the node.
    #[error("cancelled")]
    Cancelled,
    /// Never heard of, or gone for so long that the reason is forgotten.
    #[error("unknown")]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_id_is_32_hexadecimal_digits() {
        for id in [0, 1, 0xdead_beef, u128::MAX] {
            let text = QueryId(id).to_string();
            assert_eq!(text.len(), 32);
            assert_eq!(text.parse(), Ok(QueryId(id)));
            assert_eq!(text.to_uppercase().parse(), Ok(QueryId(id)));
        }
        for text in ["", "1", "+0000000000000000000000000000001", "g0000000000000000000000000000000", &"0".repeat(33)] {
            assert_eq!(text.parse::<QueryId>(), Err(BadQueryId(text.to_owned())));
        }
    }
}
