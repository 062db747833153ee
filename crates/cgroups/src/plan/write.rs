//! A value for a file of a cgroup, and what to make of the kernel's answers.

use crate::table::{self, File, Version};
use crate::value::Value;

/// One write(2) of a value into a file of the container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Name of the file: no slash.
    pub name: String,
    /// What is known of it.
    pub(crate) file: &'static File,
    /// What is written.
    pub value: Value,
    /// JSON path of the value it comes from, for messages.
    pub source: String,
    /// What to do if the file isn't there.
    pub absent: Absent,
    /// What to do if the kernel refuses the value.
    pub refused: Refused,
}

/// The answer to ENOENT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// An error.
    Fail,
    /// The value is what a kernel without the file does anyway.
    Skip,
    /// Another kernel's or scheduler's name for the same.
    Instead(Box<Write>),
}

/// The answer to a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An error.
    Fail,
    /// EINVAL and EBUSY: once more after all the others, since two values may bound each other.
    Again,
    /// EPERM: the parent doesn't have it to give, and the container can do without.
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

    /// What the caller wrote for a file of v2 by its name.
    pub(crate) fn by_name(name: &str, text: &str, source: &str) -> Self {
        let write = Self::new(table::find(Version::V2, name), text, source);
        Self {
            refused: Refused::Fail,
            ..write.named(name)
        }
    }

    /// What is written, without a newline.
    #[must_use]
    pub fn text(&self) -> String {
        self.value.text(self.file.kind)
    }

    /// The value, read from the text if it is one; `None` if it makes no sense.
    pub(crate) fn meaning(&self) -> Option<Value> {
        match &self.value {
            Value::Text(text) => Value::read(self.file.kind, text),
            value => Some(value.clone()),
        }
    }

    /// The same into a file of this name, which the table has with a star in it.
    pub(super) fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// The same, where a refusal for want of rights is no error.
    pub(super) fn if_permitted(mut self) -> Self {
        self.refused = Refused::Skip;
        self
    }

    /// The same, where a missing file is no error.
    pub(super) fn if_there(mut self) -> Self {
        self.absent = Absent::Skip;
        self
    }

    /// The same, with another file and value if this one's file is missing.
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
