//! What a node keeps on disk between its lives, in a folder for its fingerprint and id: incarnation, stored manifest,
//! placement, address and process id.
//!
//! Files are replaced whole (written beside, synced, renamed), so that a kill leaves the old or the new. A lock on the
//! folder refuses a second process with the same id on this host.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::routing::NodeId;
use crate::routing::announcements::INCARNATION_MAX;

const INCARNATION: &str = "incarnation";
const ADDRESS: &str = "address";
const PID: &str = "pid";
const LOCK: &str = "lock";

/// Largest file read back; all of them are small.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Something about the folder or a file in it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path} cannot be read or written")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: not readable: {what}; remove the file to start without it")]
    Damaged { path: PathBuf, what: String },
    #[error("another process with id {id} runs here (pid {pid}); its lock is {path}")]
    Locked { id: NodeId, pid: String, path: PathBuf },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StateError + '_ {
    move |source| StateError::Io { path: path.to_owned(), source }
}

/// The folder of one node, which nobody else writes to while this value lives.
#[derive(Debug)]
pub struct StateDir {
    folder: PathBuf,
    lock: File,
}

/// Where a node of this fingerprint keeps its state; `state_dir` is the configured root.
pub fn folder_of(state_dir: &Path, fingerprint: &str, id: &NodeId) -> PathBuf {
    state_dir.join(fingerprint).join(id.as_str())
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // Closing is not enough: a child process on its way from fork to exec holds the open file as well. If it fails,
        // closing does the rest.
        let _ = self.lock.unlock();
    }
}

impl StateDir {
    /// Makes the folder, if need be, and locks it.
    pub fn open(state_dir: &Path, fingerprint: &str, id: &NodeId) -> Result<StateDir, StateError> {
        let folder = folder_of(state_dir, fingerprint, id);
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(io_error(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(StateDir { folder, lock }),
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(folder.join(PID)).unwrap_or_default().trim().to_owned();
                Err(StateError::Locked { id: id.clone(), pid, path })
            }
            Err(TryLockError::Error(source)) => Err(StateError::Io { path, source }),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Counts this start of the node: one more than ever before in this folder.
    pub fn next_incarnation(&self) -> Result<u64, StateError> {
        let path = self.folder.join(INCARNATION);
        let before = match read_bounded(&path)? {
            None => 0,
            Some(text) => {
                let number = text.trim().parse::<u64>().ok().filter(|number| *number <= INCARNATION_MAX);
                let what = || format!("{:?} is not a number of starts", text.chars().take(40).collect::<String>());
                number.ok_or_else(|| StateError::Damaged { path: path.clone(), what: what() })?
            }
        };
        let next = before + 1;
        self.set_incarnation(next)?;
        Ok(next)
    }

    /// Raises the counter, when the overlay remembers a higher one than this folder.
    pub fn set_incarnation(&self, incarnation: u64) -> Result<(), StateError> {
        self.write(INCARNATION, incarnation.to_string().as_bytes())
    }

    /// Tells local processes where this node listens, and as which process it runs.
    pub fn write_address(&self, address: &str, pid: u32) -> Result<(), StateError> {
        self.write(ADDRESS, address.as_bytes())?;
        self.write(PID, format!("{pid}\n").as_bytes())
    }

    /// Takes back what [`StateDir::write_address`] told.
    pub fn remove_address(&self) {
        // Gone already, or not removable: the lock tells the truth anyway.
        let _ = fs::remove_file(self.folder.join(ADDRESS));
        let _ = fs::remove_file(self.folder.join(PID));
    }

    /// Keeps a value under a file name.
    pub fn store<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.folder.join(name);
        let bytes = serde_json::to_vec(value).map_err(|error| StateError::Damaged { path, what: error.to_string() })?;
        self.write(name, &bytes)
    }

    /// The value kept under a file name, if there is one.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.folder.join(name);
        let Some(text) = read_bounded(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| StateError::Damaged { path, what: error.to_string() })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.folder.join(name);
        let write = || -> io::Result<()> {
            let mut file = AtomicWriteFile::open(&path)?;
            file.write_all(bytes)?;
            file.commit()
        };
        write().map_err(io_error(&path))
    }
}

/// The address that a local node wrote; `None` if it does not run.
pub fn local_address(state_dir: &Path, fingerprint: &str, id: &NodeId) -> Option<String> {
    let path = folder_of(state_dir, fingerprint, id).join(ADDRESS);
    read_bounded(&path).ok().flatten().map(|text| text.trim().to_owned())
}

/// The process id that a local node wrote; `None` if it does not run.
pub fn local_pid(state_dir: &Path, fingerprint: &str, id: &NodeId) -> Option<u32> {
    let path = folder_of(state_dir, fingerprint, id).join(PID);
    read_bounded(&path).ok().flatten().and_then(|text| text.trim().parse().ok())
}

/// Whether a process holds the node's folder.
pub fn is_locked(state_dir: &Path, fingerprint: &str, id: &NodeId) -> bool {
    let path = folder_of(state_dir, fingerprint, id).join(LOCK);
    File::open(path).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Removes what a node of this id, killed while it ran with another configuration, left in such a folder of its own. What
/// cannot be removed stays: it is in nobody's way but the disk's.
pub(super) fn remove_left(state_dir: &Path, id: &NodeId, name: &str) {
    for entry in fs::read_dir(state_dir).into_iter().flatten().flatten() {
        let fingerprint = entry.file_name();
        let Some(fingerprint) = fingerprint.to_str() else { continue };
        let left = folder_of(state_dir, fingerprint, id).join(name);
        // A node of another cluster may run there.
        if !is_locked(state_dir, fingerprint, id)
            && left.is_dir()
            && let Err(error) = fs::remove_dir_all(&left)
        {
            tracing::warn!(path = %left.display(), %error, "what an earlier process left could not be removed");
        }
    }
}

fn read_bounded(path: &Path) -> Result<Option<String>, StateError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io_error(path))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_counts_and_a_second_process_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let id = NodeId::from("A");
        for start in 1..=3 {
            let state = StateDir::open(root.path(), "f00d", &id).unwrap();
            assert_eq!(state.next_incarnation().unwrap(), start);
            assert!(matches!(StateDir::open(root.path(), "f00d", &id), Err(StateError::Locked { .. })));
            assert!(is_locked(root.path(), "f00d", &id));
        }
        assert!(!is_locked(root.path(), "f00d", &id));
        let other = StateDir::open(root.path(), "f00d", &NodeId::from("B")).unwrap();
        assert_eq!(other.next_incarnation().unwrap(), 1);
    }

    #[test]
    fn values_come_back_and_damage_is_named() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(root.path(), "f00d", &NodeId::from("A")).unwrap();
        assert_eq!(state.load::<Vec<u32>>("list.json").unwrap(), None);
        state.store("list.json", &vec![1, 2, 3]).unwrap();
        assert_eq!(state.load::<Vec<u32>>("list.json").unwrap(), Some(vec![1, 2, 3]));
        fs::write(root.path().join("f00d/A/list.json"), "[1, 2").unwrap();
        let error = state.load::<Vec<u32>>("list.json").unwrap_err();
        assert!(error.to_string().contains("list.json"), "{error}");
        for damaged in ["x", "", "-1", "18446744073709551615"] {
            fs::write(root.path().join("f00d/A/incarnation"), damaged).unwrap();
            assert!(state.next_incarnation().unwrap_err().to_string().contains("not a number"), "{damaged}");
        }
    }
}
