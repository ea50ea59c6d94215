//! What was looked at and what was found: one line each, and how they are shown to people and programs.

use std::fmt::Write as _;
use std::io::IsTerminal;

use serde::Serialize;

use crate::cli::error::{CliError, Exit};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// It works, though not as well as it could, or it may be meant.
    Warning,
    /// Something does not work before this is mended.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// With the values that it rests on.
    pub text: String,
    /// What to type or change; always there unless all is well.
    pub hint: Option<String>,
}

impl Finding {
    pub fn ok(text: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, text: text.into(), hint: None }
    }

    pub fn warning(text: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, text: text.into(), hint: Some(hint.into()) }
    }

    pub fn problem(text: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { level: Level::Problem, text: text.into(), hint: Some(hint.into()) }
    }
}

/// Findings about one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    pub name: &'static str,
    pub findings: Vec<Finding>,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    pub sections: Vec<Section>,
}

impl Report {
    /// Adds a section, unless nothing was looked at.
    pub fn add(&mut self, name: &'static str, findings: Vec<Finding>) {
        if !findings.is_empty() {
            self.sections.push(Section { name, findings });
        }
    }

    fn count(&self, level: Level) -> usize {
        self.sections.iter().flat_map(|section| &section.findings).filter(|finding| finding.level == level).count()
    }

    /// Failed if there is a problem.
    pub fn exit(&self) -> Exit {
        if self.count(Level::Problem) == 0 { Exit::OK } else { Exit::FAILED }
    }

    /// For people; in colour at a terminal, unless NO_COLOR is set.
    pub fn print(&self) {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        print!("{}", self.render(std::io::stdout().is_terminal() && !no_color));
    }

    fn render(&self, color: bool) -> String {
        let paint = |style: &str, text: &str| match color {
            true => format!("\x1b[{style}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let mut text = String::new();
        for section in &self.sections {
            let _ = writeln!(text, "{}", paint("1", section.name));
            for finding in &section.findings {
                let (style, word) = match finding.level {
                    Level::Ok => ("32", "ok     "),
                    Level::Warning => ("33", "warning"),
                    Level::Problem => ("1;31", "problem"),
                };
                let _ = writeln!(text, "  {}  {}", paint(style, word), finding.text);
                if let Some(hint) = &finding.hint {
                    let _ = writeln!(text, "           {}", paint("2", &format!("hint: {hint}")));
                }
            }
            text.push('\n');
        }
        let (ok, warnings, problems) = (self.count(Level::Ok), self.count(Level::Warning), self.count(Level::Problem));
        let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let _ = writeln!(text, "{ok} ok, {}, {}", many(warnings, "warning"), many(problems, "problem"));
        text
    }

    /// For programs.
    pub fn json(&self) -> Result<String, CliError> {
        serde_json::to_string_pretty(&serde_json::json!({
            "ok": self.count(Level::Ok),
            "warnings": self.count(Level::Warning),
            "problems": self.count(Level::Problem),
            "sections": self.sections,
        }))
        .map_err(|error| CliError::caused(Exit::FAILED, "no JSON could be made", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_line_up_and_only_problems_fail() {
        let mut report = Report::default();
        report.add("nothing", vec![]);
        report.add("ports", vec![Finding::ok("A is free"), Finding::warning("B is odd", "look at B")]);
        assert_eq!(report.exit(), Exit::OK);
        report.add("disk", vec![Finding::problem("it is full", "make room")]);
        assert_eq!(report.exit(), Exit::FAILED);
        let expected = "ports\n  ok       A is free\n  warning  B is odd\n           hint: look at B\n\n\
                        disk\n  problem  it is full\n           hint: make room\n\n1 ok, 1 warning, 1 problem\n";
        assert_eq!(report.render(false), expected);
        assert!(report.render(true).contains("\x1b[1;31mproblem\x1b[0m  it is full"));
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!((&json["problems"], &json["sections"][1]["findings"][0]["level"]), (&1.into(), &"problem".into()));
    }
}
