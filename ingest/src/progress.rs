//! How far a run is: told to whoever listens, drawn as a bar if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Hears of every file that is done. Called from several threads at once.
pub trait Progress: Sync {
    /// What there is to read.
    fn start(&self, _files: u64, _bytes: u64) {}
    /// A file is done: its bytes and the rows taken from it.
    fn file_done(&self, _bytes: u64, _rows: u64) {}
    /// Everything is read and written; the commit follows.
    fn finish(&self) {}
}

/// Nobody listens.
pub struct Silent;

impl Progress for Silent {}

/// A bar on stderr: files, rows, MB/s and the time left. Draws nothing if stderr is no terminal.
pub struct Bar {
    bar: ProgressBar,
    count: std::sync::Mutex<Count>,
}

#[derive(Default)]
struct Count {
    files: u64,
    files_total: u64,
    rows: u64,
}

impl Bar {
    pub fn new() -> Bar {
        let bar = ProgressBar::new(0);
        let template = "{bar:32} {msg}  {decimal_bytes_per_sec}  {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
        Bar { bar, count: std::sync::Mutex::default() }
    }

    fn show(&self, count: &Count) {
        self.bar.set_message(format!("{}/{} files  {} rows", count.files, count.files_total, count.rows));
    }
}

impl Default for Bar {
    fn default() -> Bar {
        Bar::new()
    }
}

impl Progress for Bar {
    fn start(&self, files: u64, bytes: u64) {
        self.bar.set_length(bytes);
        let mut count = self.count.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *count = Count { files: 0, files_total: files, rows: 0 };
        self.show(&count);
    }

    fn file_done(&self, bytes: u64, rows: u64) {
        let mut count = self.count.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        count.files += 1;
        count.rows += rows;
        self.show(&count);
        self.bar.inc(bytes);
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
