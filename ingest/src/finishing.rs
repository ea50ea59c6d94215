//! Waiting for the disk on threads of its own, while others compute.
//!
//! A sync takes a millisecond or a hundred, and nothing of it is work. Several at once let the file system write its
//! journal once for all of them. Invariant: when [`finishing`] ends well, every file that was sent is on disk under its
//! name.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::cache_writer::Written;
use crate::error::Error;

/// Threads that wait for the disk.
const WAITING_MAX: usize = 4;

/// Files, still open, that may wait for one of the threads. Beyond that the sender waits.
const SENT_MAX: usize = 16;

/// Where files go once they are written.
pub(crate) struct Finish(SyncSender<Written>);

impl Finish {
    pub(crate) fn send(&self, file: Written) {
        self.0.send(file).expect("the receiver outlives the work that sends");
    }
}

/// Runs `work` and finishes the files that it sends. The first error is given: that of `work`, else that of a file.
pub(crate) fn finishing(work: impl FnOnce(&Finish) -> Result<(), Error>) -> Result<(), Error> {
    let (sender, receiver) = sync_channel(SENT_MAX);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| scope.spawn(|| finish_all(&receiver))).collect();
        // The sender goes with the work, and without a sender the threads end.
        let worked = work(&Finish(sender));
        let finished = waiting.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        worked.and(finished.fold(Ok(()), Result::and))
    })
}

fn finish_all(receiver: &Mutex<Receiver<Written>>) -> Result<(), Error> {
    let mut finished = Ok(());
    loop {
        let file = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(file) = file else { return finished };
        // One that fails fails the run, but the sender must not be left waiting.
        finished = finished.and(file.finish());
    }
}
