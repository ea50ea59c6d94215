//! Reading an object key by key. A key that is asked for is a known key; what is left in the end is unknown, so the
//! list of known keys cannot fall behind the reading. A value that cannot be used is noted and reading goes on.

use std::cell::RefCell;
use std::collections::HashSet;

use super::error::{Problems, Wrong};
use super::json::Tree;

/// One object of the file.
pub(super) struct Section<'a> {
    path: String,
    entries: &'a [(String, Tree)],
    asked: RefCell<Vec<&'static str>>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(tree: &'a Tree, problems: &'a Problems) -> Option<Section<'a>> {
        Section::at(String::new(), tree, problems)
    }

    fn at(path: String, tree: &'a Tree, problems: &'a Problems) -> Option<Section<'a>> {
        let Tree::Object(entries) = tree else {
            let shown = if path.is_empty() { "(the file)".to_string() } else { path };
            problems.add(shown, Wrong::new(format!("must be an object, {{ … }} (is {tree})")));
            return None;
        };
        let section = Section { path, entries, asked: RefCell::default(), problems };
        let mut seen = HashSet::new();
        let mut told = HashSet::new();
        for (key, _) in entries {
            if !seen.insert(key) && told.insert(key) {
                problems.add(section.path_of(key), Wrong::new("the key is given twice").hint("keep one of them"));
            }
        }
        Some(section)
    }

    /// The full path of a key of this object.
    pub(super) fn path_of(&self, key: &str) -> String {
        let key: String = key.chars().take(64).collect();
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, read; `None` if it is missing or wrong, which is noted.
    pub(super) fn required<T>(&self, key: &'static str, read: impl Fn(&Tree) -> Result<T, Wrong>) -> Option<T> {
        match self.find(key) {
            Some(tree) => self.problems.note(&self.path_of(key), read(tree)),
            None => {
                self.problems.add(self.path_of(key), Wrong::new("is missing"));
                None
            }
        }
    }

    /// The same for a key that may be left out.
    pub(super) fn or<T>(&self, key: &'static str, default: T, read: impl Fn(&Tree) -> Result<T, Wrong>) -> Option<T> {
        match self.find(key) {
            Some(tree) => self.problems.note(&self.path_of(key), read(tree)),
            None => Some(default),
        }
    }

    /// An object inside this one.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        match self.find(key) {
            Some(tree) => Section::at(self.path_of(key), tree, self.problems),
            None => {
                self.problems.add(self.path_of(key), Wrong::new("is missing"));
                None
            }
        }
    }

    /// An object inside this one that may be left out, and is empty then.
    pub(super) fn section_or_empty(&self, key: &'static str) -> Option<Section<'a>> {
        match self.find(key) {
            Some(tree) => Section::at(self.path_of(key), tree, self.problems),
            None => {
                let asked = RefCell::default();
                Some(Section { path: self.path_of(key), entries: &[], asked, problems: self.problems })
            }
        }
    }

    /// The elements of a list with the path of each; `None` if the key is missing or no list, which is noted.
    pub(super) fn elements(&self, key: &'static str) -> Option<Vec<(String, &'a Tree)>> {
        let path = self.path_of(key);
        match self.find(key) {
            Some(Tree::List(list)) => {
                Some(list.iter().enumerate().map(|(i, tree)| (format!("{path}[{i}]"), tree)).collect())
            }
            Some(other) => {
                self.problems.add(path, Wrong::new(format!("must be a list, [ … ] (is {other})")));
                None
            }
            None => {
                self.problems.add(path, Wrong::new("is missing"));
                None
            }
        }
    }

    /// The objects of an object whose keys are names chosen by the user. No unknown keys here.
    pub(super) fn named(&self) -> Vec<(&'a str, Option<Section<'a>>)> {
        self.entries
            .iter()
            .map(|(key, tree)| (key.as_str(), Section::at(self.path_of(key), tree, self.problems)))
            .collect()
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn close(self) {
        let asked = self.asked.borrow();
        for (key, _) in self.entries {
            if !asked.contains(&key.as_str()) {
                let wrong = Wrong::new("unknown key").hint(suggestion(key, &asked));
                self.problems.add(self.path_of(key), wrong);
            }
        }
    }

    /// Whether a key is written, whatever its value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: &'static str) -> Option<&'a Tree> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.entries.iter().find(|(name, _)| name == key).map(|(_, tree)| tree)
    }
}

/// `did you mean X?`, or all there is to choose from.
pub(super) fn suggestion(written: &str, known: &[&str]) -> String {
    let written: String = written.chars().take(64).collect();
    let closest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(&written.to_lowercase(), &name.to_lowercase()), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match closest {
        Some((likeness, name)) if likeness >= 0.85 => format!("did you mean {name}?"),
        _ => format!("there is {}", known.join(", ")),
    }
}
