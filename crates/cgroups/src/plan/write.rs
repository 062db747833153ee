//! A value for a file of a cgroup, and how to react to the kernel's errors.

use crate::table::{self, File, Version};
use crate::value::Value;

/// One write(2) of a value into a file of the container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Name of the file, without a slash.
    pub name: String,
    /// Its row in the table of files.
    pub(crate) file: &'static File,
    /// The value.
    pub value: Value,
    /// JSON path of the value it comes from, for messages.
    pub source: String,
    /// What to do if the file does not exist.
    pub absent: Absent,
    /// What to do if the kernel refuses the value.
    pub refused: Refused,
}

/// What to do after ENOENT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// An error.
    Fail,
    /// Nothing: a kernel without the file behaves as if it had this value.
    Skip,
    /// Write this instead: the name of the file in another kernel or I/O scheduler.
    Instead(Box<Write>),
}

/// What to do if the kernel refuses the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An error.
    Fail,
    /// After EINVAL or EBUSY, write it again after all others, since two values may limit each
    /// other.
    Again,
    /// After EPERM, nothing: the parent does not have it either, and the container can do without
    /// it.
    Skip,
}

impl Write {
    /// A value that must be written.
    pub(crate) fn new(file: &'static File, value: impl Into<Value>, source: &str) -> Self {
        Self {
            name: file.name.to_owned(),
            file,
            value: value.into(),
            source: source.to_owned(),
            absent: Absent::Fail,
            refused: if file.again {
                Refused::Again
            } else {
                Refused::Fail
            },
        }
    }

    /// A value of `unified` for a file of v2 by its name.
    pub(crate) fn by_name(name: &str, text: &str, source: &str) -> Self {
        let write = Self::new(table::find(Version::V2, name), text, source);
        Self {
            refused: Refused::Fail,
            ..write.named(name)
        }
    }

    /// The text to write, without a newline.
    #[must_use]
    pub fn text(&self) -> String {
        self.value.text(self.file.kind)
    }

    /// The value, parsed if it is a text; `None` if that is invalid.
    pub(crate) fn meaning(&self) -> Option<Value> {
        match &self.value {
            Value::Text(text) => Value::read(self.file.kind, text),
            value => Some(value.clone()),
        }
    }

    /// The same write to a file of this name, for a row whose name has a star.
    pub(super) fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// The same write, but EPERM is no error.
    pub(super) fn if_permitted(mut self) -> Self {
        self.refused = Refused::Skip;
        self
    }

    /// The same write, but a missing file is no error.
    pub(super) fn if_there(mut self) -> Self {
        self.absent = Absent::Skip;
        self
    }

    /// The same write, with another file and value if this file is missing.
    pub(super) fn or(mut self, other: Self) -> Self {
        self.absent = Absent::Instead(Box::new(other));
        self
    }
}

/// For tests: `file=value (again) (if there)`, or the error.
#[cfg(test)]
pub(super) fn text(writes: &[Write]) -> String {
    fn one(write: &Write) -> String {
        let mut text = format!("{}={}", write.name, write.text());
        match write.refused {
            Refused::Fail => {}
            Refused::Again => text.push_str(" (again)"),
            Refused::Skip => text.push_str(" (if permitted)"),
        }
        match &write.absent {
            Absent::Fail => {}
            Absent::Skip => text.push_str(" (if there)"),
            Absent::Instead(other) => {
                text.push_str(" or ");
                text.push_str(&one(other));
            }
        }
        text
    }
    writes.iter().map(one).collect::<Vec<_>>().join(" ")
}
