//! Single values: what is accepted, in which range, and how a wrong one is named.

use std::path::PathBuf;

use overlay_ingest::Date;

use super::error::Wrong;
use super::json::Tree;
use super::section::suggestion;
use crate::routing::{Replicas, Role};

fn wrong<T>(must: impl std::fmt::Display, tree: &Tree) -> Result<T, Wrong> {
    Err(Wrong::new(format!("must be {must} (is {tree})")))
}

/// `true` or `false`.
pub(super) fn flag(tree: &Tree) -> Result<bool, Wrong> {
    match tree {
        Tree::Flag(flag) => Ok(*flag),
        Tree::Text(text) if text == "true" || text == "false" => {
            wrong("true or false", tree).map_err(|wrong| wrong.hint("write it without quotes"))
        }
        other => wrong("true or false", other),
    }
}

/// A whole number from `low` to `high`, both included.
pub(super) fn whole(low: u64, high: u64) -> impl Fn(&Tree) -> Result<u64, Wrong> {
    move |tree| match tree {
        Tree::Whole(number) if (i128::from(low)..=i128::from(high)).contains(number) => {
            Ok(u64::try_from(*number).expect("it lies between two u64"))
        }
        Tree::Text(text) if text.parse::<u64>().is_ok() => {
            wrong(format!("a number from {low} to {high}"), tree).map_err(|wrong| wrong.hint("write it without quotes"))
        }
        other => wrong(format!("a number from {low} to {high}"), other),
    }
}

/// The same, for settings that are kept as `u32`.
pub(super) fn whole_u32(low: u32, high: u32) -> impl Fn(&Tree) -> Result<u32, Wrong> {
    move |tree| {
        let number = whole(u64::from(low), u64::from(high))(tree)?;
        Ok(u32::try_from(number).expect("it lies between two u32"))
    }
}

/// The same, for counts of things in memory.
pub(super) fn count(low: u32, high: u32) -> impl Fn(&Tree) -> Result<usize, Wrong> {
    move |tree| whole_u32(low, high)(tree).map(|number| number as usize)
}

const UNITS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
const BYTES_MAX: u64 = 1 << 50;

/// A number of bytes, at least 1: `1048576` or `"1MiB"`.
pub(super) fn bytes(tree: &Tree) -> Result<u64, Wrong> {
    bytes_from(1, tree)
}

/// The same, or 0.
pub(super) fn bytes_or_none(tree: &Tree) -> Result<u64, Wrong> {
    bytes_from(0, tree)
}

fn bytes_from(least: u64, tree: &Tree) -> Result<u64, Wrong> {
    let bytes = match tree {
        Tree::Whole(number) => u64::try_from(*number).ok(),
        Tree::Text(text) => UNITS.iter().find_map(|(unit, size)| {
            let digits = text.strip_suffix(unit)?;
            let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if all_digits { digits.parse::<u64>().ok()?.checked_mul(*size) } else { None }
        }),
        _ => None,
    };
    match bytes {
        Some(bytes) if (least..=BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => wrong(format!("a number of bytes from {least} to 1024TiB"), tree)
            .map_err(|wrong| wrong.hint("write 1048576, or \"512MiB\", or \"8GiB\"")),
    }
}

/// Text that is not empty.
pub(super) fn text(tree: &Tree) -> Result<String, Wrong> {
    match tree {
        Tree::Text(text) if !text.is_empty() => Ok(text.clone()),
        other => wrong("text, and not empty", other),
    }
}

/// A path; a relative one counts from the current folder.
pub(super) fn path(tree: &Tree) -> Result<PathBuf, Wrong> {
    match text(tree)? {
        text if text.contains('\0') => wrong("a path", tree),
        text => Ok(PathBuf::from(text)),
    }
}

/// An id of a process or a team: it is part of file names and of paths on the screen.
pub(super) fn name(tree: &Tree) -> Result<String, Wrong> {
    match tree {
        Tree::Text(text) if is_name(text) => Ok(text.clone()),
        other => wrong("1 to 32 of A-Z a-z 0-9 _ -", other),
    }
}

pub(super) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The name of a data set: as of a process, dots too, and up to 64.
pub(super) fn dataset_name(tree: &Tree) -> Result<String, Wrong> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    match tree {
        Tree::Text(text) if (1..=64).contains(&text.len()) && text.bytes().all(fits) => Ok(text.clone()),
        other => wrong("1 to 64 of A-Z a-z 0-9 _ - .", other),
    }
}

/// The name of a table in SQL, which needs no quotes there.
pub(super) fn table_name(tree: &Tree) -> Result<String, Wrong> {
    let fits = |(i, b): (usize, u8)| b.is_ascii_lowercase() || (i > 0 && (b.is_ascii_digit() || b == b'_'));
    match tree {
        Tree::Text(text) if (1..=63).contains(&text.len()) && text.bytes().enumerate().all(fits) => Ok(text.clone()),
        other => wrong("a lower-case letter, then up to 62 of a-z 0-9 _", other),
    }
}

/// An address that peers can dial, without its port.
pub(super) fn host(tree: &Tree) -> Result<String, Wrong> {
    let text = text(tree)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:[]%".contains(c);
    if text.len() > 253 || !text.chars().all(fits) {
        return wrong("a host name or an IP address", tree);
    }
    if ["0.0.0.0", "::", "[::]"].contains(&text.as_str()) {
        return wrong("an address that peers can dial", tree)
            .map_err(|wrong| wrong.hint("write 127.0.0.1, or the address of this machine"));
    }
    Ok(text)
}

/// `"YYYYMMDD"`.
pub(super) fn date(tree: &Tree) -> Result<Date, Wrong> {
    let date = match tree {
        Tree::Text(text) => text.parse().ok(),
        _ => None,
    };
    date.map_or_else(|| wrong("a date, as \"20200810\"", tree), Ok)
}

pub(super) fn role(tree: &Tree) -> Result<Role, Wrong> {
    const ROLES: &[Role] = &[Role::Leader, Role::TeamLeader, Role::Worker];
    let names: Vec<String> = ROLES.iter().map(Role::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let chosen = one_of(&names)(tree)?;
    Ok(*ROLES.iter().find(|role| role.to_string() == chosen).expect("it was found among their names"))
}

/// One of the names of a table.
pub(super) fn one_of(names: &[&str]) -> impl Fn(&Tree) -> Result<String, Wrong> {
    move |tree| match tree {
        Tree::Text(text) if names.contains(&text.as_str()) => Ok(text.clone()),
        Tree::Text(text) => {
            wrong(format!("one of {}", names.join(", ")), tree).map_err(|wrong| wrong.hint(suggestion(text, names)))
        }
        other => wrong(format!("one of {}", names.join(", ")), other),
    }
}

/// A number from 1, or `"all"`.
pub(super) fn replicas(tree: &Tree) -> Result<Replicas, Wrong> {
    match tree {
        Tree::Text(text) if text == "all" => Ok(Replicas::All),
        Tree::Whole(number @ 1..=1000) => {
            Ok(Replicas::Count(u32::try_from(*number).expect("it lies between 1 and 1000")))
        }
        other => wrong("a number from 1 to 1000, or \"all\"", other),
    }
}
