//! Texts of others in our messages.

use std::path::PathBuf;

/// Longer texts help nobody and could flood a log.
const SHOWN_CHARACTERS: usize = 1000;

/// A text of a plugin or of a file, on one line, cut if it is long.
pub(crate) fn shown(text: &str) -> String {
    coracle_text::beginning(text, SHOWN_CHARACTERS)
}

/// Paths one after the other, as a message lists them.
pub(crate) fn joined(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
    paths.join(", ")
}
