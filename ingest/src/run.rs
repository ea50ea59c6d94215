//! An ingest run: decides which days must be read again, reads them in parallel, and commits the result once.
//!
//! A day is kept as it is if its files are those of the manifest by name, size and modification time (by digest where
//! only the time differs) and its Parquet file is there. Days outside the run's range are left alone. A run that
//! changes nothing writes nothing.
//!
//! One day is one task, largest first: its files share dictionaries that way, and a data set has many more days than a
//! machine has cores. The caller's rayon pool decides how many run at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::cache::Cache;
use crate::cache_writer::{CacheWriter, partition_file_name};
use crate::counts::{Counts, encode_day, encode_file};
use crate::dataset::{Dataset, Refusal, SourceFile};
use crate::date::{Date, DateRange};
use crate::error::Error;
use crate::finishing::{Finish, finishing};
use crate::manifest::{FILE_NAME, Manifest, PartitionEntry, RejectsSpan, SourceEntry};
use crate::parquet_file::encode;
use crate::partition::{digest_of, parse_date_with};
use crate::progress::Progress;
use crate::rejects::write_lines;
use crate::schema::{LAYOUT_VERSION, Layout};

/// What a run shall do.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Folder of the cache; made if it does not exist.
    pub cache: PathBuf,
    /// Days outside are left as they are.
    pub range: DateRange,
    pub layout: Layout,
    /// Read every day of the range again. If the manifest cannot be used (corrupt, or of another layout), start over:
    /// then days outside the range are dropped too.
    pub force: bool,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// As it was committed, now or earlier.
    pub manifest: Manifest,
    /// Days that were read again.
    pub redone: Vec<Date>,
    /// Whether a new manifest was committed.
    pub committed: bool,
}

/// Brings the cache up to date with the data set, within the range. On an error nothing is committed.
pub fn run(dataset: &Dataset, options: &RunOptions, progress: &dyn Progress) -> Result<Outcome, Error> {
    let writer = CacheWriter::open(&options.cache)?;
    let old = old_cache(dataset, options)?;
    let mut kept = BTreeMap::new();
    let mut redo = Vec::new();
    for entry in old.iter().flat_map(|old| &old.manifest.partitions) {
        if !options.range.contains(entry.id.date) {
            kept.insert(entry.id.date, entry.clone());
        }
    }
    for date in dataset.dates(options.range) {
        let entry = old.as_ref().filter(|_| !options.force).and_then(|old| old.manifest.partition(date));
        match entry.map(|entry| up_to_date(dataset, entry, &options.cache)).transpose()?.flatten() {
            Some(entry) => drop(kept.insert(date, entry)),
            None => redo.push(date),
        }
    }

    let files = redo.iter().map(|&date| dataset.files(date).len() as u64).sum();
    progress.start(files, redo.iter().flat_map(|&date| dataset.files(date)).map(|file| file.bytes).sum());
    let built = build_all(dataset, options, &writer, &redo, progress);
    progress.finish();

    let mut manifest = Manifest::new(&dataset.name, options.layout);
    manifest.refused = dataset.undated_refused().iter().map(|file| undated(dataset, file)).collect::<Result<_, _>>()?;
    let mut days = kept.into_iter().map(|(date, entry)| (date, (entry, None))).collect::<BTreeMap<_, _>>();
    days.extend(built?.into_iter().map(|built| (built.entry.id.date, (built.entry.clone(), Some(built)))));
    let mut rejects = Vec::new();
    let counts = days.values().filter_map(|(entry, redone)| match redone {
        Some(redone) => redone.counts.as_deref(),
        None => old.as_ref().and_then(|old| old.counts.as_ref()?.day_bytes(&entry.id)),
    });
    let counts = encode_file(counts);
    for (mut entry, redone) in days.into_values() {
        let lines = redone.map(|redone| redone.rejects);
        entry.rejects = entry.rejects.map(|span| {
            let offset = rejects.len() as u64;
            match (&lines, &old) {
                (Some(lines), _) => rejects.extend_from_slice(lines),
                (None, old) => rejects.extend_from_slice(old.as_ref().map_or(&[], |old| old.rejects_of(span))),
            }
            RejectsSpan { offset, ..span }
        });
        manifest.partitions.push(entry);
    }
    let rows = manifest.partitions.iter().flat_map(|entry| entry.rejects).map(|span| span.rows).sum();
    let unchanged_rejects = old.as_ref().filter(|old| old.rejects == rejects);
    manifest.rejects = match unchanged_rejects {
        Some(old) => old.manifest.rejects.clone(),
        None => writer.write_rejects(rows, &rejects)?,
    };
    manifest.counts = match (counts, old.as_ref().and_then(|old| old.manifest.counts.as_ref())) {
        (None, _) => None,
        (Some(counts), Some(named)) if blake3::hash(&counts).to_hex().as_str() == named.digest => Some(named.clone()),
        (Some(counts), _) => Some(writer.write_counts(&counts)?),
    };
    // Files that were written again are committed again, even under the same names: the folder must be synced.
    let committed = !redo.is_empty() || old.is_none_or(|old| old.manifest != manifest);
    if committed {
        writer.commit(&manifest)?;
    }
    writer.sweep(&manifest)?;
    Ok(Outcome { manifest, redone: redo, committed })
}

/// The cache as the last run left it, with the lines that a new rejects file may have to repeat.
struct OldCache {
    manifest: Manifest,
    rejects: Vec<u8>,
    /// Absent too if the file is damaged: then the days that are kept go without.
    counts: Option<Counts>,
}

impl OldCache {
    fn rejects_of(&self, span: RejectsSpan) -> &[u8] {
        &self.rejects[span.offset as usize..(span.offset + span.bytes) as usize]
    }
}

/// `None` if there is none, or if it cannot be used and the run is told to start over.
fn old_cache(dataset: &Dataset, options: &RunOptions) -> Result<Option<OldCache>, Error> {
    match read_old_cache(dataset, options) {
        Ok(old) => Ok(Some(old)),
        Err(Error::NoCache(_)) => Ok(None),
        // A new layout redoes a whole data set anyway; for some days of it the others would have to go.
        Err(Error::OtherLayout { .. }) if options.range == DateRange::ALL => Ok(None),
        Err(_) if options.force => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_old_cache(dataset: &Dataset, options: &RunOptions) -> Result<OldCache, Error> {
    let manifest = Manifest::read(&options.cache)?;
    let describe = |dataset: &str, version: u32, zone_rows: usize| {
        format!("data set {dataset:?}, layout version {version}, zones of {zone_rows} rows")
    };
    let found = describe(&manifest.dataset, manifest.layout_version, manifest.zone_rows);
    let wanted = describe(&dataset.name, LAYOUT_VERSION, options.layout.zone_rows);
    if found != wanted {
        return Err(Error::OtherLayout { path: options.cache.join(FILE_NAME), found, wanted });
    }
    let mut rejects = Vec::new();
    if let Some(file) = &manifest.rejects {
        let path = options.cache.join(&file.file);
        let bad = |reason: String| Error::BadManifest { path: options.cache.join(FILE_NAME), reason };
        rejects = fs::read(&path).map_err(|error| bad(format!("its rejects file {}: {error}", file.file)))?;
        if blake3::hash(&rejects).to_hex().as_str() != file.digest {
            return Err(bad(format!("its rejects file {} is corrupt", file.file)));
        }
    }
    let length = rejects.len() as u64;
    let inside = |span: &RejectsSpan| span.offset.checked_add(span.bytes).is_some_and(|end| end <= length);
    if !manifest.partitions.iter().flat_map(|entry| &entry.rejects).all(inside) {
        let reason = "it points beyond the end of its rejects file".to_owned();
        return Err(Error::BadManifest { path: options.cache.join(FILE_NAME), reason });
    }
    let cache = Cache::open(&options.cache).ok();
    let counts = cache.and_then(|cache| cache.counts().ok().flatten());
    Ok(OldCache { manifest, rejects, counts })
}

/// The entry, with the modification times of now, if the day need not be read again.
fn up_to_date(dataset: &Dataset, entry: &PartitionEntry, cache: &Path) -> Result<Option<PartitionEntry>, Error> {
    let files = dataset.files(entry.id.date);
    let has_file = fs::metadata(cache.join(&entry.file)).is_ok_and(|found| found.len() == entry.file_bytes);
    if !has_file || files.len() != entry.sources.len() {
        return Ok(None);
    }
    let mut entry = entry.clone();
    let mut buffer = Vec::new();
    for (file, source) in files.iter().zip(&mut entry.sources) {
        let is_outside = |refused| refused == Some(Refusal::SymlinkOutside);
        let same_place = is_outside(file.refused) == is_outside(source.refused);
        if file.path != source.path || file.bytes != source.bytes || !same_place {
            return Ok(None);
        }
        if file.modified_ns != source.modified_ns {
            if digest_of(&dataset.root, file, &mut buffer)? != source.digest {
                return Ok(None);
            }
            source.modified_ns = file.modified_ns;
        }
    }
    Ok(Some(entry))
}

/// A day that was read and whose file is on disk.
struct Built {
    entry: PartitionEntry,
    /// Its rejects as JSON Lines.
    rejects: Vec<u8>,
    /// See [`crate::counts`].
    counts: Option<Vec<u8>>,
}

fn build_all(
    dataset: &Dataset,
    options: &RunOptions,
    writer: &CacheWriter,
    dates: &[Date],
    progress: &dyn Progress,
) -> Result<Vec<Built>, Error> {
    let mut largest_first = dates.to_vec();
    largest_first.sort_by_key(|&date| std::cmp::Reverse(dataset.csv_bytes(date)));
    // Each task takes the next day rather than one given to it beforehand: rayon halves lists, which would start with
    // the largest and the middle, and end with a large one alone.
    let next = AtomicUsize::new(0);
    let built = Mutex::new(Vec::with_capacity(dates.len()));
    finishing(|finish| {
        largest_first.par_iter().with_max_len(1).try_for_each(|_| {
            let date = largest_first[next.fetch_add(1, Ordering::Relaxed)];
            let day = build(dataset, options, writer, date, progress, finish)?;
            built.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(day);
            Ok(())
        })
    })?;
    Ok(built.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

fn build(
    dataset: &Dataset,
    options: &RunOptions,
    writer: &CacheWriter,
    date: Date,
    progress: &dyn Progress,
    finish: &Finish,
) -> Result<Built, Error> {
    let parsed = parse_date_with(dataset, date, options.layout, &|bytes, rows| progress.file_done(bytes, rows))?;
    let partition = parsed.partition;
    let file = encode(&partition.batch, partition.zone_rows).map_err(|source| Error::Encode { date, source })?;
    let counts = encode_day(&partition);
    let file_digest = blake3::hash(&file).to_hex().to_string();
    let name = partition_file_name(partition.id, &file_digest);
    finish.send(writer.write(&name, &file)?);
    let mut rejects = Vec::new();
    write_lines(&parsed.rejects, &mut rejects);
    let span = RejectsSpan { offset: 0, bytes: rejects.len() as u64, rows: parsed.rejects.len() as u64 };
    let entry = PartitionEntry {
        id: partition.id,
        file: name,
        file_bytes: file.len() as u64,
        file_digest,
        rows: partition.stats.rows,
        csv_bytes: partition.csv_bytes,
        sources: parsed.sources,
        rejects: (span.rows > 0).then_some(span),
        stats: partition.stats,
    };
    Ok(Built { entry, rejects, counts })
}

fn undated(dataset: &Dataset, file: &SourceFile) -> Result<SourceEntry, Error> {
    let mut entry = SourceEntry::of(file);
    entry.digest = digest_of(&dataset.root, file, &mut Vec::new())?;
    Ok(entry)
}
