//! The files in which rows of results wait on disk for their readers, in a folder of the node's own that only its owner
//! may read.
//!
//! Which rows go there is the store's decision, what is written [`crate::delivery::spool`]'s. Here files are made, written
//! and read on threads that may block, and removed. A result has files of up to [`FILE_BYTES_MAX`], so that a reader who
//! acknowledges gives space back while the query still runs. No file is open between two accesses, so their number is
//! bounded by the bytes alone; what a kill left behind is removed at the next start.
//!
//! Invariant: a file's bytes are taken before they are written and given back when nobody can reach it any more, in
//! whatever way its query ended; it is removed a moment later, in the background.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;

use super::os;
use super::queries::Queries;
use super::state_dir::StateError;
use crate::delivery::spool::{Payload, SpoolFile, SpoolSpace, Spooled};
use crate::delivery::{Arrived, Chunk, Cut, LastLoaded, QueryId};
use crate::engine::meter::{Meter, Spent};
use crate::failure::{Failure, FailureKind};

/// A file that is larger is not continued.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The folder's name in a node's state.
pub(super) const FOLDER: &str = "spool";

/// Where the files are.
pub struct Spool {
    folder: PathBuf,
    space: Arc<SpoolSpace>,
    /// Whose threads may block.
    runtime: Handle,
    files: AtomicU64,
}

impl Spool {
    /// An empty folder, whatever was in it before: no result outlives its process.
    pub fn open(state: &Path, bytes_max: u64, runtime: Handle) -> Result<Spool, StateError> {
        let folder = state.join(FOLDER);
        remove(&folder)
            .and_then(|()| os::create_private_folder(&folder))
            .map_err(|source| StateError::Io { path: folder.clone(), source })?;
        Ok(Spool { folder, space: Arc::new(SpoolSpace::new(bytes_max)), runtime, files: AtomicU64::new(0) })
    }

    /// How much may be in the files, and is.
    pub fn space(&self) -> &Arc<SpoolSpace> {
        &self.space
    }

    /// Removes every file; the node ends. What cannot be removed now is at the next start.
    pub fn clear(&self) {
        if let Err(error) = remove(&self.folder) {
            tracing::warn!(%error, "rows on disk could not be removed");
        }
    }
}

/// Removes a folder; fine if there is none.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// One file of one result.
struct SpooledFile {
    path: PathBuf,
    /// Taken from the space.
    bytes: AtomicU64,
    space: Arc<SpoolSpace>,
    runtime: Handle,
}

impl SpoolFile for SpooledFile {
    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut content = vec![0; bytes];
        file.read_exact(&mut content)?;
        Ok(content)
    }
}

impl Drop for SpooledFile {
    fn drop(&mut self) {
        self.space.give_back(self.bytes.load(Ordering::Acquire));
        let path = std::mem::take(&mut self.path);
        // The last handle may go anywhere, also under a lock; to remove a large file takes a while.
        self.runtime.spawn_blocking(move || {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a file of rows could not be removed");
            }
        });
    }
}

/// Writes the rows of one result, one batch after another.
pub struct Writer<'a> {
    spool: &'a Spool,
    id: QueryId,
    file: Option<Arc<SpooledFile>>,
}

impl Writer<'_> {
    /// The file to continue, or a new one.
    fn file(&mut self) -> Arc<SpooledFile> {
        if let Some(file) = self.file.as_ref().filter(|file| file.bytes.load(Ordering::Acquire) < FILE_BYTES_MAX) {
            return Arc::clone(file);
        }
        let number = self.spool.files.fetch_add(1, Ordering::Relaxed);
        let file = Arc::new(SpooledFile {
            path: self.spool.folder.join(format!("{}-{number}.rows", self.id)),
            bytes: AtomicU64::new(0),
            space: Arc::clone(&self.spool.space),
            runtime: self.spool.runtime.clone(),
        });
        self.file = Some(Arc::clone(&file));
        file
    }

    /// Writes a batch; `None` if there is no space for it.
    async fn write(&mut self, payload: Payload) -> io::Result<Option<Spooled>> {
        let length = payload.bytes().len() as u64;
        if !self.spool.space.take(length) {
            return Ok(None);
        }
        let file = self.file();
        // Counted before it is there: a file that is written half is paid for in full.
        let offset = file.bytes.fetch_add(length, Ordering::AcqRel);
        let written = self.spool.runtime.spawn_blocking(move || {
            let mut open = os::append_to_private_file(&file.path)?;
            open.write_all(payload.bytes())?;
            Ok(payload.written(file, offset))
        });
        written.await.map_err(io::Error::other)?.map(Some)
    }
}

impl Queries {
    /// Who writes rows of this result to disk.
    pub(super) fn spool_writer(&self, id: QueryId) -> Writer<'_> {
        Writer { spool: &self.spool, id, file: None }
    }

    /// Keeps rows that were accepted, in memory or on disk.
    pub(super) async fn keep_rows(
        &self,
        arrived: Arrived,
        partial: bool,
        writer: &mut Writer<'_>,
        meter: &Meter,
    ) -> Result<(), Failure> {
        let id = writer.id;
        let Some(arrived) = self.desk().append(id, arrived, partial)? else { return Ok(()) };
        let start = self.now();
        let payload =
            Payload::of(&arrived).map_err(|error| self.fail(FailureKind::Internal, "ENCODING", error.to_string()))?;
        meter.add(Spent { cpu: self.now().saturating_sub(start), ..Spent::default() });
        match writer.write(payload).await {
            Ok(Some(batch)) => self.desk().append_spooled(id, batch),
            Ok(None) => self.desk().append_in_memory(id, arrived),
            Err(error) => Err(self.spool_failure(&error)),
        }
    }

    /// Rows that could not be written. The query cannot go on; others may hold theirs in memory.
    fn spool_failure(&self, error: &io::Error) -> Failure {
        tracing::warn!(%error, folder = %self.spool.folder.display(), "rows could not be written to disk");
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::ResourceExhausted,
            _ => FailureKind::Internal,
        };
        let message = format!(
            "rows beyond limits.result_bytes_max could not be written below state_dir: {error}; \
             free space there, or set limits.result_disk_bytes_max to 0"
        );
        self.fail(kind, "SPOOL", message)
    }

    /// The chunk with all its rows, read from disk where they are not in memory.
    pub(super) async fn load_chunk(&self, cut: Cut, mut last: LastLoaded) -> Result<(Chunk, LastLoaded), Failure> {
        if cut.is_in_memory() {
            let chunk = cut.load(&mut last).map_err(|error| self.not_loaded(&error))?;
            return Ok((chunk, last));
        }
        let read = self.spool.runtime.spawn_blocking(move || cut.load(&mut last).map(|chunk| (chunk, last)));
        match read.await {
            Ok(loaded) => loaded.map_err(|error| self.not_loaded(&error)),
            // Its threads end, and so does the node.
            Err(_) => Err(self.fail(FailureKind::Unavailable, "ENDING", format!("{} is ending", self.me()))),
        }
    }

    fn not_loaded(&self, error: &dyn std::error::Error) -> Failure {
        tracing::warn!(%error, folder = %self.spool.folder.display(), "rows could not be read from disk");
        self.fail(FailureKind::DataLoss, "SPOOL", error.to_string())
    }
}
