//! Standard output, written in one go.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::error::Error;

/// Whether standard output still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The last write succeeded.
    There,
    /// It closed its end.
    Gone,
}

/// Writes the text to stdout. A reader that went away (`coracle list | head -1`) is no failure.
///
/// SIGPIPE stays ignored, as Rust's start-up leaves it: were it fatal, a caller that closes our
/// stderr could end `create` or `delete` half-way.
pub(crate) fn text(text: &str) -> Result<(), Error> {
    write(text).map(drop)
}

/// The same, for callers that go on writing while there is a reader.
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

/// Writes the value as JSON, indented by two spaces.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Error> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes the value as JSON on one line, for callers that read by lines.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Error> {
    text(&(serde_json::to_string(value)? + "\n"))
}

/// runc's table: columns at least 12 wide with three blanks between, the last one as it is.
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

/// Writes a line to stderr that is neither result nor failure.
pub(crate) fn notice(line: &str) {
    // There is nowhere to report that stderr is closed.
    drop(writeln!(std::io::stderr(), "{line}"));
}
