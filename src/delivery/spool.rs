//! Rows of a result that lie on disk instead of in memory: how many bytes of them there may be, what is written, and how
//! it is read back.
//!
//! Decides nothing about which rows go there ([`super::store`]) and opens no file: that is the node's, behind
//! [`SpoolFile`]. What was written is one block (see [`super::encoding::packed`]); its checksum stays in memory, so that a
//! damaged file is an error and never a wrong row.
//!
//! Invariant: the bytes that [`SpoolSpace`] counts are those of all files that still exist for somebody, and never more
//! than its limit.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;

use super::Arrived;
use super::encoding::packed::{Packed, RowsByRun};
use super::encoding::{DecodeError, EncodeError, checksum};

/// `result_disk_bytes_max`, and how much of it is taken. Shared by the store, which asks whether there is room, and the
/// files, which take it and give it back.
#[derive(Debug, Default)]
pub struct SpoolSpace {
    bytes_max: u64,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
}

impl SpoolSpace {
    /// Room for so many bytes; with 0 nothing goes to disk.
    pub fn new(bytes_max: u64) -> SpoolSpace {
        SpoolSpace { bytes_max, ..SpoolSpace::default() }
    }

    /// The limit.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes taken now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// The most bytes ever taken.
    pub fn bytes_peak(&self) -> u64 {
        self.bytes_peak.load(Ordering::Acquire)
    }

    /// Whether so many bytes are free now. Somebody else may take them in between.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.bytes().saturating_add(bytes) <= self.bytes_max
    }

    /// Takes so many bytes, before they are written; false if they are not free.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        let Ok(before) = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) else { return false };
        self.bytes_peak.fetch_max(before + bytes, Ordering::AcqRel);
        true
    }

    /// Gives bytes back that were taken.
    pub fn give_back(&self, bytes: u64) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        assert!(before >= bytes, "{bytes} bytes of {before} are given back");
    }
}

/// A file with rows of one result. When the last handle on it is dropped, the file goes and its space is free.
pub trait SpoolFile: Send + Sync {
    /// Reads what was written there; blocks.
    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>>;
}

/// What of accepted rows is written.
#[derive(Debug, Clone)]
pub struct Payload {
    block: Packed,
}

impl Payload {
    /// The block the rows came in, or else a new one.
    pub fn of(arrived: &Arrived) -> Result<Payload, NotWritten> {
        if let Arrived::Packed { block, from: 0, rows } = arrived
            && *rows == block.rows()
        {
            return Ok(Payload { block: block.clone() });
        }
        let batch = arrived.to_batch()?;
        Ok(Payload { block: RowsByRun::of_batch(&batch).block()? })
    }

    /// What to write, without change.
    pub fn bytes(&self) -> &Bytes {
        self.block.bytes()
    }

    /// It was written whole, to this place.
    pub fn written(&self, file: Arc<dyn SpoolFile>, offset: u64) -> Spooled {
        Spooled {
            file,
            offset,
            bytes: self.bytes().len(),
            rows: self.block.rows() as u64,
            checksum: checksum(self.bytes()),
            schema: SchemaRef::clone(self.block.schema()),
        }
    }
}

/// Rows that cannot be made a block; trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    #[error(transparent)]
    Read(#[from] ArrowError),
    #[error(transparent)]
    Packed(#[from] EncodeError),
}

/// Where a batch of rows lies on disk.
#[derive(Clone)]
pub struct Spooled {
    file: Arc<dyn SpoolFile>,
    offset: u64,
    bytes: usize,
    rows: u64,
    checksum: u64,
    schema: SchemaRef,
}

/// Rows on disk that cannot be had back. Others of the same result may be fine.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    /// The system says so.
    #[error("rows on disk cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// They are not what was written.
    #[error("rows on disk are damaged: {0}")]
    Damaged(String),
}

impl From<DecodeError> for NotLoaded {
    fn from(error: DecodeError) -> NotLoaded {
        NotLoaded::Damaged(error.to_string())
    }
}

impl Spooled {
    /// Rows of the batch.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// The rows as they were; blocks.
    pub fn load(&self) -> Result<Arrived, NotLoaded> {
        let bytes = self.file.read(self.offset, self.bytes)?;
        let found = checksum(&bytes);
        if found != self.checksum {
            return Err(NotLoaded::Damaged(format!("checksum {found:016x}, written {:016x}", self.checksum)));
        }
        let block = Packed::open(bytes.into(), &self.schema)?;
        if block.rows() as u64 != self.rows {
            return Err(NotLoaded::Damaged(format!("{} rows, written {}", block.rows(), self.rows)));
        }
        Ok(block.into())
    }
}

impl fmt::Debug for Spooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows in {} bytes from {}", self.rows, self.bytes, self.offset)
    }
}

impl PartialEq for Spooled {
    fn eq(&self, other: &Spooled) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.offset == other.offset
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    /// A file in memory.
    #[derive(Default)]
    pub(in super::super) struct InMemory(pub Mutex<Vec<u8>>);

    impl SpoolFile for InMemory {
        fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
            let content = self.0.lock().unwrap();
            let from = offset as usize;
            content.get(from..from + bytes).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Writes the rows at the end of the file.
    pub(in super::super) fn write(file: &Arc<InMemory>, arrived: &Arrived) -> Spooled {
        let payload = Payload::of(arrived).expect("it is encoded");
        let mut content = file.0.lock().unwrap();
        let offset = content.len() as u64;
        content.extend_from_slice(payload.bytes());
        payload.written(Arc::clone(file) as Arc<dyn SpoolFile>, offset)
    }

    fn rows(from: i64, to: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
        let texts = (from..to).map(|n| ["x", "y", "z"][n as usize % 3]);
        let texts: ArrayRef = Arc::new(texts.collect::<DictionaryArray<Int32Type>>());
        RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).expect("two columns")
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let file = Arc::new(InMemory::default());
        let came = {
            let bytes = RowsByRun::of_batch(&rows(5, 9)).pack().expect("packs");
            Arrived::from(Packed::open(bytes.into(), &rows(0, 0).schema()).expect("a block"))
        };
        let all =
            [rows(0, 3).into(), came.clone(), came.slice(1, 2), rows(0, 100).slice(40, 2).into(), rows(7, 7).into()];
        let spooled: Vec<Spooled> = all.iter().map(|arrived| write(&file, arrived)).collect();
        for (arrived, spooled) in all.iter().zip(&spooled).rev() {
            let back = spooled.load().expect("it is there");
            let [back, arrived] = [&back, arrived].map(|rows| rows.to_batch().expect("readable"));
            let numbers = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            assert_eq!(numbers(&back), numbers(&arrived));
            let text = |batch: &RecordBatch| {
                format!("{:?}", arrow::compute::cast(batch.column(1), &arrow::datatypes::DataType::Utf8))
            };
            assert_eq!(text(&back), text(&arrived));
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_so_is_what_is_cut_off() {
        let file = Arc::new(InMemory::default());
        let spooled = write(&file, &rows(0, 20).into());
        let length = file.0.lock().unwrap().len();
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let (at, bit) = (random.usize(..length), random.u8(..8));
            file.0.lock().unwrap()[at] ^= 1 << bit;
            let error = spooled.load().expect_err("damage");
            assert!(matches!(error, NotLoaded::Damaged(_)), "bit {bit} of byte {at}: {error}");
            file.0.lock().unwrap()[at] ^= 1 << bit;
        }
        spooled.load().expect("it is whole again");
        file.0.lock().unwrap().truncate(length - 1);
        assert!(matches!(spooled.load(), Err(NotLoaded::Unreadable(_))));
    }

    #[test]
    fn space_is_taken_up_to_the_limit_and_given_back() {
        let space = SpoolSpace::new(100);
        for (bytes, taken) in [(60, true), (41, false), (u64::MAX, false), (40, true), (1, false), (0, true)] {
            assert_eq!((space.has_room_for(bytes), space.take(bytes)), (taken, taken), "{bytes}");
        }
        space.give_back(40);
        assert_eq!((space.bytes(), space.bytes_peak(), space.take(40)), (60, 100, true));
        assert!(!SpoolSpace::new(0).take(1));
    }
}
