//! The folder of a run: its cache, the state of its nodes, their logs.
//!
//! It is a new one in the system's folder for temporary files and goes when the run ends. A run whose reader will look
//! at the Parquet files leaves the cache; the next run of the same user removes what such runs left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cli::error::{CliError, Exit};
use crate::node::os;

const PREFIX: &str = "overlay-bench-";
/// The reader of an earlier run has looked by now.
const LEFT_AFTER: Duration = Duration::from_secs(30);

/// A run's folder; dropping it removes it.
pub struct Folder {
    path: PathBuf,
    keep_cache: bool,
}

impl Folder {
    /// Makes the folder, after removing those of earlier runs.
    pub fn make(keep_cache: bool) -> Result<Folder, CliError> {
        let temporary = std::env::temp_dir();
        sweep(&temporary);
        let path = temporary.join(format!("{PREFIX}{}", std::process::id()));
        // `create_dir` refuses what is there already, also a link that somebody laid there.
        fs::create_dir(&path).map_err(|error| {
            CliError::caused(Exit::FAILED, format!("the folder {} cannot be made", path.display()), &error)
        })?;
        Ok(Folder { path, keep_cache })
    }

    /// Where Parquet files go.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let cache = self.cache();
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !(self.keep_cache && path == cache) {
                // Nothing can be done about what does not go; the next run tries again.
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// Removes what earlier runs left, but not what a run of now may be using.
fn sweep(temporary: &Path) {
    let Ok(entries) = fs::read_dir(temporary) else { return };
    for entry in entries.flatten() {
        let is_ours = entry
            .file_name()
            .to_string_lossy()
            .strip_prefix(PREFIX)
            .is_some_and(|end| end.parse().is_ok_and(|pid| !os::may_be_alive(pid)));
        let modified = entry.metadata().ok().filter(|found| found.is_dir()).and_then(|found| found.modified().ok());
        let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if is_ours && age.is_some_and(|age| age > LEFT_AFTER) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
