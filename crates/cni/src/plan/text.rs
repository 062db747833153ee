//! Text from files and plugins in messages.

use std::path::PathBuf;

/// Longer text would not help, and could flood a log.
const SHOWN_CHARACTERS: usize = 1000;

/// Text of a plugin or of a file on one line, cut if it is long.
pub(crate) fn shown(text: &str) -> String {
    coracle_text::beginning(text, SHOWN_CHARACTERS)
}

/// A list of paths for a message.
pub(crate) fn joined(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
    paths.join(", ")
}
