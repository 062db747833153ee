//! Writing to standard output.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;

use crate::error::Error;

/// Whether standard output still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The last write succeeded.
    There,
    /// The reader has closed its end.
    Gone,
}

/// Writes the text to stdout. A reader that has closed the pipe (`coracle list | head -1`) is no
/// failure.
///
/// The start of the program blocks SIGPIPE, and this keeps it blocked: otherwise a caller that
/// closes stderr could kill `create` or `delete` in the middle of its work.
pub(crate) fn text(text: &str) -> Result<(), Error> {
    write(text).map(drop)
}

/// Like [`text`], for callers that write until the reader has gone.
pub(crate) fn write(text: &str) -> Result<Reader, Error> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Error::Output(error)),
    }
}

/// Who reads standard output, as far as one can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// It is a terminal.
    Person,
    /// It is a pipe or a file.
    Program,
}

/// Who reads standard output.
pub(crate) fn audience() -> Audience {
    match std::io::stdout().is_terminal() {
        true => Audience::Person,
        false => Audience::Program,
    }
}

/// Writes the value as JSON, indented by two spaces.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Error> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes the value as JSON on one line, for callers that read by lines.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Error> {
    text(&(serde_json::to_string(value)? + "\n"))
}

/// A table in runc's format: columns at least 12 wide, separated by at least three blanks, the last
/// one not padded.
pub(crate) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [12; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut cells = line.iter().zip(widths).peekable();
        while let Some((cell, width)) = cells.next() {
            match cells.peek() {
                Some(_) => text.push_str(&format!("{cell:<width$}")),
                None => text.push_str(cell),
            }
        }
        text.push('\n');
    }
    text
}

/// Tells a person what a verb waits for. Programs that read stderr expect nothing but failures.
pub(crate) fn waiting(what: &str) {
    if std::io::stderr().is_terminal() {
        notice(&format!("waiting for {what} …"));
    }
}

/// Writes a line to stderr that is neither a result nor a failure.
pub(crate) fn notice(line: &str) {
    // There is nowhere to report that stderr is closed.
    drop(writeln!(std::io::stderr(), "{line}"));
}
