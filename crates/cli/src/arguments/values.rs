//! The flags and arguments of one command, and parsers of values that verbs share.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use coracle_bundle::ContainerId;
use coracle_container::{Attachment, Outputs};

use super::number;
use super::settings::Global;
use super::table::Command;
use super::usage::{Expected, Usage};

/// A flag's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Switch(bool),
    Text(OsString),
}

/// A command's flags and arguments.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) command: &'static Command,
    pub(crate) global: Global,
    /// The words that are neither flags nor their values.
    pub(crate) words: Vec<OsString>,
    /// The first error on the line.
    pub(crate) refused: Option<Usage>,
    /// The flags by their long names, in the order of the line.
    pub(super) flags: Vec<(&'static str, Value)>,
}

impl Arguments {
    pub(super) fn new(command: &'static Command) -> Self {
        Self {
            command,
            global: Global::default(),
            words: Vec::new(),
            refused: None,
            flags: Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, usage: Usage) {
        self.refused.get_or_insert(usage);
    }

    /// Checks the number of arguments.
    pub(crate) fn expect(&self, expected: Expected) -> Result<(), Usage> {
        let count = self.words.len();
        let is_met = match expected {
            Expected::Exactly(exact) => count == exact,
            Expected::Minimum(least) => count >= least,
            Expected::Maximum(most) => count <= most,
        };
        if is_met {
            Ok(())
        } else {
            Err(Usage::Count {
                verb: self.command.name,
                expected,
            })
        }
    }

    /// Whether the first argument is a container's id, and no expression for several.
    pub(crate) fn names_container(&self) -> bool {
        let takes_several = self.command.flag(b"regex").is_some();
        self.command.takes_id() && !(takes_several && self.is_on("regex"))
    }

    /// The file that a verb reads in place of `config.json`, if it has the flag.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        self.command
            .flag(b"config")
            .and_then(|_| self.path("config"))
    }

    /// The container's id, which is the first argument.
    pub(crate) fn id(&self) -> Result<ContainerId, Usage> {
        let id = self.words.first().map(|id| id.to_string_lossy());
        Ok(ContainerId::parse(&id.unwrap_or_default())?)
    }

    /// The id of a verb that takes nothing else.
    pub(crate) fn only_id(&self) -> Result<ContainerId, Usage> {
        self.expect(Expected::Exactly(1))?;
        self.id()
    }

    /// The flag's values, the last first.
    fn found(&self, flag: &str) -> impl DoubleEndedIterator<Item = &Value> {
        debug_assert!(self.command.flag(flag.as_bytes()).is_some(), "--{flag}");
        let all = self.flags.iter().rev();
        all.filter_map(move |(name, value)| (*name == flag).then_some(value))
    }

    /// Whether the switch is on; of several, the last is used.
    pub(crate) fn is_on(&self, switch: &str) -> bool {
        self.found(switch).next() == Some(&Value::Switch(true))
    }

    /// Returns `on` if the switch is on, otherwise `off`.
    pub(crate) fn choose<T>(&self, switch: &str, on: T, off: T) -> T {
        if self.is_on(switch) { on } else { off }
    }

    /// All values of a flag that may be repeated.
    pub(crate) fn values(&self, flag: &str) -> impl DoubleEndedIterator<Item = &OsString> {
        self.found(flag).rev().filter_map(|value| match value {
            Value::Text(text) => Some(text),
            Value::Switch(_) => None,
        })
    }

    /// The value of a flag that takes any text. As in Go, an empty one counts as absent.
    pub(crate) fn value(&self, flag: &str) -> Option<&OsStr> {
        let value = self.values(flag).next_back()?;
        (!value.is_empty()).then_some(value)
    }

    pub(crate) fn path(&self, flag: &str) -> Option<PathBuf> {
        self.value(flag).map(PathBuf::from)
    }

    /// The flag's value as text.
    pub(crate) fn text(&self, flag: &'static str) -> Result<Option<String>, Usage> {
        let text = self.parsed(flag, "UTF-8", utf8)?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// The value parsed by `parse`, which returns `None` if it is not what `expected` describes. An
    /// empty value is parsed too: `--user ""` must not fall back to root.
    pub(crate) fn parsed<T>(
        &self,
        flag: &'static str,
        expected: &str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Usage> {
        let value = self.values(flag).next_back();
        value
            .map(|value| parse_one(flag, value, expected, &parse))
            .transpose()
    }

    /// The meaning of the flag's value, which is one of `choices`.
    pub(crate) fn choice<T: Copy, const N: usize>(
        &self,
        flag: &'static str,
        choices: [(&'static str, T); N],
    ) -> Result<Option<T>, Usage> {
        let names = choices.map(|(name, _)| name);
        let expected = match names.split_last() {
            None | Some((_, [])) => names.concat(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
        };
        self.parsed(flag, &expected, |value| {
            let named = choices.iter().find(|(name, _)| name.as_bytes() == value);
            named.map(|(_, choice)| *choice)
        })
    }

    /// All values of the flag, parsed by `parse`.
    pub(crate) fn all_parsed<T>(
        &self,
        flag: &'static str,
        expected: &str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Usage> {
        self.values(flag)
            .map(|value| parse_one(flag, value, expected, &parse))
            .collect()
    }

    /// All values of the flag as text.
    pub(crate) fn texts(&self, flag: &'static str) -> Result<Vec<String>, Usage> {
        self.all_parsed(flag, "UTF-8", utf8)
    }

    /// `--detach`.
    pub(crate) fn attachment(&self) -> Attachment {
        self.choose("detach", Attachment::Detached, Attachment::Foreground)
    }

    /// `--console-socket`, `--pidfd-socket` and `--pid-file`.
    pub(crate) fn outputs(&self) -> Outputs {
        Outputs {
            console_socket: self.path("console-socket"),
            pidfd_socket: self.path("pidfd-socket"),
            pid_file: self.path("pid-file"),
        }
    }

    /// `--preserve-fds`, a count.
    pub(crate) fn preserve_fds(&self) -> Result<u32, Usage> {
        let count = self.parsed("preserve-fds", "a number", number::unsigned)?;
        Ok(count.unwrap_or(0))
    }
}

pub(crate) fn utf8(text: &[u8]) -> Option<String> {
    std::str::from_utf8(text).ok().map(str::to_owned)
}

fn parse_one<T>(
    flag: &'static str,
    value: &OsStr,
    expected: &str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, Usage> {
    parse(value.as_bytes()).ok_or_else(|| Usage::Value {
        flag,
        value: value.to_string_lossy().into_owned(),
        expected: expected.to_owned(),
    })
}
