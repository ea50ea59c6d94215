//! Tables of text for people: aligned, without frames, numbers to the right.

/// A table with a header.
pub struct TextTable {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl TextTable {
    /// A column whose name starts with `>` stands to the right.
    pub fn new(header: &[&str]) -> TextTable {
        TextTable {
            header: header.iter().map(|name| name.trim_start_matches('>').to_owned()).collect(),
            right: header.iter().map(|name| name.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells);
    }

    /// The table as lines.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| &row[column]).chain([&self.header[column]]);
            cells.flat_map(|cell| cell.lines()).map(|line| line.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or(0).max(1);
            for line in 0..height {
                text.push_str(self.line(row, line, &widths).trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// One line of a row; a cell may have several.
    fn line(&self, row: &[String], line: usize, widths: &[usize]) -> String {
        let mut text = String::new();
        for (column, cell) in row.iter().enumerate() {
            let cell = cell.lines().nth(line).unwrap_or_default();
            let gap = " ".repeat(widths[column] - cell.chars().count());
            let (before, after) = if self.right[column] { (gap.as_str(), "") } else { ("", gap.as_str()) };
            for piece in [before, cell, after, "  "] {
                text.push_str(piece);
            }
        }
        text
    }
}

/// A whole number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that gives the shortest number.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = TextTable::new(&["id", ">rows"]);
        table.row(vec!["A".into(), "7".into()]);
        table.row(vec!["BB".into(), "1,234".into()]);
        assert_eq!(table.render(), "id   rows\nA       7\nBB  1,234\n");
        let mut table = TextTable::new(&["plan", "text"]);
        table.row(vec!["a".into(), "Sort\n  Scan".into()]);
        assert_eq!(table.render(), "plan  text\na     Sort\n        Scan\n");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_167_525, "1,167,525")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
    }
}
