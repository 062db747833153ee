//! The operations of a plugin.

use std::fmt;

/// The operations of CNI SPEC § Section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Attach.
    Add,
    /// Undo an attachment.
    Del,
    /// Check that an attachment is as ADD made it.
    Check,
    /// Undo all attachments that are not listed.
    Gc,
    /// Report whether the plugin is ready for ADD.
    Status,
    /// Report the supported versions.
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
