//! Lets each (partition, zone) of a leaf into the answer once, whole.
//!
//! The argument for exactly once: a zone's rows are released in one step, when its last part is there, and the zone
//! is marked in the same step; a zone that is marked is never released again, whoever sends it and however often; and
//! a partition counts as answered only when every one of its zones is marked and the rows counted while scanning are
//! the rows that the manifest names. So rows can neither be doubled by retries, replicas or cycles, nor lost without
//! the partition staying open.
//!
//! It decides nothing about whom to ask; see [`super::reader`].

use std::collections::BTreeMap;

use overlay_ingest::PartitionId;

use super::message::{How, ZoneAnswer};
use crate::delivery::Arrived;

/// A reply that cannot be right: whatever the cause, the answer must not be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("{node} answered for partition {answered}, which was not asked of this leaf")]
    WrongPartition { node: String, answered: PartitionId },
    #[error("{node} was asked for partition {asked} and scanned {answered}")]
    Swapped { node: String, asked: PartitionId, answered: PartitionId },
    #[error("{node} says partition {partition} has {zones} zones and sent zone {zone}")]
    NoSuchZone { node: String, partition: PartitionId, zone: u32, zones: u32 },
    #[error("{node} says partition {partition} has {said} zones, before it was {known}")]
    ZoneCount { node: String, partition: PartitionId, said: u32, known: u32 },
    #[error("{node} sent zone {zone} of partition {partition} twice for one request")]
    Repeated { node: String, partition: PartitionId, zone: u32 },
    #[error("partition {partition}: {counted} rows were scanned, the manifest names {named}")]
    RowCount { partition: PartitionId, counted: u64, named: u64 },
}

/// What to do with one answer, before its rows are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Decode it and offer it.
    Wanted,
    /// Accepted before, from somebody else: drop it.
    Known,
}

#[derive(Debug, Default)]
struct Progress {
    /// From the manifest; `None` while nobody has counted.
    rows_named: Option<u64>,
    /// Per zone: rows scanned, and by which request. Empty until the first answer says how many zones there are.
    zones: Vec<Option<Accepted>>,
    open: usize,
    rows_scanned: u64,
    how: Option<How>,
    /// Accepted rows that wait for the rest of the partition.
    held: Vec<Arrived>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Accepted {
    node: crate::routing::NodeId,
    attempt: u32,
}

#[derive(Debug)]
struct Parts {
    attempt: u32,
    next: u32,
    rows: Vec<Arrived>,
    row_count: u64,
}

/// A zone that arrived cut by a limit, held aside until enough other rows are there.
#[derive(Debug)]
struct Cut {
    answer: ZoneAnswer,
    rows: Vec<Arrived>,
    attempt: u32,
}

/// The state of one execution of one leaf.
#[derive(Debug)]
pub struct Acceptance {
    limit: Option<u64>,
    /// Rows are released a whole partition at a time, or when the limit is reached: where a partition may be reported
    /// as missing, none of its rows may have gone out before.
    whole_partitions: bool,
    accepted_rows: u64,
    accepted_zones: u64,
    partitions: BTreeMap<PartitionId, Progress>,
    /// Zones of which not all parts are there, by zone and sender.
    parts: BTreeMap<(PartitionId, u32, crate::routing::NodeId), Parts>,
    cut: Vec<Cut>,
}

impl Acceptance {
    /// Expects every zone of these partitions; the rows are those of the manifest, where known.
    /// With `whole_partitions`, rows of a partition go out together or not at all.
    pub fn new(
        partitions: impl IntoIterator<Item = (PartitionId, Option<u64>)>,
        limit: Option<u64>,
        whole_partitions: bool,
    ) -> Acceptance {
        let progress = |rows_named| Progress { rows_named, ..Progress::default() };
        Acceptance {
            limit,
            whole_partitions,
            accepted_rows: 0,
            accepted_zones: 0,
            partitions: partitions.into_iter().map(|(id, rows)| (id, progress(rows))).collect(),
            parts: BTreeMap::new(),
            cut: Vec::new(),
        }
    }

    /// Rows released so far.
    pub fn accepted_rows(&self) -> u64 {
        self.accepted_rows
    }

    /// Zones accepted so far, with and without rows.
    pub fn accepted_zones(&self) -> u64 {
        self.accepted_zones
    }

    /// Rows that may still be released, or `None` without a limit.
    pub fn rows_left(&self) -> Option<u64> {
        self.limit.map(|limit| limit - self.accepted_rows.min(limit))
    }

    /// Whether the limit is reached by released rows.
    pub fn satisfied(&self) -> bool {
        self.rows_left() == Some(0)
    }

    /// Looks at an answer's header.
    pub fn interest(&self, answer: &ZoneAnswer, attempt: u32) -> Result<Interest, Violation> {
        let node = || answer.node.to_string();
        let partition = answer.partition;
        let Some(progress) = self.partitions.get(&partition) else {
            return Err(Violation::WrongPartition { node: node(), answered: partition });
        };
        if answer.asked != partition {
            return Err(Violation::Swapped { node: node(), asked: answer.asked, answered: partition });
        }
        let (zone, zones) = (answer.zone, answer.zone_count);
        if zone >= zones {
            return Err(Violation::NoSuchZone { node: node(), partition, zone, zones });
        }
        if !progress.zones.is_empty() && progress.zones.len() != zones as usize {
            let known = progress.zones.len() as u32;
            return Err(Violation::ZoneCount { node: node(), partition, said: zones, known });
        }
        match progress.zones.get(zone as usize).and_then(Option::as_ref) {
            None => Ok(Interest::Wanted),
            Some(accepted) if accepted.attempt == attempt && accepted.node == answer.node => {
                Err(Violation::Repeated { node: node(), partition, zone })
            }
            Some(_) => Ok(Interest::Known),
        }
    }

    /// Takes an answer whose rows were decoded; gives the batches that are released by it, in order.
    pub fn offer(
        &mut self,
        answer: ZoneAnswer,
        rows: Option<Arrived>,
        attempt: u32,
    ) -> Result<Vec<Arrived>, Violation> {
        if self.interest(&answer, attempt)? == Interest::Known {
            return Ok(Vec::new());
        }
        let Some((answer, rows)) = self.complete(answer, rows, attempt) else { return Ok(Vec::new()) };
        if answer.cut && !self.fills_limit(&answer) {
            self.cut.push(Cut { answer, rows, attempt });
            return Ok(Vec::new());
        }
        let mut released = self.accept(&answer, rows, attempt)?;
        while let Some(index) = self.cut.iter().position(|cut| self.fills_limit(&cut.answer)) {
            let cut = self.cut.swap_remove(index);
            if self.interest(&cut.answer, cut.attempt)? == Interest::Wanted {
                released.extend(self.accept(&cut.answer, cut.rows, cut.attempt)?);
            }
        }
        if self.satisfied() {
            // Nothing will be missing any more.
            released.extend(self.partitions.values_mut().flat_map(|progress| std::mem::take(&mut progress.held)));
        }
        Ok(released)
    }

    /// Ends a request: parts without a last part and cut zones that did not fill the limit count as unanswered.
    pub fn end_attempt(&mut self) {
        self.parts.clear();
        self.cut.clear();
    }

    /// Every zone that is still wanted; an empty list means the whole partition.
    pub fn missing(&self) -> BTreeMap<PartitionId, Vec<u32>> {
        let open = |progress: &Progress| {
            let open = progress.zones.iter().enumerate().filter(|(_, zone)| zone.is_none());
            open.map(|(index, _)| index as u32).collect::<Vec<_>>()
        };
        self.partitions
            .iter()
            .filter(|(_, progress)| progress.zones.is_empty() || progress.open > 0)
            .map(|(id, progress)| {
                (*id, if progress.open == progress.zones.len() { Vec::new() } else { open(progress) })
            })
            .collect()
    }

    /// The partitions of which every zone was accepted: rows counted while scanning, and how.
    pub fn answered(&self) -> impl Iterator<Item = (PartitionId, u64, How)> + '_ {
        self.partitions
            .iter()
            .filter(|(_, progress)| !progress.zones.is_empty() && progress.open == 0)
            .map(|(id, progress)| (*id, progress.rows_scanned, progress.how.unwrap_or(How::ZoneMap)))
    }

    fn fills_limit(&self, answer: &ZoneAnswer) -> bool {
        self.limit.is_some_and(|limit| self.accepted_rows + answer.rows >= limit)
    }

    /// The zone with all its parts, once the last is there.
    fn complete(
        &mut self,
        mut answer: ZoneAnswer,
        rows: Option<Arrived>,
        attempt: u32,
    ) -> Option<(ZoneAnswer, Vec<Arrived>)> {
        if answer.part == 0 && answer.last {
            return Some((answer, rows.into_iter().collect()));
        }
        let key = (answer.partition, answer.zone, answer.node.clone());
        if answer.part == 0 {
            self.parts.insert(key.clone(), Parts { attempt, next: 0, rows: Vec::new(), row_count: 0 });
        }
        let parts = self.parts.get_mut(&key)?;
        if parts.attempt != attempt || parts.next != answer.part {
            // A part is lost or out of turn: the zone stays open and is asked for again.
            self.parts.remove(&key);
            return None;
        }
        parts.next += 1;
        parts.row_count += answer.rows;
        parts.rows.extend(rows);
        if !answer.last {
            return None;
        }
        let parts = self.parts.remove(&key)?;
        answer.rows = parts.row_count;
        Some((answer, parts.rows))
    }

    fn accept(&mut self, answer: &ZoneAnswer, rows: Vec<Arrived>, attempt: u32) -> Result<Vec<Arrived>, Violation> {
        let left = self.rows_left();
        let Some(progress) = self.partitions.get_mut(&answer.partition) else { return Ok(Vec::new()) };
        if progress.zones.is_empty() {
            progress.zones = vec![None; answer.zone_count as usize];
            progress.open = progress.zones.len();
        }
        progress.zones[answer.zone as usize] = Some(Accepted { node: answer.node.clone(), attempt });
        progress.open -= 1;
        self.accepted_zones += 1;
        progress.rows_scanned += answer.rows_scanned;
        progress.how = Some(progress.how.map_or(answer.how, |how| how.min(answer.how)));
        if progress.open == 0
            && let Some(named) = progress.rows_named
            && named != progress.rows_scanned
        {
            let counted = progress.rows_scanned;
            return Err(Violation::RowCount { partition: answer.partition, counted, named });
        }
        let wanted = left.map_or(answer.rows, |left| left.min(answer.rows));
        self.accepted_rows += wanted;
        let rows = first_rows(rows, wanted as usize);
        if !self.whole_partitions {
            return Ok(rows);
        }
        progress.held.extend(rows);
        Ok(if progress.open == 0 { std::mem::take(&mut progress.held) } else { Vec::new() })
    }
}

fn first_rows(batches: Vec<Arrived>, mut wanted: usize) -> Vec<Arrived> {
    let mut released = Vec::with_capacity(batches.len());
    for arrived in batches {
        let rows = wanted.min(arrived.rows());
        if rows == 0 {
            break;
        }
        wanted -= rows;
        released.push(arrived.slice(0, rows));
    }
    released
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::message::Payload;
    use super::*;

    fn id(day: u8) -> PartitionId {
        PartitionId { date: overlay_ingest::Date::new(2020, 8, day).unwrap(), digest: day.into() }
    }

    fn zone(day: u8, zone: u32, rows: u64) -> (ZoneAnswer, Option<Arrived>) {
        let answer = ZoneAnswer {
            asked: id(day),
            partition: id(day),
            zone,
            zone_count: 2,
            part: 0,
            last: true,
            rows,
            rows_scanned: 10,
            bytes_scanned: 0,
            cpu: std::time::Duration::ZERO,
            how: How::Scanned,
            cut: false,
            node: "B".into(),
            payload: Payload::None,
        };
        let values = Int64Array::from_iter_values((0..rows as i64).map(|row| i64::from(day) * 1000 + row));
        let schema = Arc::new(Schema::new(vec![Field::new("row", DataType::Int64, false)]));
        (answer, Some(RecordBatch::try_new(schema, vec![Arc::new(values)]).unwrap().into()))
    }

    fn rows(released: &[Arrived]) -> usize {
        released.iter().map(Arrived::rows).sum()
    }

    #[test]
    fn a_zone_is_released_once_whoever_sends_it() {
        let mut acceptance = Acceptance::new([(id(1), Some(20))], None, false);
        let (answer, batch) = zone(1, 0, 4);
        assert_eq!(rows(&acceptance.offer(answer.clone(), batch.clone(), 0).unwrap()), 4);
        let other = ZoneAnswer { node: "C".into(), ..answer.clone() };
        assert_eq!(rows(&acceptance.offer(other, batch.clone(), 0).unwrap()), 0);
        assert_eq!(rows(&acceptance.offer(answer.clone(), batch.clone(), 1).unwrap()), 0);
        assert_eq!(acceptance.missing(), BTreeMap::from([(id(1), vec![1])]));
        assert!(matches!(acceptance.offer(answer, batch, 0), Err(Violation::Repeated { .. })));
    }

    #[test]
    fn a_partition_is_answered_when_its_rows_are_those_of_the_manifest() {
        for (named, fits) in [(Some(20), true), (None, true), (Some(21), false), (Some(10), false)] {
            let mut acceptance = Acceptance::new([(id(1), named)], None, false);
            let (first, batch) = zone(1, 0, 0);
            acceptance.offer(first, batch, 0).unwrap();
            let (second, batch) = zone(1, 1, 3);
            let end = acceptance.offer(second, batch, 0);
            assert_eq!(end.is_ok(), fits, "{named:?}: {end:?}");
            if fits {
                assert!(acceptance.missing().is_empty());
                assert_eq!(acceptance.answered().collect::<Vec<_>>(), [(id(1), 20, How::Scanned)]);
            }
        }
    }

    #[test]
    fn a_partition_that_was_not_asked_for_is_refused() {
        let mut acceptance = Acceptance::new([(id(1), None)], None, false);
        let (answer, batch) = zone(2, 0, 1);
        assert!(matches!(acceptance.offer(answer, batch, 0), Err(Violation::WrongPartition { .. })));
        let (answer, batch) = zone(1, 0, 1);
        let swapped = ZoneAnswer { asked: id(2), ..answer };
        assert!(matches!(acceptance.offer(swapped, batch, 0), Err(Violation::Swapped { .. })));
        let (mut answer, batch) = zone(1, 2, 1);
        assert!(matches!(acceptance.offer(answer.clone(), batch.clone(), 0), Err(Violation::NoSuchZone { .. })));
        answer.zone = 0;
        acceptance.offer(answer.clone(), batch.clone(), 0).unwrap();
        answer.zone_count = 3;
        assert!(matches!(acceptance.offer(answer, batch, 0), Err(Violation::ZoneCount { .. })));
    }

    #[test]
    fn parts_wait_for_the_last_and_a_lost_part_leaves_the_zone_open() {
        let mut acceptance = Acceptance::new([(id(1), None)], None, false);
        let part = |part, last| {
            let (mut answer, batch) = zone(1, 0, 2);
            (answer.part, answer.last) = (part, last);
            (answer, batch)
        };
        let (answer, batch) = part(0, false);
        assert_eq!(rows(&acceptance.offer(answer, batch, 0).unwrap()), 0);
        let (answer, batch) = part(2, true);
        assert_eq!(rows(&acceptance.offer(answer, batch, 0).unwrap()), 0, "part 1 is missing");
        for (number, last, released) in [(0, false, 0), (1, false, 0), (2, true, 6)] {
            let (answer, batch) = part(number, last);
            assert_eq!(rows(&acceptance.offer(answer, batch, 1).unwrap()), released);
        }
        assert_eq!(acceptance.accepted_rows(), 6);
    }

    #[test]
    fn a_cut_zone_counts_only_when_it_fills_the_limit() {
        let mut acceptance = Acceptance::new([(id(1), None), (id(2), None)], Some(6), false);
        let (mut cut, batch) = zone(1, 0, 4);
        cut.cut = true;
        assert_eq!(rows(&acceptance.offer(cut, batch, 0).unwrap()), 0);
        let (whole, batch) = zone(2, 0, 3);
        assert_eq!(rows(&acceptance.offer(whole, batch, 0).unwrap()), 6, "3, then 3 of the 4 held aside");
        assert!(acceptance.satisfied());

        let mut acceptance = Acceptance::new([(id(1), None)], Some(6), false);
        let (mut cut, batch) = zone(1, 0, 4);
        cut.cut = true;
        acceptance.offer(cut, batch, 0).unwrap();
        acceptance.end_attempt();
        assert_eq!(acceptance.missing(), BTreeMap::from([(id(1), vec![])]));
        assert_eq!(acceptance.accepted_rows(), 0);
    }

    #[test]
    fn where_gaps_are_allowed_a_partition_goes_out_whole_or_not_at_all() {
        let mut acceptance = Acceptance::new([(id(1), None), (id(2), None)], None, true);
        for (zone_index, released) in [(1, 0), (0, 7)] {
            let (mut answer, batch) = zone(1, zone_index, 3 + u64::from(zone_index));
            answer.zone = zone_index;
            assert_eq!(rows(&acceptance.offer(answer, batch, 0).unwrap()), released);
        }
        let (half, batch) = zone(2, 0, 5);
        assert_eq!(rows(&acceptance.offer(half, batch, 0).unwrap()), 0, "the other half may stay missing");

        let mut acceptance = Acceptance::new([(id(1), None), (id(2), None)], Some(6), true);
        let (half, batch) = zone(1, 0, 4);
        assert_eq!(rows(&acceptance.offer(half, batch, 0).unwrap()), 0);
        let (half, batch) = zone(2, 0, 4);
        assert_eq!(rows(&acceptance.offer(half, batch, 0).unwrap()), 6, "the limit is reached: nothing else is needed");
    }
}
