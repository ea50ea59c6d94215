//! What nobody would send on purpose: damaged configurations, arguments that make no sense, bytes that are no message,
//! messages whose values are absurd. Each is refused with a reason, no process ends or panics, and afterwards the
//! answers are right.
//!
//! Everything random is drawn from a seed that is printed; `OVERLAY_SEED=n` replays it.

mod absurd;
mod arguments;
mod bytes;
mod configs;
mod protobuf;
mod raw;

use std::fs;

use fastrand::Rng;

use crate::csv_text::{self, assert_same};
use crate::program::{Place, Process, eventually};

fn seeded() -> Rng {
    let seed = std::env::var("OVERLAY_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("replay with OVERLAY_SEED={seed}");
    Rng::with_seed(seed)
}

/// Bytes with one to three changes: some cut out, doubled, replaced, put in, or all after a place cut off.
fn mutated(random: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..=3) {
        let at = random.usize(0..=bytes.len());
        let end = (at + random.usize(0..20)).min(bytes.len());
        match random.u8(0..6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            2 => bytes[at..end].iter_mut().for_each(|byte| *byte = random.u8(..)),
            3 => {
                let new: Vec<u8> = (0..random.usize(1..20)).map(|_| random.u8(..)).collect();
                bytes.splice(at..at, new);
            }
            4 => {
                bytes[at..end].iter_mut().for_each(|byte| *byte = *random.choice(b"\0\"{}[],:-9e.\xff").expect("some"))
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// An overlay of processes that is about to be told rubbish.
struct Sound {
    place: Place,
    up: Process,
    pids: Vec<u32>,
}

const NODES: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

impl Sound {
    fn start() -> Sound {
        let place = Place::with_data("one_host.json");
        let up = place.up(&[]);
        let pids = NODES.map(|id| place.pid(id)).to_vec();
        Sound { place, up, pids }
    }

    /// The same processes run, none of them panicked, and what they answer is right.
    #[track_caller]
    fn check(&self) {
        self.place.check_ready();
        let expected = csv_text::select(&self.place.data_set(), |_| true);
        // Until everybody has taken back what was said in its name there may be no answer, but never a wrong one.
        let answer = eventually("an answer", || {
            let asked = self.place.run(&["query", "--format", "csv"]);
            if asked.code != Some(0) {
                asked.check(1, &["A was started again since this was ordered"]);
            }
            (asked.code == Some(0)).then_some(asked)
        });
        assert_same(&csv_text::answer(&answer.text()), &expected, "afterwards");
        assert_eq!(NODES.map(|id| self.place.pid(id)).to_vec(), self.pids, "nobody was started again");
        assert_eq!(self.place.running(), NODES);
        for log in fs::read_dir(self.place.path("logs")).expect("a folder of logs") {
            let path = log.expect("a log").path();
            let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
            let panic = text.lines().find(|line| line.contains("panicked at"));
            assert!(panic.is_none(), "{}: {panic:?}\n{text}", path.display());
        }
    }

    fn end(self) {
        self.up.terminate().check(0, &[]);
    }
}
