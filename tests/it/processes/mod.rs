//! The program `overlay`, process by process, on a small generated data set: what it prints where, how it ends, and
//! what it does when processes die, stop, or find other files than they expect.

mod answers;
mod caches;
mod doctor;
mod faults;
mod lifecycle;
mod load;
mod logs;
mod refusals;
