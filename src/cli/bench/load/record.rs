//! One request as it was measured, and the file of them that `--raw` writes.
//!
//! The file is CSV with a header, one request a line, times in microseconds of one clock that begins with the measured
//! time of its run: what was due before, in the warm-up, is negative. Every figure of requests can be computed from it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Every row came, and as many as were expected.
    Ok,
    /// It ended with gaps that were allowed.
    Partial,
    /// It ended, but not with the rows that were expected.
    Wrong,
    /// Admission had no place for it, and it was not tried again, or not in time.
    Refused,
    /// Its time was over.
    Expired,
    /// Anything else: the connection broke, a node failed.
    Failed,
    /// It was due, but as many requests were under way as the generator allows; it was never sent.
    Unissued,
    /// The run ended before its answer did.
    Open,
}

impl Status {
    const ALL: [Status; 8] = [
        Status::Ok,
        Status::Partial,
        Status::Wrong,
        Status::Refused,
        Status::Expired,
        Status::Failed,
        Status::Unissued,
        Status::Open,
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Partial => "partial",
            Status::Wrong => "wrong",
            Status::Refused => "refused",
            Status::Expired => "expired",
            Status::Failed => "failed",
            Status::Unissued => "unissued",
            Status::Open => "open",
        }
    }

    fn by_name(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Which run of several it belongs to, such as `fair_queue/equal_10x`.
    pub run: Arc<str>,
    /// The team that was billed; `none` for none.
    pub team: Arc<str>,
    /// The query's name in its mix.
    pub kind: Arc<str>,
    /// When it was to be sent. Latency counts from here.
    pub due_us: i64,
    /// When it was sent first.
    pub start_us: i64,
    /// When its last byte, or its refusal, had come.
    pub end_us: i64,
    /// The time that the Leader worked on it, by the footer: without the queue. 0 if it did not end well.
    pub run_us: u64,
    pub rows: u64,
    pub bytes: u64,
    /// How often it was sent.
    pub tries: u32,
    pub status: Status,
}

const HEADER: &str = "run,team,kind,due_us,start_us,end_us,run_us,rows,bytes,tries,status";

impl Record {
    /// From when it was due to its end, in milliseconds.
    pub fn latency_ms(&self) -> f64 {
        (self.end_us - self.due_us) as f64 / 1e3
    }

    /// Whether it was due in the measured time.
    pub fn is_measured(&self) -> bool {
        self.due_us >= 0
    }

    fn line(&self) -> String {
        let mut line = String::with_capacity(96);
        let Record { run, team, kind, due_us, start_us, end_us, run_us, rows, bytes, tries, status } = self;
        let status = status.name();
        // Writing to a string does not fail.
        let _ =
            write!(line, "{run},{team},{kind},{due_us},{start_us},{end_us},{run_us},{rows},{bytes},{tries},{status}");
        line
    }

    fn parse(line: &str) -> Option<Record> {
        let fields: Vec<&str> = line.split(',').collect();
        let [run, team, kind, due, start, end, ran, rows, bytes, tries, status] = fields[..] else { return None };
        Some(Record {
            run: run.into(),
            team: team.into(),
            kind: kind.into(),
            due_us: due.parse().ok()?,
            start_us: start.parse().ok()?,
            end_us: end.parse().ok()?,
            run_us: ran.parse().ok()?,
            rows: rows.parse().ok()?,
            bytes: bytes.parse().ok()?,
            tries: tries.parse().ok()?,
            status: Status::by_name(status)?,
        })
    }
}

/// Writes the file. Names of runs, teams and kinds have no commas or line ends: whoever makes them sees to it.
pub fn write(records: &[Record], to: impl Write) -> io::Result<()> {
    let mut to = io::BufWriter::new(to);
    writeln!(to, "{HEADER}")?;
    for record in records {
        writeln!(to, "{}", record.line())?;
    }
    to.flush()
}

/// Reads the file back. The error tells the first line that is not one of such a file.
pub fn read(text: &str) -> Result<Vec<Record>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(format!("line 1 is not {HEADER:?}"));
    }
    let parse = |(index, line)| Record::parse(line).ok_or_else(|| format!("line {}: {line:?}", index + 2));
    lines.enumerate().map(parse).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request that ended well; times in milliseconds.
    pub(crate) fn ended(team: &str, kind: &str, due_ms: i64, end_ms: i64) -> Record {
        Record {
            run: "run".into(),
            team: team.into(),
            kind: kind.into(),
            due_us: due_ms * 1000,
            start_us: due_ms * 1000,
            end_us: end_ms * 1000,
            run_us: ((end_ms - due_ms) * 1000) as u64,
            rows: 10,
            bytes: 100,
            tries: 1,
            status: Status::Ok,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut records = vec![ended("green", "small", -5, 7), ended("none", "scan", 3, 900)];
        records.extend(Status::ALL.map(|status| Record { status, tries: 3, ..ended("pink", "q", 1, 2) }));
        let mut file = Vec::new();
        write(&records, &mut file).unwrap();
        let text = String::from_utf8(file).unwrap();
        assert_eq!(text.lines().count(), records.len() + 1);
        assert_eq!(read(&text).unwrap(), records);
        assert!(!records[0].is_measured() && records[1].is_measured());
        assert_eq!(records[0].latency_ms(), 12.0);
    }

    #[test]
    fn another_file_is_refused_by_its_line() {
        assert!(read("").unwrap_err().contains("line 1"));
        let text = format!("{HEADER}\nrun,t,k,1,2,3,4,5,6,1,ok\nrun,t,k,1,2,3,4,5,6,1,good\n");
        assert!(read(&text).unwrap_err().starts_with("line 3"));
    }
}
