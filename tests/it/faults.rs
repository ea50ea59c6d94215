//! What can happen to the messages of one scan between two nodes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use fastrand::Rng;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use overlay::delivery::encoding::checksum;
use overlay::delivery::encoding::packed::{Packed, RowsByRun};
use overlay::engine::hop::{RemoteError, ScanStream};
use overlay::engine::message::{FailureCode, Payload, ScanMessage, ZoneAnswer};

/// One call's fate. Numbers count messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Not even the stream begins.
    Refuse,
    /// An error after so many messages.
    CutAfter(usize),
    /// An end, as if all was said, after so many.
    EndAfter(usize),
    /// This message comes twice.
    Duplicate(usize),
    /// This message comes some messages later than it should.
    Delay(usize, usize),
    /// A byte of this message is another.
    Damage(usize),
    /// A byte of every message is another.
    DamageAll,
    /// This message never comes.
    Lose(usize),
}

impl Fault {
    pub fn draw(random: &mut Rng) -> Fault {
        let at = random.usize(0..8);
        match random.u8(0..9) {
            0 => Fault::Refuse,
            1..=3 => Fault::CutAfter(at),
            4 => Fault::EndAfter(at),
            5 => Fault::Duplicate(at),
            6 => Fault::Delay(at, random.usize(1..4)),
            7 => Fault::Damage(at),
            _ => Fault::Lose(at),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Fault::None => "none",
            Fault::Refuse => "refuse",
            Fault::CutAfter(_) => "cut",
            Fault::EndAfter(_) => "end",
            Fault::Duplicate(_) => "duplicate",
            Fault::Delay(..) => "delay",
            Fault::Damage(_) | Fault::DamageAll => "damage",
            Fault::Lose(_) => "lose",
        }
    }

    pub fn breaks_the_link(self) -> bool {
        matches!(self, Fault::Refuse | Fault::CutAfter(_))
    }
}

pub fn unavailable(message: &str) -> RemoteError {
    RemoteError { code: FailureCode::Unavailable, message: message.into() }
}

/// The stream with its fault. Zones of some rows cross in parts, as large ones do.
pub fn distort(
    messages: ScanStream,
    fault: Fault,
    schema: SchemaRef,
    mut random: Rng,
) -> BoxStream<'static, Result<ScanMessage, RemoteError>> {
    let mut state = Distorted { fault, count: 0, held: None };
    let parted = messages.flat_map(move |message| stream::iter(in_parts(message, &schema, &mut random)));
    let ended = parted.map(Some).chain(stream::iter([None]));
    ended
        .scan((), move |(), message| std::future::ready(state.step(message)))
        .flat_map(stream::iter)
        .then(|message| async {
            // Lets the streams of other links in between.
            tokio::task::yield_now().await;
            message
        })
        .boxed()
}

/// A link that is cut once so many messages have crossed it, of all streams and both ways together.
pub struct Cut {
    pub left: AtomicIsize,
}

impl Cut {
    pub fn is_down(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }

    /// One message more; false if it is cut.
    fn pass(&self) -> bool {
        self.left.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

/// The stream until the link is cut.
pub fn cut_off(
    messages: BoxStream<'static, Result<ScanMessage, RemoteError>>,
    cut: Arc<Cut>,
) -> BoxStream<'static, Result<ScanMessage, RemoteError>> {
    messages
        .scan(false, move |is_over, message| {
            let next = match (*is_over, cut.pass()) {
                (true, _) => None,
                (false, true) => Some(message),
                (false, false) => Some(Err(unavailable("the link was cut"))),
            };
            *is_over = matches!(next, Some(Err(_)));
            std::future::ready(next)
        })
        .boxed()
}

struct Distorted {
    fault: Fault,
    count: usize,
    /// A message held back, and for how many more.
    held: Option<(usize, ScanMessage)>,
}

impl Distorted {
    /// What comes out when this goes in; none ends the stream.
    fn step(&mut self, message: Option<ScanMessage>) -> Option<VecDeque<Result<ScanMessage, RemoteError>>> {
        let Some(mut message) = message else {
            return Some(self.held.take().into_iter().map(|(_, message)| Ok(message)).collect());
        };
        let at = self.count;
        self.count += 1;
        let mut out = VecDeque::new();
        match self.fault {
            Fault::CutAfter(end) if at > end => return None,
            Fault::CutAfter(end) if at == end => return Some([Err(unavailable("the link was cut"))].into()),
            Fault::EndAfter(end) if at >= end => return None,
            Fault::Lose(lost) if at == lost => return Some(out),
            Fault::Delay(late, by) if at == late => {
                self.held = Some((by, message));
                return Some(out);
            }
            Fault::Duplicate(twice) if at == twice => out.push_back(Ok(message.clone())),
            Fault::Damage(damaged) if at == damaged => damage(&mut message),
            Fault::DamageAll => damage(&mut message),
            _ => {}
        }
        out.push_back(Ok(message));
        match self.held.take() {
            Some((1, message)) => out.push_back(Ok(message)),
            Some((by, message)) => self.held = Some((by - 1, message)),
            None => {}
        }
        Some(out)
    }
}

fn damage(message: &mut ScanMessage) {
    let ScanMessage::Zones(answers) = message else { return };
    for answer in answers {
        if let Payload::Packed { bytes, .. } = &mut answer.payload {
            let mut damaged = bytes.to_vec();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 1;
            *bytes = damaged.into();
        }
    }
}

/// The rows of an answer, without any check.
pub fn decoded(answer: &ZoneAnswer, schema: &SchemaRef) -> Option<RecordBatch> {
    match &answer.payload {
        Payload::None => None,
        Payload::Batch(batch) => Some(batch.clone()),
        Payload::Block { block, .. } => block.to_batch().ok(),
        Payload::Packed { bytes, .. } => Packed::open(bytes.clone(), schema).ok()?.to_batch().ok(),
    }
}

/// The message; or several, where zones that came in one block are sent one by one, some of them in two parts.
fn in_parts(message: ScanMessage, schema: &SchemaRef, random: &mut Rng) -> Vec<ScanMessage> {
    let ScanMessage::Zones(answers) = &message else { return vec![message] };
    let Some(batch) = answers.first().filter(|first| is_sound(first, answers.len())).and_then(|a| decoded(a, schema))
    else {
        return vec![message];
    };
    if random.bool() {
        return vec![message];
    }
    let mut messages = Vec::new();
    let mut at = 0;
    for answer in answers {
        let rows = answer.rows as usize;
        let cut = if rows > 1 && random.bool() { random.usize(1..rows) } else { rows };
        for (part, from, until) in [(0, at, at + cut), (1, at + cut, at + rows)] {
            if part == 0 || from < until {
                let payload = if from < until { packed(&batch.slice(from, until - from)) } else { Payload::None };
                let (last, rows) = (until == at + rows, (until - from) as u64);
                messages.push(ScanMessage::Zones(vec![ZoneAnswer { part, last, rows, payload, ..answer.clone() }]));
            }
        }
        at += rows;
    }
    messages
}

/// Whether it holds the rows of so many whole zones. What was damaged on the way here must not get a new checksum.
fn is_sound(answer: &ZoneAnswer, zones: usize) -> bool {
    let Payload::Packed { bytes, xxh3, answers } = &answer.payload else { return false };
    *xxh3 == checksum(bytes) && *answers as usize == zones && answer.part == 0 && answer.last
}

fn packed(rows: &RecordBatch) -> Payload {
    let bytes = RowsByRun::of_batch(rows).pack().expect("it was packed before");
    Payload::Packed { xxh3: checksum(&bytes), bytes: bytes.into(), answers: 1 }
}
