//! How the demo looks: numbered acts, a margin, lines of at most 80 columns, colour only where a terminal takes it.

use std::env;
use std::io::{self, IsTerminal, Write};

use super::picture::DEAD;

/// Columns of a line, margin included.
const WIDTH: usize = 79;
const MARGIN: &str = "   ";
/// Columns of a fact's name.
const NAME_WIDTH: usize = 12;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    /// Headings, and what is typed.
    Strong,
    /// Explanations and names.
    Quiet,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Strong => "\x1b[1m",
            Style::Quiet => "\x1b[2m",
            Style::Bad => "\x1b[31m",
        }
    }
}

/// Where the demo is shown.
pub struct Stage {
    out: io::Stdout,
    colour: bool,
    acts: u32,
}

impl Stage {
    pub fn stdout() -> Stage {
        let out = io::stdout();
        // https://no-color.org: set and not empty means no colour.
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = out.is_terminal() && !refused && !dumb;
        Stage { out, colour, acts: 0 }
    }

    fn line(&mut self, style: Style, text: &str) -> io::Result<()> {
        let text = text.trim_end();
        let line = match style {
            _ if !self.colour || text.is_empty() => text.to_owned(),
            Style::Plain => text.replace(DEAD, &format!("{}{DEAD}\x1b[0m", Style::Bad.code())),
            _ => format!("{}{text}\x1b[0m", style.code()),
        };
        let mut out = self.out.lock();
        writeln!(out, "{line}")?;
        // Each line when it is true, not when a buffer is full.
        out.flush()
    }

    /// The first line.
    pub fn title(&mut self, name: &str, what: &str) -> io::Result<()> {
        self.line(Style::Strong, &format!("{name}: {what}"))
    }

    /// Opens an act: its number, its name, and why it is worth seeing.
    pub fn act(&mut self, name: &str, why: &str) -> io::Result<()> {
        self.acts += 1;
        self.line(Style::Plain, "")?;
        let number = self.acts;
        self.line(Style::Strong, &format!("{number}  {name}"))?;
        self.paragraph(Style::Quiet, why)?;
        self.line(Style::Plain, "")
    }

    /// A text, broken into lines.
    pub fn paragraph(&mut self, style: Style, text: &str) -> io::Result<()> {
        for line in wrap(text, WIDTH - MARGIN.len()) {
            self.line(style, &format!("{MARGIN}{line}"))?;
        }
        Ok(())
    }

    /// A line as it is, without a margin.
    pub fn plain(&mut self, text: &str) -> io::Result<()> {
        self.line(Style::Plain, text)
    }

    /// Lines as they are.
    pub fn verbatim(&mut self, style: Style, text: &str) -> io::Result<()> {
        text.lines().try_for_each(|line| self.line(style, &format!("{MARGIN}{line}")))
    }

    /// A word about the line that follows.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() { Ok(()) } else { self.line(Style::Quiet, &format!("{MARGIN}# {text}")) }
    }

    /// A name and what there is to say, which hangs below itself where it is long.
    pub fn fact(&mut self, name: &str, text: &str) -> io::Result<()> {
        let hanging = " ".repeat(NAME_WIDTH);
        for (index, line) in wrap(text, WIDTH - MARGIN.len() - NAME_WIDTH).iter().enumerate() {
            let name = if index == 0 { format!("{name:NAME_WIDTH$}") } else { hanging.clone() };
            let name = if self.colour { format!("{}{name}\x1b[0m", Style::Quiet.code()) } else { name };
            self.line(Style::Plain, &format!("{MARGIN}{name}{line}"))?;
        }
        Ok(())
    }

    /// What is typed, as an `overlay` command.
    pub fn command(&mut self, arguments: &[&str]) -> io::Result<()> {
        let quoted =
            arguments.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() });
        self.command_text(&format!("overlay {}", quoted.collect::<Vec<_>>().join(" ")))
    }

    /// What is typed.
    pub fn command_text(&mut self, text: &str) -> io::Result<()> {
        let lines = wrap(text, WIDTH - MARGIN.len() - 6);
        for (index, line) in lines.iter().enumerate() {
            let prompt = if index == 0 { "$ " } else { "    " };
            let goes_on = if index + 1 == lines.len() { "" } else { " \\" };
            self.line(Style::Strong, &format!("{MARGIN}{prompt}{line}{goes_on}"))?;
        }
        Ok(())
    }

    /// What a command said on stderr.
    pub fn shell_says(&mut self, text: &str) -> io::Result<()> {
        for said in text.lines() {
            let style = if ["error", "missing", "PARTIAL"].iter().any(|word| said.starts_with(word)) {
                Style::Bad
            } else {
                Style::Plain
            };
            for (index, line) in wrap(said, WIDTH - MARGIN.len() - 2).iter().enumerate() {
                let hanging = if index == 0 { "" } else { "  " };
                self.line(style, &format!("{MARGIN}{hanging}{line}"))?;
            }
        }
        Ok(())
    }
}

/// Breaks a text at its spaces into lines of at most so many columns; a longer word has a line of its own. A line that
/// fits stays as it is, with all its spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_broken_at_spaces() {
        for (text, width, lines) in [
            ("", 5, vec![""]),
            ("a  b", 5, vec!["a  b"]),
            ("one two three", 7, vec!["one two", "three"]),
            ("extraordinary one", 5, vec!["extraordinary", "one"]),
            ("A → B → C", 5, vec!["A → B", "→ C"]),
        ] {
            assert_eq!(wrap(text, width), lines);
        }
    }
}
