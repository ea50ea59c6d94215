//! How to go on: commands as this user, who started this program in this way, can type them.

use std::env;
use std::path::Path;

/// A longer line is broken, where the shell knows how.
const LINE_CHARS_MAX: usize = 76;

/// How the program was started.
pub struct Typed {
    program: String,
}

impl Typed {
    /// To be asked before the current folder changes.
    pub fn now() -> Typed {
        let exe = env::current_exe().unwrap_or_default();
        let typed = env::args().next().unwrap_or_else(|| "overlay".to_owned());
        // `cargo run` tells the program its manifest's folder, and starts it from the target folder.
        let by_cargo = env::var_os("CARGO").is_some() && env::var_os("CARGO_MANIFEST_DIR").is_some();
        let profile = exe.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        Typed { program: program(by_cargo, profile, &typed) }
    }

    /// A command of this program as one line.
    pub fn line(&self, arguments: &[&str]) -> String {
        [&[self.program.as_str()][..], arguments].concat().join(" ")
    }

    /// What can be done with a demo that was kept, each with a word of what it is.
    pub fn commands(&self, folder: &Path, query: &[&str]) -> Vec<(&'static str, String)> {
        let config = quoted(&folder.join("overlay.json").display().to_string());
        let with_config = |command: &[&str]| self.broken(&["--config", &config], command);
        vec![
            ("ask", with_config(query)),
            ("ask in SQL", with_config(&["sql", "\"SELECT count(*) AS readings FROM observations\""])),
            ("look", with_config(&["status"])),
            ("end it, and remove its folder", with_config(&["down"])),
            ("", format!("rm -r {}\n", quoted(&folder.display().to_string()))),
        ]
    }

    fn broken(&self, common: &[&str], command: &[&str]) -> String {
        let line = self.line(&[common, command].concat());
        if line.chars().count() <= LINE_CHARS_MAX || cfg!(windows) {
            return format!("{line}\n");
        }
        format!("{} \\\n  {}\n", self.line(common), command.join(" "))
    }
}

fn program(by_cargo: bool, profile: Option<&str>, typed: &str) -> String {
    match (by_cargo, profile) {
        (true, Some("release")) => "cargo run --release --".to_owned(),
        (true, Some("debug")) => "cargo run --".to_owned(),
        _ => quoted(typed),
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:\\".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_called_as_it_was_started() {
        for (by_cargo, profile, typed, program_line) in [
            (true, "release", "target/release/overlay", "cargo run --release --"),
            (true, "debug", "target/debug/overlay", "cargo run --"),
            (true, "dist", "target/dist/overlay", "target/dist/overlay"),
            (false, "release", "overlay", "overlay"),
            (false, "bin", "/my programs/overlay", "'/my programs/overlay'"),
        ] {
            assert_eq!(program(by_cargo, Some(profile), typed), program_line);
        }
    }

    #[test]
    fn long_lines_are_broken_as_a_shell_takes_them() {
        let typed = Typed { program: "overlay".to_owned() };
        let folder = Path::new("/tmp/overlay-demo-x");
        let commands = typed.commands(folder, &["query", "CO"]);
        assert_eq!(commands[0].1, "overlay --config /tmp/overlay-demo-x/overlay.json query CO\n");
        let broken = "overlay --config /tmp/overlay-demo-x/overlay.json \\\n  sql \"SELECT count(*) AS readings FROM observations\"\n";
        assert_eq!(commands[1].1, broken);
        assert_eq!(commands[4].1, "rm -r /tmp/overlay-demo-x\n");
    }
}
