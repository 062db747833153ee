//! Texts of others in our messages.

use std::path::PathBuf;

/// Longer texts help nobody and could flood a log.
const SHOWN_CHARACTERS: usize = 1000;

/// A text of a plugin or of a file on one line: control characters are escaped, so that it can
/// neither forge log lines nor talk to a terminal, and a long one is cut.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut letters = text.trim().chars();
    for letter in letters.by_ref().take(SHOWN_CHARACTERS) {
        match letter {
            '\t' => line.push(' '),
            letter if letter.is_control() => line.extend(letter.escape_default()),
            letter => line.push(letter),
        }
    }
    if letters.next().is_some() {
        line.push_str("...");
    }
    line
}

/// Paths one after the other, as a message lists them.
pub(crate) fn joined(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_its_line() {
        assert_eq!(one_line("a\tb\nc\u{1b}[0m \n"), "a b\\nc\\u{1b}[0m");
        let long = one_line(&"x".repeat(5000));
        assert_eq!(long.len(), SHOWN_CHARACTERS + 3);
    }
}
