//! `overlay bench compare A.json B.json`: two reports side by side, number by number, with the change from the first to
//! the second. It judges nothing: whether more is better, the name of a figure tells.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::cli::error::{CliError, Exit};
use crate::cli::table::TextTable;

/// What describes a run and is no figure of it.
const NOT_FIGURES: [&str; 5] = ["about", "settings", "nodes", "config", "failures"];
/// A report of a run with many teams and queries is far below.
const REPORT_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A report of `overlay bench` or `overlay bench fairness --json`
    pub before: PathBuf,
    /// Another one, of the same kind
    pub after: PathBuf,
}

/// Prints the comparison.
pub fn run(arguments: &CompareArgs) -> Result<Exit, CliError> {
    let [before, after] = [read(&arguments.before)?, read(&arguments.after)?];
    let text = render(&before, &after);
    if text.is_empty() {
        let [a, b] = [&arguments.before, &arguments.after].map(|path| path.display().to_string());
        return Err(CliError::new(Exit::USAGE, format!("{a} and {b} have no figure in common")));
    }
    print!("{text}");
    for difference in differences(&before, &after) {
        eprintln!("note: they differ in {difference}");
    }
    Ok(Exit::OK)
}

fn read(path: &Path) -> Result<Value, CliError> {
    let failed = |error: &dyn std::error::Error| {
        CliError::caused(Exit::USAGE, format!("{} is no report", path.display()), error)
            .hint("reports are written by `overlay bench --output-dir` and `overlay bench fairness --json`")
    };
    let length = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if length > REPORT_BYTES_MAX {
        return Err(CliError::new(Exit::USAGE, format!("{} has {length} bytes: no report", path.display())));
    }
    let text = std::fs::read(path).map_err(|error| failed(&error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&error))
}

fn render(before: &Value, after: &Value) -> String {
    let (before, after) = (numbers(before), numbers(after));
    let mut table = TextTable::new(&["", ">before", ">after", ">change"]);
    let mut rows = 0;
    for (name, was) in &before {
        let Some(is) = after.get(name) else { continue };
        table.row(vec![name.clone(), shown(*was), shown(*is), change(*was, *is)]);
        rows += 1;
    }
    if rows == 0 { String::new() } else { table.render() }
}

/// The settings that make two runs incomparable, or explain why they differ.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    for part in ["about", "settings"] {
        let (Some(before), Some(after)) = (before[part].as_object(), after[part].as_object()) else { continue };
        for (name, was) in before {
            let is_setting = !["command", "seconds", "at"].contains(&name.as_str());
            if let Some(is) = after.get(name).filter(|is| *is != was && is_setting) {
                differences.push(format!("{name}: {was} and {is}"));
            }
        }
    }
    differences
}

/// Every number of a report by its path.
fn numbers(report: &Value) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut open: Vec<(String, &Value)> = report
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !NOT_FIGURES.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value))
        .collect();
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Number(number) => {
                found.extend(number.as_f64().map(|number| (path, number)));
            }
            Value::Object(fields) => {
                open.extend(fields.iter().map(|(name, value)| (format!("{path}.{name}"), value)));
            }
            _ => {}
        }
    }
    found
}

fn shown(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.3}") }
}

fn change(was: f64, is: f64) -> String {
    if was == is {
        "=".to_owned()
    } else if was == 0.0 {
        "from 0".to_owned()
    } else {
        format!("{:+.1} %", 100.0 * (is - was) / was.abs())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_compared_by_their_path() {
        let before = json!({ "about": { "cores": 2 }, "figures": { "all": { "p99_ms": 10.0, "failed": 0, "ok": 7 } } });
        let after =
            json!({ "about": { "cores": 4 }, "figures": { "all": { "p99_ms": 7.5, "failed": 3, "ok": 7, "new": 1 } } });
        let text = render(&before, &after);
        let lines: Vec<String> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            ["figures.all.failed 0 3 from 0", "figures.all.ok 7 7 =", "figures.all.p99_ms 10 7.500 -25.0 %"]
        );
        assert_eq!(differences(&before, &after), ["cores: 2 and 4"]);
        assert_eq!(render(&before, &json!({ "rows": [] })), "");
    }
}
