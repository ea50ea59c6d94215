//! What can be wrong with a configuration. All problems of a file are told at once: each names the key's path, what
//! is wrong with the value, and what to write instead.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where, such as `processes.A.neighbors[1]`; a flag's name for an override.
    pub path: String,
    pub wrong: Wrong,
}

/// What is wrong there, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    pub what: String,
    pub hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Wrong {
        Wrong { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.wrong.what)?;
        match &self.wrong.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// A configuration that cannot be used. Nothing is retried: the file, or the flag, has to be put right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the configuration {name} has more than {max} bytes")]
    TooLarge { name: String, max: u64 },
    #[error("{name}:{line}:{column}: {what}")]
    Syntax { name: String, line: usize, column: usize, what: String },
    #[error("{name}: {}{}", count(problems), list(problems))]
    Problems { name: String, problems: Vec<Problem> },
}

impl ConfigError {
    /// The problems one by one; none if the file could not be read as JSON.
    pub fn problems(&self) -> &[Problem] {
        match self {
            ConfigError::Problems { problems, .. } => problems,
            _ => &[],
        }
    }
}

fn count(problems: &[Problem]) -> String {
    match problems.len() {
        1 => "1 problem".to_string(),
        count => format!("{count} problems"),
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Collects problems while a file is read and checked.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, path: impl Into<String>, wrong: Wrong) {
        self.0.borrow_mut().push(Problem { path: path.into(), wrong });
    }

    /// The value, or the problem noted.
    pub(super) fn note<T>(&self, path: &str, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.add(path, wrong)).ok()
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}
