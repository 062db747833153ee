//! The operations of a plugin.

use std::fmt;

/// The operations of CNI SPEC § Section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Attach.
    Add,
    /// Take an attachment back.
    Del,
    /// Look whether an attachment is as it should be.
    Check,
    /// Take back all attachments but the listed.
    Gc,
    /// Tell whether ADD could be served.
    Status,
    /// Tell the versions that are spoken.
    Version,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
