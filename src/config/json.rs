//! JSON as written: keys in their order and repeated ones kept, so that a repeated key can be reported by its path
//! instead of being dropped silently. Positions are told for syntax errors only.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::ConfigError;

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Flag(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl fmt::Display for Tree {
    /// Short enough for one line of an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Null => f.write_str("null"),
            Tree::Flag(flag) => write!(f, "{flag}"),
            Tree::Whole(number) => write!(f, "{number}"),
            Tree::Fraction(number) => write!(f, "{number:?}"),
            Tree::Text(text) if text.chars().count() > 40 => {
                write!(f, "{:?}…", text.chars().take(40).collect::<String>())
            }
            Tree::Text(text) => write!(f, "{text:?}"),
            Tree::List(_) => f.write_str("a list"),
            Tree::Object(_) => f.write_str("an object"),
        }
    }
}

/// Reads one JSON value and nothing after it. `name` names the file in errors.
pub(super) fn parse(bytes: &[u8], name: &str) -> Result<Tree, ConfigError> {
    let syntax = |line, column, what: &str| ConfigError::Syntax { name: name.into(), line, column, what: what.into() };
    // Some editors put a byte order mark in front; it says nothing.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        syntax(line, column, "this byte is not UTF-8")
    })?;
    if text.trim().is_empty() {
        return Err(syntax(1, 1, "the file is empty"));
    }
    serde_json::from_str(text).map_err(|error| {
        let what = error.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        syntax(error.line(), error.column(), what)
    })
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Whole(i128::from(number)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Whole(i128::from(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Tree::Object(object))
    }
}
