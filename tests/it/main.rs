//! The one integration binary: questions put to whole nodes in this process, to the engine across a graph of them, and
//! to the programs as they are installed, with answers computed from the CSV text.

mod adopted;
mod answers;
mod asking;
mod cancel;
mod change_over;
mod chunks;
mod cluster;
mod coverage;
mod csv_text;
mod exactly_once;
mod failures;
mod fairness;
mod faults;
mod half_read;
mod imports;
mod leader_restart;
mod live_load;
mod oracle;
#[cfg(unix)]
mod planning;
mod processes;
#[cfg(unix)]
mod program;
#[cfg(unix)]
mod real_data;
mod refusals;
mod rows;
#[cfg(unix)]
mod rubbish;
mod scan_paths;
mod spool;
mod sql;
mod trace;
mod world;
