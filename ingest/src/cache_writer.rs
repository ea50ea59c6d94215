//! Writing to a cache's folder so that a kill at any moment leaves the old cache or the new one.
//!
//! Files are named by their content, written under a temporary name, synced and renamed; then the folder is synced;
//! then the manifest is renamed; only then are files removed that it does not name. So a file that a manifest names
//! is never written to again, and what a killed run left behind is in nobody's way until the next run sweeps it.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::manifest::{CountsFile, FILE_NAME, Manifest, RejectsFile};
use crate::partition_id::PartitionId;

const LOCK_NAME: &str = "lock";
const TEMPORARY: &str = ".tmp";

/// The right to write to a cache. One at a time, over all processes, until it is dropped.
pub(crate) struct CacheWriter {
    folder: PathBuf,
    /// Holds the lock; the system lets go of it when the process ends, however it ends.
    lock: File,
}

impl Drop for CacheWriter {
    fn drop(&mut self) {
        // Closing is not enough: a child process on its way from fork to exec holds the open file as well. If it fails,
        // closing does the rest.
        let _ = self.lock.unlock();
    }
}

impl CacheWriter {
    /// Makes the folder if needed. [`Error::CacheInUse`] if another run is writing to it.
    pub(crate) fn open(folder: &Path) -> Result<CacheWriter, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        let path = folder.join(LOCK_NAME);
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(CacheWriter { folder: folder.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(Error::CacheInUse(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }

    /// Writes a file that the next manifest will name, once [`Written::finish`] has put it on disk.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<Written, Error> {
        let path = self.folder.join(name);
        let temporary = self.folder.join(format!("{name}{TEMPORARY}"));
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            Ok(file)
        };
        let file = write().map_err(Error::io("write", &path))?;
        Ok(Written { file, temporary, path })
    }

    /// Writes all rejects as one file; none, and nothing on disk, if there are none.
    pub(crate) fn write_rejects(&self, rows: u64, bytes: &[u8]) -> Result<Option<RejectsFile>, Error> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let digest = blake3::hash(bytes).to_hex().to_string();
        let file = format!("rejects-{}.jsonl", &digest[..16]);
        self.write(&file, bytes)?.finish()?;
        Ok(Some(RejectsFile { file, rows, bytes: bytes.len() as u64, digest }))
    }

    /// Writes the counts of all days as one file.
    pub(crate) fn write_counts(&self, bytes: &[u8]) -> Result<CountsFile, Error> {
        let digest = blake3::hash(bytes).to_hex().to_string();
        let file = format!("counts-{}.bin", &digest[..16]);
        self.write(&file, bytes)?.finish()?;
        Ok(CountsFile { file, bytes: bytes.len() as u64, digest })
    }

    /// The point of commit. Everything the manifest names was written and finished, now or in an earlier run.
    pub(crate) fn commit(&self, manifest: &Manifest) -> Result<(), Error> {
        sync_folder(&self.folder)?;
        manifest.commit(&self.folder)
    }

    /// Removes what runs left behind and the committed manifest does not name. Touches only names that this program
    /// gives: the folder is the user's.
    pub(crate) fn sweep(&self, manifest: &Manifest) -> Result<(), Error> {
        let list = || Error::io("list", &self.folder);
        for entry in fs::read_dir(&self.folder).map_err(list())? {
            let entry = entry.map_err(list())?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| is_ours(name) && !manifest.names(name)) {
                let path = entry.path();
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// A file that may not have reached the disk, under its temporary name.
#[must_use = "a file that is not finished is not there"]
pub(crate) struct Written {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Written {
    /// Waits until the file is on disk, and gives it its name.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let finish = || {
            self.file.sync_all()?;
            fs::rename(&self.temporary, &self.path)
        };
        finish().map_err(Error::io("write", &self.path))
    }
}

/// The name of a partition's file. It has the digest of the file besides the id, which names only the rows: another
/// release of the encoder may write the same rows otherwise, and must not write over a file that is in use.
pub(crate) fn partition_file_name(id: PartitionId, file_digest: &str) -> String {
    format!("{id}.{}.parquet", &file_digest[..16])
}

fn is_ours(name: &str) -> bool {
    // What an interrupted commit leaves: a dot, the manifest's name, a dot, random characters.
    let left_manifest = name.strip_prefix('.').and_then(|name| name.strip_prefix(FILE_NAME)).is_some();
    let name = name.strip_suffix(TEMPORARY).unwrap_or(name);
    let is_digest = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let partition = name.strip_suffix(".parquet").and_then(|name| name.split_once('.'));
    let rejects = name.strip_prefix("rejects-").and_then(|name| name.strip_suffix(".jsonl"));
    let counts = name.strip_prefix("counts-").and_then(|name| name.strip_suffix(".bin"));
    left_manifest
        || partition.is_some_and(|(id, digest)| id.parse::<PartitionId>().is_ok() && is_digest(digest))
        || rejects.is_some_and(is_digest)
        || counts.is_some_and(is_digest)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(Error::io("sync", folder))
}

/// Elsewhere a folder cannot be opened as a file, and renames are journalled.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_swept() {
        let id = format!("20200810-{:032x}", 7);
        let ours = [
            format!("{id}.0123456789abcdef.parquet"),
            format!("{id}.0123456789abcdef.parquet.tmp"),
            "rejects-0123456789abcdef.jsonl".into(),
            "counts-0123456789abcdef.bin".into(),
            ".manifest.json.Ab3dEf".into(),
        ];
        let others = ["manifest.json", "lock", "my.parquet", "rejects.jsonl", "notes.tmp", "20200810.parquet"];
        assert!(ours.iter().all(|name| is_ours(name)));
        assert!(!others.iter().any(|name| is_ours(name)));
    }
}
