//! The program `overlay`, process by process, on a small generated data set: what it prints where, how it ends, and
//! what it does when processes die, stop, or find other files than they expect.

mod answers;
mod bench;
mod caches;
mod demo;
mod doctor;
mod faults;
mod leader_killed;
mod lifecycle;
mod load;
mod logs;
mod refusals;
mod unread;
