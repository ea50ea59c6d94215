//! The program `overlay`; see [`overlay::cli`].

fn main() -> std::process::ExitCode {
    overlay::cli::run()
}
