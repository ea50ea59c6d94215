//! The program `overlay`; see [`overlay::cli`].

/// Scans allocate and free megabytes per query. The system's allocator hands them back and has them faulted in again by
/// the next query, which costs more than the copying itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    overlay::cli::run()
}
