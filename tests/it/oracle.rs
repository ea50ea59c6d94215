//! What the rows of a data set are, read from its CSV text alone. It shares no code with what it judges: an own
//! reader of quoted CSV, own comparisons, own sums.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub const COLUMNS: [&str; 13] = [
    "latitude",
    "longitude",
    "utc",
    "parameter",
    "concentration",
    "unit",
    "raw_concentration",
    "aqi",
    "category",
    "site_name",
    "agency",
    "aqs_id",
    "full_aqs_id",
];

/// Columns that are numbers, and of these the ones in which -999 stands for "no value".
const NUMBERS: [&str; 6] = ["latitude", "longitude", "concentration", "raw_concentration", "aqi", "category"];
const MEASURED: [&str; 4] = ["concentration", "raw_concentration", "aqi", "category"];

/// One line of the text.
#[derive(Debug, Clone)]
pub struct Row {
    /// The folder's date, `YYYYMMDD`.
    pub date: String,
    fields: Vec<String>,
}

impl Row {
    pub fn text(&self, column: &str) -> &str {
        &self.fields[position(column)]
    }

    /// The number in a column; none where the text says -999.
    pub fn number(&self, column: &str) -> Option<f64> {
        let number: f64 = self.text(column).parse().expect("the generator writes numbers");
        (number != -999.0 || !MEASURED.contains(&column)).then_some(number)
    }

    /// The columns in one spelling, to be compared with an answer's.
    pub fn canonical(&self, columns: &[&str]) -> String {
        let shown = columns.iter().map(|column| match NUMBERS.contains(column) {
            true => self.number(column).map_or("null".to_owned(), |number| number.to_string()),
            false => self.text(column).to_owned(),
        });
        shown.collect::<Vec<_>>().join("|")
    }
}

fn position(column: &str) -> usize {
    COLUMNS.iter().position(|name| *name == column).unwrap_or_else(|| panic!("no column {column}"))
}

/// Conditions that all have to hold.
#[derive(Debug, Clone, Default)]
pub struct Question {
    pub parameter: Option<&'static str>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Both included, `YYYYMMDD`.
    pub dates: Option<(&'static str, &'static str)>,
    /// South, west, north, east; edges included.
    pub bbox: Option<[f64; 4]>,
    /// Empty means all.
    pub columns: &'static [&'static str],
}

impl Question {
    fn matches(&self, row: &Row) -> bool {
        let concentration = row.number("concentration");
        let lat_lon = [row.number("latitude"), row.number("longitude")].map(|degrees| degrees.expect("never missing"));
        self.parameter.is_none_or(|parameter| parameter.eq_ignore_ascii_case(row.text("parameter")))
            && self.min.is_none_or(|min| concentration.is_some_and(|value| value >= min))
            && self.max.is_none_or(|max| concentration.is_some_and(|value| value <= max))
            && self.dates.is_none_or(|(from, to)| (from..=to).contains(&row.date.as_str()))
            && self.bbox.is_none_or(|[south, west, north, east]| {
                (south..=north).contains(&lat_lon[0]) && (west..=east).contains(&lat_lon[1])
            })
    }

    pub fn columns(&self) -> &'static [&'static str] {
        if self.columns.is_empty() { &COLUMNS } else { self.columns }
    }
}

/// All rows of a data set.
pub struct Oracle {
    pub rows: Vec<Row>,
}

impl Oracle {
    /// Reads every `root/data/YYYYMMDD/*.csv`.
    pub fn read(root: &Path) -> Oracle {
        let mut rows = Vec::new();
        for day in fs::read_dir(root.join("data")).expect("a data set") {
            let day = day.expect("a folder").path();
            let date = day.file_name().expect("a name").to_string_lossy().into_owned();
            for file in fs::read_dir(&day).expect("a day") {
                let text = fs::read_to_string(file.expect("a file").path()).expect("text");
                rows.extend(records(&text).into_iter().map(|fields| Row { date: date.clone(), fields }));
            }
        }
        Oracle { rows }
    }

    pub fn matching(&self, question: &Question) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| question.matches(row))
    }

    /// The answer as a multiset: one text a row, sorted.
    pub fn answer(&self, question: &Question) -> Vec<String> {
        let columns = question.columns();
        let mut rows: Vec<String> = self.matching(question).map(|row| row.canonical(columns)).collect();
        rows.sort();
        rows
    }

    /// The rows by the value of a text column, each group put into one value.
    pub fn grouped<T>(&self, column: &str, of: impl Fn(&[&Row]) -> T) -> BTreeMap<String, T> {
        let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
        for row in &self.rows {
            groups.entry(row.text(column).to_owned()).or_default().push(row);
        }
        groups.into_iter().map(|(key, rows)| (key, of(&rows))).collect()
    }
}

/// Records of quoted or unquoted fields, character by character.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            '\r' if !quoted => {}
            other => field.push(other),
        }
    }
    assert!(!quoted && field.is_empty() && record.is_empty(), "the text ends within a record");
    assert!(records.iter().all(|record| record.len() == COLUMNS.len()), "a record has other than 13 fields");
    records
}

#[test]
fn the_oracle_reads_quoted_text() {
    let line =
        |name: &str| format!("\"1.50\",\"-2.0\",\"t\",\"CO\",\"-999.0\",\"u\",\"-3.5\",\"-999\",\"1\",{name},b,c,d\n");
    for (text, name) in [("\"a, b\"", "a, b"), ("\"say \"\"x\"\" \"", "say \"x\" "), ("plain", "plain"), ("\"\"", "")] {
        let fields = records(&line(text)).remove(0);
        let row = Row { date: "20200810".into(), fields };
        assert_eq!(row.text("site_name"), name);
        let numbers = row.canonical(&["latitude", "longitude", "concentration", "raw_concentration", "aqi"]);
        assert_eq!(numbers, "1.5|-2|null|-3.5|null");
    }
}
