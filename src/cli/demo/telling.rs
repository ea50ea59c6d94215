//! Answers in the demo's words: rows, time, routes, coverage, chunks.

use super::super::error::{CliError, Exit};
use super::super::footer;
use super::super::output;
use super::super::table::{TextTable, bytes, grouped};
use super::asking::Asked;

/// The first rows as a table, and how many more there are.
pub fn first_rows(asked: &Asked, shown_max: usize) -> Result<String, CliError> {
    let mut text = Vec::new();
    output::write_table(&mut text, &asked.schema, &asked.batches, Some(shown_max), 0)
        .map_err(|error| CliError::caused(Exit::FAILED, "the rows cannot be shown", &error))?;
    let more = asked.footer.rows.saturating_sub(shown_max as u64);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if more > 0 {
        text.push_str(&format!("… and {} more rows\n", grouped(more)));
    }
    Ok(text)
}

/// What came, and what was looked at for it.
pub fn answer(asked: &Asked) -> String {
    let footer = &asked.footer;
    format!(
        "{} rows in {:.0} ms; {} rows ({}) were looked at",
        grouped(footer.rows),
        footer.elapsed.as_secs_f64() * 1e3,
        grouped(footer.rows_scanned()),
        bytes(footer.bytes_scanned()),
    )
}

/// One line for each node that scanned: the way to it, what it did.
pub fn routes(asked: &Asked) -> String {
    let mut lines: Vec<(String, u64, f64)> = Vec::new();
    for work in &asked.footer.work {
        let (route, milliseconds) = (footer::route(&asked.footer, &work.route), work.cpu.as_secs_f64() * 1e3);
        match lines.iter_mut().find(|line| line.0 == route) {
            Some(line) => (line.1, line.2) = (line.1 + work.rows_scanned, line.2 + milliseconds),
            None => lines.push((route, work.rows_scanned, milliseconds)),
        }
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    let mut table = TextTable::new(&["", ">", ">"]);
    for (route, rows, milliseconds) in lines.into_iter().filter(|line| line.1 > 0) {
        table.row(vec![route, format!("{} rows scanned", grouped(rows)), format!("{milliseconds:.1} ms of CPU")]);
    }
    // Without the header, which has no names.
    table.render().split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default()
}

/// What became of every partition.
pub fn coverage(asked: &Asked) -> String {
    let coverage = &asked.footer.coverage;
    let mut parts = vec![format!("{} answered", coverage.answered)];
    for (count, name) in [
        (coverage.pruned, "pruned by date"),
        (coverage.not_needed, "not needed"),
        (coverage.gaps.len() as u64, "MISSING"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {name}"));
        }
    }
    if coverage.is_complete() {
        parts.push("none missing".to_owned());
    }
    format!("{} partitions: {}", coverage.partitions, parts.join(", "))
}

/// The first few chunks and the last.
pub fn chunks(asked: &Asked) -> String {
    const SHOWN: usize = 6;
    let rows: Vec<String> = asked.batches.iter().map(|batch| grouped(batch.num_rows() as u64)).collect();
    match rows.as_slice() {
        [one] => format!("1, of {one} rows"),
        few if few.len() <= SHOWN + 1 => format!("{}, of {} rows", few.len(), few.join(" + ")),
        many => format!("{}, of {} … + {} rows", many.len(), many[..SHOWN].join(" + "), many[many.len() - 1]),
    }
}
