//! A node's log file: where it is, how large it grows, and reading it, from its last lines on.
//!
//! The log is a chain of files: `ID.log` is written to, and when it is full it becomes `ID.log.1`, that one `ID.log.2`,
//! and so on. A reader holds the file it is in and finds the next one by asking where its own file has moved to, so it
//! follows through a rotation without losing or repeating a line. One that falls behind by all the files that are kept
//! says so and goes on with the oldest there is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::os::{FileIdentity, file_identity};
use crate::routing::NodeId;

/// The folder of log files, below the current folder.
pub const LOG_DIR: &str = "logs";
/// A log file is set aside at this size; three old ones are kept.
pub const LOG_BYTES_MAX: usize = 8 << 20;
pub const LOGS_KEPT: usize = 3;

/// Lines of the past that one reader is given, and the bytes that are searched for them.
pub const LINES_MAX: u32 = 10_000;
const PAST_BYTES_MAX: u64 = 4 << 20;
/// A longer line is cut: nobody reads it, and it has to fit into memory.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Read at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// Where a node of this folder writes its log.
pub fn path_of(id: &NodeId) -> PathBuf {
    Path::new(LOG_DIR).join(format!("{id}.log"))
}

/// Reads whole lines, oldest first.
pub struct LogReader {
    path: PathBuf,
    file: File,
    /// The line that has no end yet.
    begun: Vec<u8>,
    /// The rest of a line that was cut, or begins before what is read, is passed over.
    skipping: bool,
}

impl LogReader {
    /// Stands before the last `lines` lines; fewer if there are no more, or more than 4 MiB would have to be searched.
    pub fn open(path: &Path, lines: u32) -> io::Result<LogReader> {
        let newest = File::open(path)?;
        let older = (1..=LOGS_KEPT).map_while(|age| File::open(aged(path, age)).ok());
        let mut wanted = lines.min(LINES_MAX);
        let mut budget = PAST_BYTES_MAX;
        let mut at_the_end = true;
        let mut start = None;
        for mut file in std::iter::once(newest).chain(older) {
            let from = search_back(&mut file, &mut wanted, &mut budget, &mut at_the_end)?;
            let (found, position) = (from.is_some() || budget == 0, from.unwrap_or(0));
            start = Some((file, position));
            if found {
                break;
            }
        }
        let (mut file, position) = start.expect("the newest file was searched");
        // Out of budget, the search ends somewhere in a line.
        let skipping = budget == 0 && position > 0 && wanted > 0;
        file.seek(SeekFrom::Start(position))?;
        Ok(LogReader { path: path.to_owned(), file, begun: Vec::new(), skipping })
    }

    /// The next lines, about 64 KiB of them at the most; none if there is nothing new.
    pub fn next_lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut block = vec![0; BLOCK_BYTES];
        while lines.is_empty() {
            let mut count = self.file.read(&mut block)?;
            if count == 0 {
                if self.file.metadata()?.len() < self.file.stream_position()? {
                    // Somebody emptied it in place.
                    self.file.seek(SeekFrom::Start(0))?;
                    self.begun.clear();
                    continue;
                }
                let Some((next, lost)) = self.next_file()? else { break };
                // What was written between the look at the end and the rotation.
                count = self.file.read(&mut block)?;
                if count == 0 {
                    lines.extend(self.rest());
                    if lost {
                        lines.push("(lines are missing here: the log was rotated faster than it was read)".to_owned());
                    }
                    self.file = next;
                    continue;
                }
            }
            for &byte in &block[..count] {
                self.take(byte, &mut lines);
            }
        }
        Ok(lines)
    }

    /// The last line, if it was not ended.
    pub fn rest(&mut self) -> Option<String> {
        self.skipping = false;
        (!self.begun.is_empty()).then(|| text(&std::mem::take(&mut self.begun)))
    }

    fn take(&mut self, byte: u8, lines: &mut Vec<String>) {
        match byte {
            b'\n' if self.skipping => self.skipping = false,
            b'\n' => lines.push(text(&std::mem::take(&mut self.begun))),
            _ if self.skipping => {}
            _ => {
                self.begun.push(byte);
                if self.begun.len() == LINE_BYTES_MAX {
                    lines.push(text(&std::mem::take(&mut self.begun)) + " …");
                    self.skipping = true;
                }
            }
        }
    }

    /// The file after this one, and whether others in between are gone; `None` while this one is the newest.
    fn next_file(&mut self) -> io::Result<Option<(File, bool)>> {
        let mine = file_identity(&self.file)?;
        let candidates: Vec<File> = (0..=LOGS_KEPT).map_while(|age| File::open(aged(&self.path, age)).ok()).collect();
        let FileIdentity::Known(..) = mine else { return self.next_by_length(candidates) };
        let mut newer = None;
        for candidate in candidates {
            if file_identity(&candidate)? != mine {
                newer = Some(candidate);
                continue;
            }
            return Ok(newer.map(|next| (next, false)));
        }
        // Mine is gone: `newer` is the oldest there is; none while the newest is away for a moment to be renamed.
        Ok(newer.map(|oldest| (oldest, true)))
    }

    /// Where files cannot be told apart: the newest is another one if it is shorter than what was read.
    fn next_by_length(&mut self, candidates: Vec<File>) -> io::Result<Option<(File, bool)>> {
        let Some(newest) = candidates.into_iter().next() else { return Ok(None) };
        let is_another = newest.metadata()?.len() < self.file.stream_position()?;
        Ok(is_another.then_some((newest, false)))
    }
}

/// The name of the file after so many rotations.
fn aged(path: &Path, age: usize) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

/// Looks for the start of the last `wanted` lines, backwards from the file's end, and counts down what it found.
fn search_back(file: &mut File, wanted: &mut u32, budget: &mut u64, at_the_end: &mut bool) -> io::Result<Option<u64>> {
    let mut end = file.metadata()?.len();
    if *wanted == 0 {
        return Ok(Some(end));
    }
    while end > 0 && *budget > 0 {
        let size = end.min(BLOCK_BYTES as u64).min(*budget);
        let start = end - size;
        let mut block = vec![0; size as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        for (place, byte) in block.iter().enumerate().rev() {
            // The end of the last line does not begin another one.
            if *byte == b'\n' && !std::mem::take(at_the_end) {
                *wanted -= 1;
                if *wanted == 0 {
                    return Ok(Some(start + place as u64 + 1));
                }
            }
            *at_the_end = false;
        }
        (end, *budget) = (start, *budget - size);
    }
    Ok((*budget == 0).then_some(end))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
