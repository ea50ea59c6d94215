//! One day's rows in one total order, and the name of the result.
//!
//! The order is (parameter, full_aqs_id, utc), texts by their bytes, ties by source file and line. It depends on the
//! rows alone, so every host that reads the same files has the same zones under the same id. A parameter is one run of
//! rows, a site one run within it, and the hours ascend inside: most columns consist of runs, which makes files small,
//! and a predicate on parameter or site is a range of rows.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int8Array, Int16Array, Int32Array, RecordBatch, TimestampSecondArray,
};
use arrow::datatypes::Int32Type;

use crate::csv::{Splitter, lines};
use crate::dataset::{Dataset, Refusal, SourceFile};
use crate::date::Date;
use crate::error::Error;
use crate::manifest::SourceEntry;
use crate::partition_id::PartitionId;
use crate::rejects::Reject;
use crate::row::{DayRows, TextColumn};
use crate::schema::{LAYOUT_VERSION, Layout, observations, schema_text};
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
    let mut rows = DayRows::new(date);
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
    let mut splitter = Splitter::new(buffer);
    rows.begin_file();
    for (line, raw) in lines(buffer) {
        entry.rows_in += 1;
        match splitter.split(raw).and_then(|fields| rows.push(&fields)) {
            Ok(()) => entry.ok += 1,
            Err(reason) => {
                entry.rejected += 1;
                *entry.reasons.entry(reason).or_default() += 1;
                rejects.push(Reject { file: file.path.clone(), line, reason, raw: raw.to_vec() });
            }
        }
    }
    Ok(entry)
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

fn sorted_batch(rows: &DayRows) -> RecordBatch {
    let texts = [&rows.parameter, &rows.unit, &rows.site_name, &rows.agency, &rows.aqs_id, &rows.full_aqs_id]
        .map(|column| (column, column.interner.ranked()));
    let (parameter_ranks, site_ranks) = (&texts[0].1.1, &texts[5].1.1);

    // The whole order in one integer per row; the row's number at the end breaks ties and says where to fetch from.
    let mut order: Vec<u128> = (0..rows.len())
        .map(|row| {
            let parameter = parameter_ranks[rows.parameter.ids[row] as usize] as u128;
            let site = site_ranks[rows.full_aqs_id.ids[row] as usize] as u128;
            parameter << 96 | site << 64 | u128::from(rows.minute[row]) << 32 | row as u128
        })
        .collect();
    order.sort_unstable();
    let order: Vec<u32> = order.into_iter().map(|key| key as u32).collect();

    let midnight = rows.date().unix_seconds();
    let utc = order.iter().map(|&row| midnight + i64::from(rows.minute[row as usize]) * 60);
    let [parameter, unit, site_name, agency, aqs_id, full_aqs_id] =
        texts.map(|(column, (values, ranks))| dictionary(column, &order, values, &ranks));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter_values(ordered(&order, &rows.latitude))),
        Arc::new(Float64Array::from_iter_values(ordered(&order, &rows.longitude))),
        Arc::new(TimestampSecondArray::from_iter_values(utc).with_timezone("UTC")),
        parameter,
        Arc::new(Float64Array::from_iter(ordered(&order, &rows.concentration))),
        unit,
        Arc::new(Float64Array::from_iter(ordered(&order, &rows.raw_concentration))),
        Arc::new(Int16Array::from_iter(ordered(&order, &rows.aqi))),
        Arc::new(Int8Array::from_iter(ordered(&order, &rows.category))),
        site_name,
        agency,
        aqs_id,
        full_aqs_id,
    ];
    RecordBatch::try_new(observations(), columns).expect("columns of equal length in the order of the schema")
}

fn ordered<'a, T: Copy>(order: &'a [u32], values: &'a [T]) -> impl Iterator<Item = T> + 'a {
    order.iter().map(|&row| values[row as usize])
}

fn dictionary(column: &TextColumn, order: &[u32], values: arrow::array::StringArray, ranks: &[i32]) -> ArrayRef {
    let keys = Int32Array::from_iter_values(ordered(order, &column.ids).map(|id| ranks[id as usize]));
    let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values));
    Arc::new(array.expect("a rank is a place among the values"))
}
