//! The name of a partition: the same on every host that reads the same files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::date::Date;

/// One UTC day of a data set in one exact form. The digest covers the data set's name, the schema, the parser and
/// layout version, and the sorted names and digests of the source files; so equal ids mean equal rows in equal zones,
/// whoever made them and from wherever they were loaded.
///
/// Written `YYYYMMDD-` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    pub date: Date,
    pub digest: u128,
}

/// The text is not a partition id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a partition id (YYYYMMDD-, then 32 hexadecimal digits)")]
pub struct BadPartitionId(pub String);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.date, self.digest)
    }
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PartitionId {
    type Err = BadPartitionId;

    fn from_str(text: &str) -> Result<PartitionId, BadPartitionId> {
        let bad = || BadPartitionId(text.chars().take(60).collect());
        let (date, digest) = text.split_once('-').ok_or_else(bad)?;
        if digest.len() != 32 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        Ok(PartitionId {
            date: date.parse().map_err(|_| bad())?,
            digest: u128::from_str_radix(digest, 16).map_err(|_| bad())?,
        })
    }
}

impl Serialize for PartitionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartitionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PartitionId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
