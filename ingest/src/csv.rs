//! Bytes to lines, a line to 13 fields, and the rejections that need no meaning: quotes, lengths, bytes, counts.
//!
//! A record is one line. A quoted field never spans lines, so an open quote costs its own line and no other. What the
//! fields mean is left to [`crate::row`].
//!
//! A whole file is rarely split: see [`crate::series`] for the rows that are recognised instead. For the others there
//! are two splitters: [`split_quoted`] for a line in which every field is quoted and no quote is escaped, which is all of
//! the real data, and [`split_any`] for the rest. Invariant: where the first gives an answer, the second would give
//! the same one; a test holds both against a third, plain one.

use memchr::memchr;

use crate::rejects::{FIELD_BYTES_MAX, Reason};
use crate::schema::COLUMN_COUNT;

/// The fields of a line, without their quotes.
pub(crate) type Fields<'a> = [&'a [u8]; COLUMN_COUNT];

/// A line taken apart.
pub(crate) struct Record<'a> {
    pub(crate) fields: Fields<'a>,
    /// The line, if the fields stand in it as they are: each of them in quotes, none with a quote in it.
    pub(crate) quoted: Option<&'a [u8]>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a file that are not blank, each with its number from 1, without its line end (LF or CRLF).
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    /// Lines before `rest`.
    before: u64,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(file: &'a [u8]) -> Lines<'a> {
        Lines { rest: file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file), before: 0 }
    }

    /// The text from the start of the next line on, for a caller who can do without splitting it.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over a line of [`Lines::rest`], given its bytes with its line feed.
    pub(crate) fn pass(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
        self.before += 1;
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<(u64, &'a [u8])> {
        while !self.rest.is_empty() {
            let end = memchr(b'\n', self.rest);
            let line = &self.rest[..end.unwrap_or(self.rest.len())];
            self.pass(end.map_or(self.rest.len(), |end| end + 1));
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.iter().any(|&byte| byte != b'\r') {
                return Some((self.before, line));
            }
        }
        None
    }
}

/// The 13 fields of a line, valid UTF-8 and without NUL; or the first structural reason that applies. `unquoted` is
/// where they are kept if they do not stand in the line as they are.
pub(crate) fn split<'a>(line: &'a [u8], unquoted: &'a mut Vec<u8>) -> Result<Record<'a>, Reason> {
    if line.len() <= FIELD_BYTES_MAX
        && memchr(0, line).is_none()
        && (line.is_ascii() || std::str::from_utf8(line).is_ok())
        && let Some(fields) = split_quoted(line)
    {
        return Ok(Record { fields, quoted: Some(line) });
    }
    split_any(line, unquoted).map(|fields| Record { fields, quoted: None })
}

/// The fast path: `None` unless the line is 13 quoted fields without a quote inside.
fn split_quoted(line: &[u8]) -> Option<Fields<'_>> {
    let mut fields: Fields = [&[]; COLUMN_COUNT];
    // Starts at the first field's opening quote and then, always, just past a field's `",`.
    let mut rest = line.strip_prefix(b"\"")?;
    let (last, others) = fields.split_last_mut()?;
    for field in others {
        let end = memchr(b'"', rest)?;
        *field = &rest[..end];
        rest = rest[end..].strip_prefix(b"\",\"")?;
    }
    let end = memchr(b'"', rest)?;
    *last = &rest[..end];
    (end + 1 == rest.len()).then_some(fields)
}

/// The slow path: any line, field by field into `unquoted`.
fn split_any<'a>(line: &[u8], unquoted: &'a mut Vec<u8>) -> Result<Fields<'a>, Reason> {
    unquoted.clear();
    let mut ends = [0; COLUMN_COUNT];
    let mut count = 0;
    let mut longest = 0;
    let mut rest = Some(line);
    while let Some(text) = rest {
        let start = unquoted.len();
        rest = match text.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted, unquoted).ok_or(Reason::UnterminatedQuote)?,
            None => {
                let end = memchr(b',', text).unwrap_or(text.len());
                unquoted.extend_from_slice(&text[..end]);
                text.get(end + 1..)
            }
        };
        longest = longest.max(unquoted.len() - start);
        if let Some(end) = ends.get_mut(count) {
            *end = unquoted.len();
        }
        count += 1;
    }
    if longest > FIELD_BYTES_MAX {
        return Err(Reason::FieldTooLong);
    }
    if memchr(0, line).is_some() {
        return Err(Reason::NulByte);
    }
    if std::str::from_utf8(line).is_err() {
        return Err(Reason::InvalidUtf8);
    }
    match count.cmp(&COLUMN_COUNT) {
        std::cmp::Ordering::Less => return Err(Reason::MissingFields),
        std::cmp::Ordering::Greater => return Err(Reason::ExtraFields),
        std::cmp::Ordering::Equal => {}
    }
    let mut start = 0;
    Ok(ends.map(|end| &unquoted[std::mem::replace(&mut start, end)..end]))
}

/// Appends a quoted field, given from past its opening quote, and gives what follows it: `Some(None)` at the end of
/// the line, else the text after the comma. `None` if the field has no proper end.
fn unquote<'a>(mut text: &'a [u8], unquoted: &mut Vec<u8>) -> Option<Option<&'a [u8]>> {
    loop {
        let end = memchr(b'"', text)?;
        unquoted.extend_from_slice(&text[..end]);
        match text.get(end + 1) {
            Some(b'"') => unquoted.push(b'"'),
            Some(b',') => return Some(text.get(end + 2..)),
            Some(_) => return None,
            None => return Some(None),
        }
        text = &text[end + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules said once more, byte by byte, with nothing shared with the code above.
    fn plain_split(line: &[u8]) -> Result<Vec<Vec<u8>>, Reason> {
        #[derive(PartialEq)]
        enum At {
            Start,
            Unquoted,
            Quoted,
            QuoteInQuoted,
        }
        let mut fields = vec![Vec::new()];
        let mut at = At::Start;
        for &byte in line {
            let field = fields.last_mut().unwrap();
            at = match (at, byte) {
                (At::Start, b'"') => At::Quoted,
                (At::Start | At::Unquoted | At::QuoteInQuoted, b',') => {
                    fields.push(Vec::new());
                    At::Start
                }
                (At::Start | At::Unquoted, _) => {
                    field.push(byte);
                    At::Unquoted
                }
                (At::Quoted, b'"') => At::QuoteInQuoted,
                (At::Quoted, _) => {
                    field.push(byte);
                    At::Quoted
                }
                (At::QuoteInQuoted, b'"') => {
                    field.push(b'"');
                    At::Quoted
                }
                (At::QuoteInQuoted, _) => return Err(Reason::UnterminatedQuote),
            };
        }
        if at == At::Quoted {
            return Err(Reason::UnterminatedQuote);
        }
        if fields.iter().any(|field| field.len() > 1_048_576) {
            Err(Reason::FieldTooLong)
        } else if line.contains(&0) {
            Err(Reason::NulByte)
        } else if String::from_utf8(line.to_vec()).is_err() {
            Err(Reason::InvalidUtf8)
        } else if fields.len() < 13 {
            Err(Reason::MissingFields)
        } else if fields.len() > 13 {
            Err(Reason::ExtraFields)
        } else {
            Ok(fields)
        }
    }

    fn check(line: &[u8], note: &str) {
        let mut unquoted = Vec::new();
        let fields = split(line, &mut unquoted).map(|record| record.fields.map(|field| field.to_vec()).to_vec());
        assert_eq!(fields, plain_split(line), "{note}: {:?}", String::from_utf8_lossy(line));
    }

    #[test]
    fn mutated_lines_split_like_the_plain_splitter() {
        let seed = std::env::var("OVERLAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7_041_993);
        let mut random = fastrand::Rng::with_seed(seed);
        let quoted =
            br#""41.7","-124.2","2020-08-10T01:00","PM2.5","17.3","UG/M3","18","62","2","A, B","C ","84","85""#;
        let mixed = br#"41.7,-124.2,"2020-08-10T01:00",PM2.5,"17.3",UG/M3,18,62,2,"A ""x"" B","C, ",84,85"#;
        let pieces: [&[u8]; 13] =
            [b"\"", b"\"\"", b",", b"\",\"", b",\"", b"\",", b"\0", b"\xff", "é".as_bytes(), b" ", b"x", b"\r", b"\t"];
        for case in 0..60_000 {
            let mut line = if random.bool() { quoted.to_vec() } else { mixed.to_vec() };
            for _ in 0..random.usize(0..4) {
                let at = random.usize(0..=line.len());
                let end = (at + random.usize(0..4)).min(line.len());
                let piece = random.choice(&pieces).unwrap();
                line.splice(at..end, piece.iter().copied());
            }
            check(&line, &format!("seed {seed}, case {case}"));
        }
    }

    #[test]
    fn the_longest_field_is_accepted_and_one_byte_more_is_not() {
        for (length, quotes) in [(1 << 20, ""), ((1 << 20) + 1, ""), (1 << 20, "\""), ((1 << 20) + 1, "\"")] {
            let line = format!("1,2,3,4,5,6,7,8,9,10,11,12,{quotes}{}{quotes}", "x".repeat(length));
            check(line.as_bytes(), "long");
            assert_eq!(split(line.as_bytes(), &mut Vec::new()).is_ok(), length == 1 << 20);
        }
        // Two quotes count as the one they stand for.
        check(format!("1,2,3,4,5,6,7,8,9,10,11,12,\"{}\"", "\"\"".repeat(1 << 20)).as_bytes(), "escaped");
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_are_not_rows() {
        let check = |file: &str, expected: &[(u64, &str)]| {
            let found: Vec<_> =
                Lines::of(file.as_bytes()).map(|(n, line)| (n, std::str::from_utf8(line).unwrap())).collect();
            assert_eq!(found, expected, "{file:?}");
        };
        check("", &[]);
        check("\u{feff}", &[]);
        check("\n\r\n\r\r\n\r", &[]);
        check("a", &[(1, "a")]);
        check("a\n", &[(1, "a")]);
        check("\u{feff}a\r\n\nb\r", &[(1, "a"), (3, "b")]);
        check("a\rb\n \n", &[(1, "a\rb"), (2, " ")]);
        check("a\n\u{feff}b", &[(1, "a"), (2, "\u{feff}b")]);
    }
}
