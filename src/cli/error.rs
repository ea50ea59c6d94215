//! Errors as people see them, and exit codes.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::failure::{Failure, FailureKind};
use crate::routing;

/// What the program's end says to a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    pub const OK: Exit = Exit(0);
    pub const FAILED: Exit = Exit(1);
    pub const USAGE: Exit = Exit(2);
    /// The answer is there, with gaps that were allowed.
    pub const PARTIAL: Exit = Exit(3);
    pub const UNREACHABLE: Exit = Exit(4);
    /// Admission had no place.
    pub const REFUSED: Exit = Exit(5);
    pub const TIMEOUT: Exit = Exit(124);
    pub const INTERRUPTED: Exit = Exit(130);
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.0)
    }
}

/// An error with everything that is shown of it.
#[derive(Debug)]
pub struct CliError {
    pub exit: Exit,
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// The last line, for an answer that broke off.
    last: Option<String>,
}

impl CliError {
    /// An error without cause or hint.
    pub fn new(exit: Exit, what: impl Into<String>) -> CliError {
        CliError { exit, what: what.into(), causes: Vec::new(), hint: None, last: None }
    }

    /// An error and what lies behind it.
    pub fn caused(exit: Exit, what: impl Into<String>, error: &dyn std::error::Error) -> CliError {
        let mut causes = vec![error.to_string()];
        let mut source = error.source();
        while let Some(error) = source {
            causes.push(error.to_string());
            source = error.source();
        }
        CliError { causes, ..CliError::new(exit, what) }
    }

    /// The error itself is what there is to say.
    pub fn of(exit: Exit, error: &dyn std::error::Error) -> CliError {
        let mut caused = CliError::caused(exit, "", error);
        caused.what = caused.causes.remove(0);
        caused
    }

    /// What a node said, with the place where it happened.
    pub fn from_failure(failure: &Failure, address: &str) -> CliError {
        // A connection that could not be made has no reason of ours.
        let is_unreachable = failure.kind == FailureKind::Unavailable && failure.reason.is_empty();
        let exit = match failure.kind {
            _ if is_unreachable => Exit::UNREACHABLE,
            FailureKind::InvalidArgument => Exit::USAGE,
            FailureKind::ResourceExhausted
                if ["QUEUE_FULL", "DISPLACED", "DEADLINE_CANNOT_BE_MET"].contains(&&*failure.reason) =>
            {
                Exit::REFUSED
            }
            FailureKind::DeadlineExceeded => Exit::TIMEOUT,
            _ => Exit::FAILED,
        };
        if is_unreachable {
            return CliError {
                causes: vec![failure.message.clone()],
                hint: Some("is it running? start it with `overlay up`, look with `overlay doctor`".to_owned()),
                ..CliError::new(exit, format!("no node can be reached at {address}"))
            };
        }
        let mut causes = Vec::new();
        let mut place = String::new();
        if let Some(node) = &failure.node {
            let _ = write!(place, "node {node}");
        }
        if !failure.route.is_empty() {
            let route = routing::names(&failure.route, " → ");
            let _ = write!(place, "{}route {route}", if place.is_empty() { "" } else { ", " });
        }
        if !place.is_empty() {
            causes.push(format!("{} at {place} (asked through {address})", failure.kind.name()));
        }
        // Where the message names them already, once is enough.
        if failure.dates.iter().any(|date| !failure.message.contains(date.as_str())) {
            causes.push(format!("dates: {}", failure.dates.join(" ")));
        }
        CliError { causes, hint: hint(failure), ..CliError::new(exit, failure.message.clone()) }
    }

    /// With something to type.
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// The error broke an answer off after so many rows: whatever it was, what stands on stdout is not the answer.
    pub fn after_printing(mut self, rows: u64) -> CliError {
        if self.exit != Exit::INTERRUPTED {
            self.exit = Exit::FAILED;
        }
        self.last = Some(format!("incomplete: {rows} rows were printed"));
        self
    }

    /// What it is and what lies behind it, without the hint.
    pub fn on_one_line(&self) -> String {
        std::iter::once(&self.what).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// Writes it to stderr.
    pub fn print(&self) {
        eprintln!("error: {}", self.what);
        for cause in &self.causes {
            eprintln!("caused by: {cause}");
        }
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
        if let Some(last) = &self.last {
            eprintln!("{last}");
        }
    }
}

fn hint(failure: &Failure) -> Option<String> {
    match (failure.kind, failure.reason.as_str()) {
        (_, "MISSING_PARTITIONS" | "NEVER_ANNOUNCED") => {
            Some("start the missing nodes, or take what there is with --allow-partial".to_owned())
        }
        (FailureKind::ResourceExhausted, "QUEUE_FULL" | "DISPLACED") => {
            let after = failure.retry_after.map_or(1.0, |after| after.as_secs_f64());
            Some(format!("try again in about {after:.1} s"))
        }
        (FailureKind::DeadlineExceeded, _) => Some("give it more time with --timeout SECONDS".to_owned()),
        (_, "SQL_REFUSED") => Some("see `overlay sql --help` for what can be asked".to_owned()),
        _ => None,
    }
}
