//! Decoders of criu's messages, images and logs, for fuzzing.

use crate::plan::{answer::Answer, log, pages};

/// Decodes a message of criu.
pub fn answer(bytes: &[u8]) {
    let _ = Answer::decode(bytes);
}

/// Reads an image: the process tree, or a map of pages.
pub fn image(bytes: &[u8]) {
    let _ = (pages::processes(bytes), pages::wanted(bytes));
}

/// Reads a log, and checks that what is quoted of it is one line.
pub fn log(bytes: &[u8]) {
    for line in [log::last_line(bytes), log::reason(bytes)]
        .into_iter()
        .flatten()
    {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
