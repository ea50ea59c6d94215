//! One day's files to one day's rows, and the name of the result.
//!
//! The rows' order (see [`crate::sorted`]) depends on the rows alone, so every host that reads the same files has the
//! same zones under the same id.

use std::fs;
use std::io::Read;
use std::path::Path;

use arrow::array::RecordBatch;

use crate::csv::{Lines, split};
use crate::dataset::{Dataset, Refusal, SourceFile};
use crate::date::Date;
use crate::error::Error;
use crate::manifest::SourceEntry;
use crate::partition_id::PartitionId;
use crate::rejects::{Reason, Reject};
use crate::row::DayRows;
use crate::schema::{LAYOUT_VERSION, Layout, schema_text};
use crate::sorted::sorted_batch;
use crate::stats::PartitionStats;

/// Bytes of CSV that one day may have: what 32-bit offsets and row numbers can count.
pub const DAY_BYTES_MAX: u64 = i32::MAX as u64;

/// One UTC day of a data set, in memory.
#[derive(Debug, Clone)]
pub struct Partition {
    pub id: PartitionId,
    /// All rows, sorted; 0 rows if the day's files had none.
    pub batch: RecordBatch,
    /// Rows of every zone but the last.
    pub zone_rows: usize,
    /// Bytes of the CSV files it was made from.
    pub csv_bytes: u64,
    pub stats: PartitionStats,
}

impl Partition {
    /// Zones of the partition; 0 if it has no rows.
    pub fn zone_count(&self) -> usize {
        self.batch.num_rows().div_ceil(self.zone_rows)
    }

    /// The rows of a zone, without copying.
    ///
    /// # Panics
    /// If there is no such zone.
    pub fn zone(&self, index: usize) -> RecordBatch {
        let start = index * self.zone_rows;
        self.batch.slice(start, self.zone_rows.min(self.batch.num_rows() - start))
    }
}

/// A day as read from its CSV files.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub partition: Partition,
    /// One for each file of the day, sorted by path, refused ones too.
    pub sources: Vec<SourceEntry>,
    /// In the order of files and lines.
    pub rejects: Vec<Reject>,
}

/// Reads the files of a day. Bad rows are rejects, refused files are sources; only a file that cannot be read, or a
/// day beyond [`DAY_BYTES_MAX`], is an error. A day without files gives a partition without rows.
pub fn parse_date(dataset: &Dataset, date: Date, layout: Layout) -> Result<Parsed, Error> {
    parse_date_with(dataset, date, layout, &|_, _| {})
}

/// The same, telling of each file's bytes and rows when it is done.
pub(crate) fn parse_date_with(
    dataset: &Dataset,
    date: Date,
    layout: Layout,
    file_done: &dyn Fn(u64, u64),
) -> Result<Parsed, Error> {
    let day_bytes = dataset.csv_bytes(date);
    if day_bytes > DAY_BYTES_MAX {
        return Err(Error::DayTooLarge { date, bytes: day_bytes, limit: DAY_BYTES_MAX });
    }
    let mut rows = DayRows::new(date, day_bytes);
    let mut sources = Vec::new();
    let mut rejects = Vec::new();
    let mut buffer = Vec::new();
    for file in dataset.files(date) {
        let source = read_file(&dataset.root, file, &mut buffer, &mut rows, &mut rejects)?;
        file_done(file.bytes, source.ok);
        sources.push(source);
    }
    let batch = sorted_batch(&rows);
    let id = partition_id(&dataset.name, date, layout, &sources);
    let csv_bytes = sources.iter().filter(|source| source.refused.is_none()).map(|source| source.bytes).sum();
    let stats = PartitionStats::of(&batch);
    Ok(Parsed { partition: Partition { id, batch, zone_rows: layout.zone_rows, csv_bytes, stats }, sources, rejects })
}

/// What [`parse_date`] would name the day, and how many bytes of CSV it would take, without decoding a row.
pub fn identify_date(dataset: &Dataset, date: Date, layout: Layout) -> Result<(PartitionId, u64), Error> {
    let mut sources = Vec::new();
    let mut buffer = Vec::new();
    let mut csv_bytes = 0;
    for file in dataset.files(date) {
        let digest = digest_of(&dataset.root, file, &mut buffer)?;
        if file.refused.is_none() && !buffer.starts_with(GZIP_MAGIC) {
            csv_bytes += buffer.len() as u64;
        }
        sources.push(SourceEntry { digest, ..SourceEntry::of(file) });
    }
    Ok((partition_id(&dataset.name, date, layout, &sources), csv_bytes))
}

const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

fn read_file(
    root: &Path,
    file: &SourceFile,
    buffer: &mut Vec<u8>,
    rows: &mut DayRows,
    rejects: &mut Vec<Reject>,
) -> Result<SourceEntry, Error> {
    let mut entry = SourceEntry::of(file);
    entry.digest = digest_of(root, file, buffer)?;
    if file.refused.is_some() {
        return Ok(entry);
    }
    entry.bytes = buffer.len() as u64;
    if buffer.starts_with(GZIP_MAGIC) {
        entry.refused = Some(Refusal::Gzip);
        return Ok(entry);
    }
    entry.ok = read_lines(buffer, rows, |line, raw, reason| {
        entry.rejected += 1;
        *entry.reasons.entry(reason).or_default() += 1;
        rejects.push(Reject { file: file.path.clone(), line, reason, raw: raw.to_vec() });
    });
    entry.rows_in = entry.ok + entry.rejected;
    Ok(entry)
}

/// Takes the rows of a file, and tells of those that are rejected: the line's number, its bytes, why. Gives the number
/// of those taken.
pub(crate) fn read_lines(file: &[u8], rows: &mut DayRows, mut reject: impl FnMut(u64, &[u8], Reason)) -> u64 {
    let mut taken = 0;
    let mut unquoted = Vec::new();
    let mut lines = Lines::of(file);
    rows.begin_file();
    loop {
        if let Some(bytes) = rows.push_expected(lines.rest()) {
            lines.pass(bytes);
            taken += 1;
            continue;
        }
        let Some((line, raw)) = lines.next() else { return taken };
        match split(raw, &mut unquoted).and_then(|record| rows.push(&record)) {
            Ok(()) => taken += 1,
            Err(reason) => reject(line, raw, reason),
        }
    }
}

/// The blake3 digest of a file, in hexadecimal, and its bytes in `buffer`. Of a file refused by the walk nothing is
/// read: a link stands for the text of its target, any other for its name alone.
pub(crate) fn digest_of(root: &Path, file: &SourceFile, buffer: &mut Vec<u8>) -> Result<String, Error> {
    buffer.clear();
    let path = root.join(&file.path);
    match file.refused {
        None | Some(Refusal::Gzip) => {
            let mut open = fs::File::open(&path).map_err(Error::io("open", &path))?;
            // One byte more than it had, so that a file that grew since is caught by the next freshness check.
            let limit = DAY_BYTES_MAX.min(file.bytes.saturating_add(1));
            buffer.reserve(file.bytes as usize + 1);
            open.by_ref().take(limit).read_to_end(buffer).map_err(Error::io("read", &path))?;
        }
        Some(Refusal::SymlinkOutside) => {
            let target = fs::read_link(&path).map_err(Error::io("read the link", &path))?;
            buffer.extend_from_slice(b"link to ");
            buffer.extend_from_slice(target.to_string_lossy().as_bytes());
        }
        Some(Refusal::BadDirectoryName) => {}
    }
    Ok(blake3::hash(buffer).to_hex().to_string())
}

/// The name of a day's rows: everything that decides what they are, and nothing else. The sources come sorted by path.
fn partition_id(dataset: &str, date: Date, layout: Layout, sources: &[SourceEntry]) -> PartitionId {
    let mut hasher = blake3::Hasher::new();
    // Every piece with its length before it, so that no two lists of pieces run together to the same bytes.
    let mut piece = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    piece(b"overlay partition");
    piece(dataset.as_bytes());
    piece(schema_text().as_bytes());
    piece(&LAYOUT_VERSION.to_le_bytes());
    piece(&(layout.zone_rows as u64).to_le_bytes());
    for source in sources {
        piece(source.path.as_bytes());
        piece(source.digest.as_bytes());
    }
    let digest = hasher.finalize();
    let first: [u8; 16] = std::array::from_fn(|i| digest.as_bytes()[i]);
    PartitionId { date, digest: u128::from_be_bytes(first) }
}
