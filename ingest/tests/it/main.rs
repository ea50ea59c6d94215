//! Ingest seen from outside: as a library, as a program, and on the real data.

mod caches;
mod generate;
mod oracle;
mod process;
mod real;
mod rejects;
mod tree;
