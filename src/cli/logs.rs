//! `overlay logs ID`: the log of any node, asked at the node itself; of a node that does not run, its file.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;

use super::arguments::{Common, LogsArgs, OverrideArgs};
use super::error::{CliError, Exit};
use super::spawn;
use super::target::{self, Target};
use crate::client::Client;
use crate::failure::{Failure, FailureKind};
use crate::node::log::{self, LogReader};
use crate::node::os;
use crate::routing::NodeId;
use crate::transport::services::LogsAsked;

/// How long the first answer may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Shows the last lines, and with `-f` what follows.
pub fn run(common: &Common, arguments: &LogsArgs) -> Result<Exit, CliError> {
    let target = Target::read(common, &OverrideArgs::default())?;
    let id = target.process(&arguments.id)?;
    let runtime = target::runtime()?;
    runtime.block_on(async {
        tokio::select! {
            shown = show(&target, &id, arguments) => shown,
            _ = os::asked_to_end() => Ok(Exit::INTERRUPTED),
        }
    })
}

async fn show(target: &Target, id: &NodeId, arguments: &LogsArgs) -> Result<Exit, CliError> {
    // Without an address it does not run here, and nothing says that it runs elsewhere.
    let Ok(address) = target.address(id) else { return show_file(target, id, arguments) };
    let client = Client::new(&address);
    let asked = LogsAsked { node: id.clone(), lines: arguments.lines, follow: arguments.follow };
    let mut lines = match client.node().logs(asked, LOOK_TIMEOUT).await {
        Ok(lines) => lines,
        Err(failure) if is_unreachable(&failure) => return show_file(target, id, arguments),
        Err(failure) => return Err(CliError::from_failure(&failure, &address)),
    };
    while let Some(next) = lines.next().await {
        match next {
            Ok(next) if print(&next) => {}
            // Whoever read it has seen enough.
            Ok(_) => return Ok(Exit::OK),
            Err(failure) if is_unreachable(&failure) => {
                return Err(CliError::caused(Exit::UNREACHABLE, format!("{id} at {address} went away"), &failure)
                    .hint(format!("see what it wrote last with `overlay logs {id}` on its host")));
            }
            Err(failure) => return Err(CliError::from_failure(&failure, &address)),
        }
    }
    if arguments.follow {
        eprintln!("{id} ended");
    }
    Ok(Exit::OK)
}

/// A node that cannot be reached says nothing; whether its file is here depends on where it belongs.
fn show_file(target: &Target, id: &NodeId, arguments: &LogsArgs) -> Result<Exit, CliError> {
    let host = target.config.process(id).map(|process| process.host.clone()).unwrap_or_default();
    if !spawn::local_ids(target).contains(id) {
        return Err(CliError::new(Exit::UNREACHABLE, format!("{id} on {host} cannot be reached"))
            .hint(format!("look there: `overlay logs {id}` on {host}, or here: `overlay doctor`")));
    }
    let path = log::path_of(id);
    let mut reader = LogReader::open(&path, arguments.lines).map_err(|error| {
        CliError::caused(Exit::UNREACHABLE, format!("{id} does not run, and there is no {}", path.display()), &error)
            .hint(format!("start it with `overlay up --only {id}`; logs are in the folder where that is typed"))
    })?;
    let unreadable = |error: io::Error| unreadable(&path, &error);
    loop {
        let next = reader.next_lines().map_err(unreadable)?;
        if next.is_empty() || !print(&next) {
            break;
        }
    }
    print(&Vec::from_iter(reader.rest()));
    eprintln!("{id} does not run; this is what it wrote last to {}", path.display());
    Ok(Exit::OK)
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::caused(Exit::FAILED, format!("{} cannot be read", path.display()), error)
}

fn is_unreachable(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Unavailable | FailureKind::DeadlineExceeded)
        && matches!(failure.reason.as_str(), "" | "TIMEOUT")
}

/// To stdout; false if nobody reads any more.
fn print(lines: &[String]) -> bool {
    let mut out = io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{}", harmless(line))).and_then(|()| out.flush()).is_ok()
}

/// The line without anything that a terminal obeys: a log may quote what strangers sent.
fn harmless(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for letter in line.chars() {
        // The second kind turns the direction of what follows.
        let is_obeyed = (letter.is_control() && letter != '\t')
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if is_obeyed { text.extend(letter.escape_default()) } else { text.push(letter) }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_line_reaches_the_terminal_as_a_command() {
        for (line, shown) in [
            ("plain é … 日\tx", "plain é … 日\tx"),
            ("\x1b[2Jgone\x07", "\\u{1b}[2Jgone\\u{7}"),
            ("a\rb\u{9b}31m", "a\\rb\\u{9b}31m"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
        ] {
            assert_eq!(harmless(line), shown);
        }
    }
}
