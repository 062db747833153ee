//! What criu sends and writes, for fuzzing.

use crate::plan::{answer::Answer, log, pages};

/// Reads a message of criu's.
pub fn answer(bytes: &[u8]) {
    let _ = Answer::decode(bytes);
}

/// Reads an image: the tree of processes, or a map of pages.
pub fn image(bytes: &[u8]) {
    let _ = (pages::processes(bytes), pages::wanted(bytes));
}

/// Reads a log. What is quoted of it is one line.
pub fn log(bytes: &[u8]) {
    for line in [log::last_line(bytes), log::reason(bytes)]
        .into_iter()
        .flatten()
    {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
