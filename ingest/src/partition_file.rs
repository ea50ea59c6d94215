//! A partition's Parquet file, read in pieces: some columns of some zones, whenever they are needed.
//!
//! Opening it reads the file once, whole, and compares it with the digest in the manifest. What is kept is the footer with
//! the bounds of its pages, and a checksum of every page; the file itself is opened again for each piece and kept by
//! nobody. Before a page is decoded it is compared with its checksum: a file that changed since is an error, never an
//! answer. So a file may be replaced or removed at any time, and no more of it is read than was asked for.
//!
//! Ranges are read, not mapped into memory: the pages are compressed, so a mapping saves a copy of few bytes beside the
//! decoding, and a file that somebody cuts short would end the process instead of failing the read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Error;
use crate::schema::observations;

/// A file whose digest was compared, ready to be read in pieces.
#[derive(Debug)]
pub struct PartitionFile {
    path: PathBuf,
    rows: usize,
    zone_rows: usize,
    footer: ArrowReaderMetadata,
    /// By column; `None` where the pages are not the zones.
    bounds: Vec<Option<ZoneBounds>>,
    pages: Arc<Pages>,
}

/// The least and greatest value of one column and its nulls, an entry for each zone. Null where there is none, or where it
/// is not known; texts that are long may be given by a shorter one below or above.
#[derive(Debug)]
pub struct ZoneBounds {
    pub min: ArrayRef,
    pub max: ArrayRef,
    pub null_count: UInt64Array,
}

/// Some columns of some zones.
#[derive(Debug)]
pub struct Piece {
    pub batch: RecordBatch,
    /// What was read for it.
    pub file_bytes: u64,
}

/// By the place in the file: bytes and checksum.
type Pages = BTreeMap<u64, (usize, u64)>;

impl PartitionFile {
    /// `file` is all of the file at `path`, whose digest was compared; `rows` are those of the manifest. Fails with
    /// [`Error::CorruptPartition`] if it is not of the form that this program writes.
    pub(crate) fn new(path: PathBuf, file: Vec<u8>, rows: u64, zone_rows: usize) -> Result<PartitionFile, Error> {
        // A decoder's panic is a corrupt file, not a dead process.
        let file = Bytes::from(file);
        let read = catch_unwind(AssertUnwindSafe(|| read_footer(&file, rows, zone_rows)));
        match read.unwrap_or_else(|_| Err("the Parquet decoder panicked".to_owned())) {
            Ok((footer, bounds, pages)) => {
                let rows = usize::try_from(rows).unwrap_or(usize::MAX);
                Ok(PartitionFile { path, rows, zone_rows, footer, bounds, pages: Arc::new(pages) })
            }
            Err(reason) => Err(Error::CorruptPartition { path, reason }),
        }
    }

    /// Zones of the partition; 0 if it has no rows.
    pub fn zone_count(&self) -> usize {
        self.rows.div_ceil(self.zone_rows)
    }

    /// Rows of a zone; 0 if there is no such zone.
    pub fn rows_of(&self, zone: usize) -> usize {
        self.rows.saturating_sub(zone.saturating_mul(self.zone_rows)).min(self.zone_rows)
    }

    /// What is known of a column without reading it; `None` if nothing is.
    pub fn bounds(&self, column: usize) -> Option<&ZoneBounds> {
        self.bounds.get(column)?.as_ref()
    }

    /// About what this takes in memory.
    pub fn memory_bytes(&self) -> usize {
        // A page's entry in the tree, its bounds in two arrays and its count, each with their room.
        const PAGE_BYTES: usize = 128;
        self.footer.metadata().memory_size() + self.pages.len() * PAGE_BYTES
    }

    /// These columns of these zones, one zone after the other; columns in the table's order, zones ascending, each once.
    /// Only the pages of these zones are read. [`Error::CorruptPartition`] if a page is not what it was when the file was
    /// opened.
    pub fn read(&self, zones: &[usize], columns: &[usize]) -> Result<Piece, Error> {
        let corrupt = |reason: String| Error::CorruptPartition { path: self.path.clone(), reason };
        let schema = observations().project(columns).map_err(|error| corrupt(error.to_string()))?;
        let rows: usize = zones.iter().map(|zone| self.rows_of(*zone)).sum();
        if rows == 0 || columns.is_empty() {
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
            let none = schema.fields().iter().map(|field| arrow::array::new_empty_array(field.data_type())).collect();
            let batch = RecordBatch::try_new_with_options(Arc::new(schema), none, &options);
            return Ok(Piece { batch: batch.map_err(|error| corrupt(error.to_string()))?, file_bytes: 0 });
        }
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        let pages = Arc::clone(&self.pages);
        let read = Arc::new(AtomicU64::new(0));
        let source = CheckedPages { file: Mutex::new(file), pages, read: Arc::clone(&read) };
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(source, zones, columns, rows)));
        let batch = decoded
            .map_err(|_| corrupt("the Parquet decoder panicked".to_owned()))?
            .map_err(|error| corrupt(error.to_string()))?;
        if batch.num_rows() != rows {
            return Err(corrupt(format!("{} rows of {} were found", batch.num_rows(), rows)));
        }
        // Also says whether there are nulls where there can be none.
        let batch = RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec());
        let batch = batch.map_err(|error| corrupt(error.to_string()))?;
        Ok(Piece { batch, file_bytes: read.load(Ordering::Relaxed) })
    }

    fn decode(
        &self,
        source: CheckedPages,
        zones: &[usize],
        columns: &[usize],
        rows: usize,
    ) -> Result<RecordBatch, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, self.footer.clone());
        let mask = ProjectionMask::leaves(builder.parquet_schema(), columns.iter().copied());
        let builder = builder.with_projection(mask).with_row_selection(self.selection(zones)).with_batch_size(rows);
        let mut batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
        match batches.as_slice() {
            [_] => Ok(batches.remove(0)),
            [first, ..] => Ok(concat_batches(&first.schema(), &batches)?),
            [] => Err(ParquetError::General("it has no rows where some were looked for".to_owned())),
        }
    }

    fn selection(&self, zones: &[usize]) -> RowSelection {
        let mut selectors = Vec::with_capacity(zones.len() * 2 + 1);
        let mut at = 0;
        for zone in zones {
            let start = zone * self.zone_rows;
            selectors.push(RowSelector::skip(start - at));
            selectors.push(RowSelector::select(self.rows_of(*zone)));
            at = start + self.rows_of(*zone);
        }
        selectors.push(RowSelector::skip(self.rows - at));
        selectors.into()
    }
}

type Footer = (ArrowReaderMetadata, Vec<Option<ZoneBounds>>, Pages);

fn read_footer(file: &Bytes, rows: u64, zone_rows: usize) -> Result<Footer, String> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let footer = ArrowReaderMetadata::load(file, options).map_err(|error| error.to_string())?;
    if footer.schema().fields() != observations().fields() {
        return Err("its columns are not those of observations".to_owned());
    }
    let metadata = footer.metadata();
    let said = metadata.file_metadata().num_rows();
    if u64::try_from(said) != Ok(rows) {
        return Err(format!("it has {said} rows, the manifest says {rows}"));
    }
    if rows == 0 {
        return Ok((footer, Vec::new(), Pages::new()));
    }
    let ([group], Some([offsets])) = (metadata.row_groups(), metadata.offset_index().map(Vec::as_slice)) else {
        return Err("it is not one row group with the places of its pages".to_owned());
    };
    let mut pages = Pages::new();
    for (column, offsets) in group.columns().iter().zip(offsets) {
        let (start, _) = column.byte_range();
        let mut add = |start: u64, bytes: u64| {
            let range = usize::try_from(start).ok().zip(usize::try_from(start + bytes).ok());
            let page = range.and_then(|(start, end)| file.get(start..end)).ok_or("a page lies outside of it")?;
            pages.insert(start, (page.len(), xxh3_64(page)));
            Ok::<(), String>(())
        };
        let located = offsets.page_locations();
        let first = located.first().and_then(|first| u64::try_from(first.offset).ok()).ok_or("a column has no page")?;
        // What lies before the first page of rows is the dictionary.
        if first > start {
            add(start, first - start)?;
        }
        for page in located {
            let place = u64::try_from(page.offset).ok().zip(u64::try_from(page.compressed_page_size).ok());
            let (start, bytes) = place.ok_or("a page has no place")?;
            add(start, bytes)?;
        }
    }
    let bounds = (0..observations().fields().len()).map(|column| zone_bounds(&footer, column, zone_rows)).collect();
    Ok((footer, bounds, pages))
}

/// The bounds of a column's pages, where they begin and end with the zones.
fn zone_bounds(footer: &ArrowReaderMetadata, column: usize, zone_rows: usize) -> Option<ZoneBounds> {
    let metadata = footer.metadata();
    let offsets = metadata.offset_index()?;
    let located = offsets.first()?.get(column)?.page_locations();
    let rows = usize::try_from(metadata.file_metadata().num_rows()).ok()?;
    let is_zone = |(zone, page): (usize, i64)| usize::try_from(page) == Ok(zone * zone_rows);
    let firsts = located.iter().map(|page| page.first_row_index);
    if located.len() != rows.div_ceil(zone_rows) || !firsts.enumerate().all(is_zone) {
        return None;
    }
    let schema = footer.schema();
    let name = schema.field(column).name();
    let converter = StatisticsConverter::try_new(name, schema, footer.parquet_schema()).ok()?;
    let index = metadata.column_index()?;
    Some(ZoneBounds {
        min: converter.data_page_mins(index, offsets, [&0]).ok()?,
        max: converter.data_page_maxes(index, offsets, [&0]).ok()?,
        null_count: converter.data_page_null_counts(index, offsets, [&0]).ok()?,
    })
}

/// The file, of which nothing but pages is read, each compared with its checksum.
struct CheckedPages {
    file: Mutex<File>,
    pages: Arc<Pages>,
    read: Arc<AtomicU64>,
}

impl Length for CheckedPages {
    fn len(&self) -> u64 {
        self.pages.last_key_value().map_or(0, |(start, (bytes, _))| start + *bytes as u64)
    }
}

impl ChunkReader for CheckedPages {
    type T = io::Empty;

    fn get_read(&self, start: u64) -> Result<io::Empty, ParquetError> {
        // Only a reader that does not know where pages end asks for so much.
        Err(ParquetError::General(format!("no page was looked for at {start}")))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let known = self.pages.get(&start).filter(|(bytes, _)| *bytes == length);
        let (_, checksum) = known.ok_or_else(|| ParquetError::General(format!("there is no page at {start}")))?;
        let mut page = vec![0; length];
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut page)?;
        }
        if xxh3_64(&page) != *checksum {
            return Err(ParquetError::General(format!("the page at {start} changed since the file was opened")));
        }
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(page.into())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::compute::{cast, max, min};
    use arrow::datatypes::{DataType, Int64Type};

    use super::*;
    use crate::generate::{GenerateOptions, generate};
    use crate::run::{RunOptions, run};
    use crate::schema::Layout;
    use crate::{Cache, Dataset, DateRange, PartitionEntry, progress};

    struct Made {
        folder: tempfile::TempDir,
        cache: Cache,
    }

    impl Made {
        fn new(zone_rows: usize) -> Made {
            let folder = tempfile::tempdir().unwrap();
            let (root, cache) = (folder.path().join("set"), folder.path().join("cache"));
            generate(&root, &GenerateOptions { days: 1, sites: 30, ..GenerateOptions::default() }).unwrap();
            let layout = Layout { zone_rows };
            let options = RunOptions { cache: cache.clone(), range: DateRange::ALL, layout, force: false };
            run(&Dataset::open(&root).unwrap(), &options, &progress::Silent).unwrap();
            Made { cache: Cache::open(&cache).unwrap(), folder }
        }

        fn entry(&self) -> &PartitionEntry {
            &self.cache.manifest().partitions[0]
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("cache").join(&self.entry().file)
        }
    }

    /// Texts spelled out: dictionaries may list theirs in another order.
    fn plain(column: &ArrayRef) -> ArrayRef {
        match column.data_type() {
            DataType::Dictionary(_, texts) => cast(column, texts).unwrap(),
            _ => Arc::clone(column),
        }
    }

    #[test]
    fn pieces_are_what_the_whole_has_there() {
        for zone_rows in [7, 64, 100, 1024, 1500, 1 << 20] {
            let made = Made::new(zone_rows);
            let whole = made.cache.load(made.entry()).unwrap();
            let file = made.cache.open_partition(made.entry()).unwrap();
            assert_eq!(file.zone_count(), whole.zone_count());
            let mut random = fastrand::Rng::with_seed(zone_rows as u64);
            for _ in 0..20 {
                let zones: Vec<usize> = (0..file.zone_count()).filter(|_| random.u8(0..3) == 0).collect();
                let columns: Vec<usize> = (0..13).filter(|_| random.u8(0..3) == 0).collect();
                let piece = file.read(&zones, &columns).unwrap();
                let expected: Vec<RecordBatch> =
                    zones.iter().map(|zone| whole.zone(*zone).project(&columns).unwrap()).collect();
                let schema = Arc::new(observations().project(&columns).unwrap());
                let expected = concat_batches(&schema, &expected).unwrap();
                assert_eq!(piece.batch.num_rows(), expected.num_rows());
                for (piece, expected) in piece.batch.columns().iter().zip(expected.columns()) {
                    assert_eq!(&plain(piece), &plain(expected), "zones {zones:?} of {zone_rows}, columns {columns:?}");
                }
                assert_eq!(piece.file_bytes == 0, zones.is_empty() || columns.is_empty());
            }
        }
    }

    #[test]
    fn every_column_of_every_zone_has_its_bounds() {
        for zone_rows in [64, 100, 1024, 1500] {
            let made = Made::new(zone_rows);
            let whole = made.cache.load(made.entry()).unwrap();
            let file = made.cache.open_partition(made.entry()).unwrap();
            for column in 0..13 {
                let bounds = file.bounds(column).unwrap_or_else(|| panic!("zones of {zone_rows}, column {column}"));
                for zone in 0..whole.zone_count() {
                    let rows = whole.zone(zone);
                    let values = rows.column(column);
                    assert_eq!(bounds.null_count.value(zone), values.null_count() as u64);
                }
            }
            let utc = observations().index_of("utc").unwrap();
            let seconds =
                |column: &ArrayRef| cast(column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().clone();
            let (least, greatest) = (seconds(&file.bounds(utc).unwrap().min), seconds(&file.bounds(utc).unwrap().max));
            for zone in 0..whole.zone_count() {
                let hours = seconds(whole.zone(zone).column(utc));
                assert_eq!((Some(least.value(zone)), Some(greatest.value(zone))), (min(&hours), max(&hours)));
            }
        }
    }

    #[test]
    fn only_what_is_asked_for_is_read() {
        let made = Made::new(256);
        let file = made.cache.open_partition(made.entry()).unwrap();
        let all: Vec<usize> = (0..file.zone_count()).collect();
        let bytes = |zones: &[usize], columns: &[usize]| file.read(zones, columns).unwrap().file_bytes;
        let (everything, one_column) = (bytes(&all, &(0..13).collect::<Vec<_>>()), bytes(&all, &[4]));
        assert!(everything < made.entry().file_bytes && one_column * 4 < everything, "{one_column} of {everything}");
        // Beside its pages each zone needs the dictionary of the column.
        let zones: u64 = all.iter().map(|zone| bytes(&[*zone], &[4])).sum();
        assert!(bytes(&[0], &[4]) < one_column && zones >= one_column, "{zones} and {one_column}");
    }

    #[test]
    fn a_page_that_changed_is_an_error_and_others_are_not() {
        let made = Made::new(256);
        let file = made.cache.open_partition(made.entry()).unwrap();
        let columns = [0, 4, 12];
        let before: Vec<RecordBatch> =
            (0..file.zone_count()).map(|zone| file.read(&[zone], &columns).unwrap().batch).collect();
        let healthy = std::fs::read(made.path()).unwrap();
        let mut random = fastrand::Rng::with_seed(5);
        let mut noticed = 0;
        for _ in 0..60 {
            let mut damaged = healthy.clone();
            damaged[random.usize(..healthy.len())] ^= 1 << random.u8(..8);
            std::fs::write(made.path(), &damaged).unwrap();
            for (zone, before) in before.iter().enumerate() {
                match file.read(&[zone], &columns) {
                    Ok(piece) => assert_eq!(&piece.batch, before),
                    Err(Error::CorruptPartition { reason, .. }) => {
                        assert!(reason.contains("changed since"), "{reason}");
                        noticed += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert!(noticed > 20, "{noticed} pages");
        std::fs::write(made.path(), &healthy[..healthy.len() / 8]).unwrap();
        assert!(matches!(file.read(&[0], &[12]), Err(Error::CorruptPartition { .. })));
        std::fs::remove_file(made.path()).unwrap();
        assert!(matches!(file.read(&[0], &columns), Err(Error::Io { .. })));
        assert!(matches!(made.cache.open_partition(made.entry()), Err(Error::Io { .. })));
    }
}
