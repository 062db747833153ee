//! A value for a file of a cgroup, and what to make of the kernel's answers.

/// One write(2) of a value into a file of the container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Name of the file: no slash.
    pub file: String,
    /// What is written, without a newline.
    pub value: String,
    /// JSON path of what asks for it, for messages.
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
    /// EINVAL and EBUSY: once more after all the others, as two values may bound each other.
    Again,
    /// EPERM: the parent doesn't have it to give, and the container can do without.
    Skip,
}

impl Write {
    /// A value that must be written.
    pub(crate) fn new(file: impl Into<String>, value: impl ToString, source: &str) -> Self {
        Self {
            file: file.into(),
            value: value.to_string(),
            source: source.to_owned(),
            absent: Absent::Fail,
            refused: Refused::Fail,
        }
    }

    /// The same, written again after the others if refused.
    pub(super) fn again(mut self) -> Self {
        self.refused = Refused::Again;
        self
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
pub(super) fn text(writes: &crate::Result<Vec<Write>>) -> String {
    fn one(write: &Write) -> String {
        let mut text = format!("{}={}", write.file, write.value);
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
    match writes {
        Ok(writes) => writes.iter().map(one).collect::<Vec<_>>().join(" "),
        Err(error) => format!("error: {error}"),
    }
}
