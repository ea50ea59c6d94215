//! Rows as the text of CSV says them: the oracle of the process tests. It shares no code with the program.
//!
//! A row in *normal form* is its thirteen cells with floats written one way, -999 empty in the four measured columns and
//! times with seconds, so that a line of the data set and a line of an answer are the same text if they are the same row.

use std::fs;
use std::path::{Path, PathBuf};

/// The header of an answer with all columns.
pub const HEADER: &str = "latitude,longitude,utc,parameter,concentration,unit,raw_concentration,aqi,category,site_name,\
                          agency,aqs_id,full_aqs_id";
pub const COLUMN_COUNT: usize = 13;

pub const UTC: usize = 2;
pub const PARAMETER: usize = 3;
pub const CONCENTRATION: usize = 4;
pub const FULL_AQS_ID: usize = 12;

const FLOATS: [usize; 4] = [0, 1, CONCENTRATION, 6];
const MEASURED_FLOATS: [usize; 2] = [CONCENTRATION, 6];
const MEASURED_INTEGERS: [usize; 2] = [7, 8];

/// The cells of one line.
pub fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.trim_end_matches(['\r', '\n']).chars().peekable();
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut().expect("there is always one");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            other => cell.push(other),
        }
    }
    cells
}

/// Brings the cells of an answer into normal form.
pub fn normal(mut cells: Vec<String>) -> Vec<String> {
    assert_eq!(cells.len(), COLUMN_COUNT, "{cells:?}");
    for column in FLOATS {
        if !cells[column].is_empty() {
            cells[column] = format!("{:?}", number(&cells[column]));
        }
    }
    cells
}

/// Brings the cells of a file of the data set into normal form.
fn from_file(mut cells: Vec<String>) -> Vec<String> {
    assert_eq!(cells.len(), COLUMN_COUNT, "{cells:?}");
    for column in MEASURED_FLOATS.into_iter().chain(MEASURED_INTEGERS) {
        if number(&cells[column]) == -999.0 {
            cells[column].clear();
        }
    }
    cells[UTC].push_str(":00Z");
    normal(cells)
}

fn number(cell: &str) -> f64 {
    cell.parse().unwrap_or_else(|_| panic!("{cell:?} is not a number"))
}

/// The concentration of a row in normal form.
pub fn concentration(row: &[String]) -> Option<f64> {
    (!row[CONCENTRATION].is_empty()).then(|| number(&row[CONCENTRATION]))
}

/// Concentrations have one digit after the point, so tenths are exact.
pub fn tenths(row: &[String]) -> i64 {
    concentration(row).map_or(0, |value| (value * 10.0).round() as i64)
}

/// The days of a data set, as the names of their folders, ascending.
pub fn days(root: &Path) -> Vec<String> {
    let names = paths(&root.join("data")).into_iter();
    names.map(|path| path.file_name().expect("it has a name").to_str().expect("digits").to_owned()).collect()
}

/// Every row of a day, in normal form.
pub fn rows_of_day(root: &Path, day: &str) -> Vec<Vec<String>> {
    let files = paths(&root.join("data").join(day)).into_iter();
    files
        .flat_map(|file| fs::read_to_string(file).unwrap().lines().map(cells).map(from_file).collect::<Vec<_>>())
        .collect()
}

/// The rows of the whole data set that are wanted, in normal form, joined and sorted.
pub fn select(root: &Path, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut rows = Vec::new();
    for day in days(root) {
        rows.extend(rows_of_day(root, &day).into_iter().filter(|row| wanted(row)).map(joined));
    }
    rows.sort_unstable();
    rows
}

/// The rows of a CSV answer with all columns, in normal form, joined and sorted.
pub fn answer(text: &str) -> Vec<String> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(HEADER));
    sorted(lines.map(cells))
}

/// Rows in normal form, joined and sorted.
pub fn sorted(rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(normal).map(joined).collect();
    rows.sort_unstable();
    rows
}

/// A row as one text. The separator is in no cell.
pub fn joined(row: Vec<String>) -> String {
    row.join("\u{1f}")
}

/// Compares two sorted multisets without printing hundreds of thousands of rows.
#[track_caller]
pub fn assert_same(actual: &[String], expected: &[String], what: &str) {
    let differs = actual.iter().zip(expected).position(|(actual, expected)| actual != expected);
    let first = differs.or((actual.len() != expected.len()).then(|| actual.len().min(expected.len())));
    if let Some(first) = first {
        let (got, wanted) = (actual.get(first), expected.get(first));
        panic!("{what}: {} rows for {}; the first difference: {got:?} for {wanted:?}", actual.len(), expected.len());
    }
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
