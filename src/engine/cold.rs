//! Counts the rows of a range straight from a cache on disk, where nothing is loaded.
//!
//! The manifest's statistics rule partitions out, and the counts that the cache keeps answer for the others, so that no
//! partition is opened. Of a day without counts the columns that are asked about are read, and counted as a scan would.

use std::path::Path;
use std::sync::Arc;

use overlay_ingest::{Cache, Error, PartitionEntry, observations};
use rayon::prelude::*;

use super::conjunction::{Conjunction, Term, order_key};
use super::filter::RangeFilter;
use super::store::Zone;
use super::typed_zones::{TypedZones, Verdict};
use super::zone_rows::ZoneRows;

/// The number of rows with the filter's parameter and a concentration in its range; other conditions are not looked
/// at. Fails like [`Cache::open`] and [`Cache::open_partition`].
pub fn count_in_cache(cache: &Path, filter: &RangeFilter) -> Result<u64, Error> {
    let cache = Cache::open(cache)?;
    let kept = cache.counts()?;
    let wanted = filter.parameter.as_ref().map(|parameter| parameter.to_lowercase());
    let is_wanted = |parameter: &str| wanted.as_ref().is_none_or(|wanted| parameter.to_lowercase() == *wanted);
    let range = filter.min.is_some() || filter.max.is_some();
    let mut rows = 0;
    let mut unknown = Vec::new();
    for entry in &cache.manifest().partitions {
        // Without a range rows count that have no concentration.
        let day = kept.as_ref().filter(|_| range).and_then(|kept| kept.day(&entry.id));
        let (min, max) = (filter.min.unwrap_or(f64::NEG_INFINITY), filter.max.unwrap_or(f64::INFINITY));
        match day.and_then(|day| day.rows(is_wanted, min, max)) {
            Some(counted) => rows += counted,
            None => unknown.push(entry),
        }
    }
    // Without a day to be loaded no thread is started: starting one takes longer than all the rest.
    let scanned: u64 = match unknown.as_slice() {
        [] => 0,
        unknown => unknown.par_iter().map(|entry| count_in_partition(&cache, entry, filter)).sum::<Result<_, _>>()?,
    };
    Ok(rows + scanned)
}

fn count_in_partition(cache: &Cache, entry: &PartitionEntry, filter: &RangeFilter) -> Result<u64, Error> {
    let schema = observations();
    let column = |name: &str| schema.index_of(name).expect("observations have this column");
    let mut conjunction = Conjunction::default();
    if filter.min.is_some() || filter.max.is_some() {
        let (low, high) = (filter.min.map_or(i64::MIN, order_key), filter.max.map_or(i64::MAX, order_key));
        conjunction.insert_number(column("concentration"), low, high);
    }
    if let (Some(wanted), Some(names)) = (&filter.parameter, &entry.stats.parameters) {
        let wanted = wanted.to_lowercase();
        let spellings = names.iter().filter(|name| name.to_lowercase() == wanted);
        conjunction.insert_text(column("parameter"), spellings.cloned().collect());
    }
    if !conjunction.may_match(&entry.stats, &schema) {
        return Ok(0);
    }
    // Only what is asked about is read, of all zones together.
    let file = cache.open_partition(entry)?;
    let zones: Vec<usize> = (0..file.zone_count()).collect();
    let mut columns: Vec<usize> = conjunction.terms.iter().map(Term::column).collect();
    columns.sort_unstable();
    let piece = file.read(&zones, &columns)?;
    let mut by_column = vec![None; schema.fields().len()];
    for (column, values) in columns.iter().zip(piece.batch.columns()) {
        by_column[*column] = Some(Arc::clone(values));
    }
    let rows = ZoneRows::of_columns(&schema, by_column, piece.batch.num_rows());
    let zone = [Zone { partition: entry.id, index: 0, rows }];
    let typed = TypedZones::of(&zone);
    let counted = typed.resolve(&conjunction).and_then(|terms| match terms.verdict(0) {
        Verdict::NoRow => Some(0),
        Verdict::EveryRow => Some(zone[0].rows.len() as u64),
        Verdict::Open(open) => terms.count_by_comparing(&zone[0].rows, &open),
    });
    counted.ok_or_else(|| Error::CorruptPartition {
        path: entry.file.clone().into(),
        reason: "its parameters are not in the order of partitions".to_owned(),
    })
}
