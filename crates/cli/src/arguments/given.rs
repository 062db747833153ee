//! What was given to one verb, and the readings that verbs share.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use coracle_bundle::ContainerId;

use super::spelling::{Order, spell};
use super::{Expected, Global, Usage, number};

/// A verb's flags and arguments.
pub(crate) struct Given<'a> {
    pub(crate) global: &'a Global,
    pub(crate) arguments: Vec<OsString>,
    verb: &'static str,
    matches: ArgMatches,
}

impl<'a> Given<'a> {
    /// Reads the line by the verb's table. Only what the table itself forbids is refused yet.
    pub(crate) fn read(
        command: &mut Command,
        verb: &'static str,
        global: &'a Global,
        (line, order): (Vec<OsString>, Order),
    ) -> Result<Self, Usage> {
        let spelled = spell(command, line, order)?;
        let matches = command.try_get_matches_from_mut(spelled.options)?;
        Ok(Self {
            global,
            arguments: spelled.arguments,
            verb,
            matches,
        })
    }

    /// Refuses another number of arguments.
    pub(crate) fn expect(&self, expected: Expected) -> Result<(), Usage> {
        let count = self.arguments.len();
        let is_met = match expected {
            Expected::Exactly(exact) => count == exact,
            Expected::Minimum(least) => count >= least,
            Expected::Maximum(most) => count <= most,
        };
        if is_met {
            Ok(())
        } else {
            Err(Usage::Count {
                verb: self.verb,
                expected,
            })
        }
    }

    /// The container's id, which is always the first argument.
    pub(crate) fn id(&self) -> Result<ContainerId, Usage> {
        let id = self
            .arguments
            .first()
            .map(|id| id.to_string_lossy())
            .unwrap_or_default();
        Ok(ContainerId::parse(&id)?)
    }

    /// The id of a verb that takes nothing else.
    pub(crate) fn only_id(&self) -> Result<ContainerId, Usage> {
        self.expect(Expected::Exactly(1))?;
        self.id()
    }

    pub(crate) fn is_on(&self, switch: &str) -> bool {
        self.matches.get_flag(switch)
    }

    /// The value of a flag that takes any text. An empty one counts as none, as in Go.
    pub(crate) fn value(&self, flag: &str) -> Option<&OsStr> {
        let value = self.matches.get_one::<OsString>(flag)?;
        (!value.is_empty()).then_some(value)
    }

    pub(crate) fn path(&self, flag: &str) -> Option<PathBuf> {
        self.value(flag).map(PathBuf::from)
    }

    /// All values of a flag that may be given several times.
    pub(crate) fn values(&self, flag: &str) -> impl Iterator<Item = &OsString> {
        self.matches.get_many::<OsString>(flag).unwrap_or_default()
    }

    /// The flag's value as text.
    pub(crate) fn text(&self, flag: &'static str) -> Result<Option<String>, Usage> {
        let text = self.parsed(flag, "UTF-8", |value| {
            Some(std::str::from_utf8(value).ok()?.to_owned())
        })?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// The value through `parse`, which says `None` to what is not `expected`. An empty one is
    /// judged too: `--user ""` must not fall back on root.
    pub(crate) fn parsed<T>(
        &self,
        flag: &'static str,
        expected: &'static str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Usage> {
        let value = self.matches.get_one::<OsString>(flag);
        value
            .map(|value| parse_one(flag, value, expected, &parse))
            .transpose()
    }

    /// All values of the flag through `parse`.
    pub(crate) fn all_parsed<T>(
        &self,
        flag: &'static str,
        expected: &'static str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Usage> {
        self.values(flag)
            .map(|value| parse_one(flag, value, expected, &parse))
            .collect()
    }

    /// `--preserve-fds`, a count.
    pub(crate) fn preserve_fds(&self) -> Result<u32, Usage> {
        Ok(self
            .parsed("preserve-fds", "a number", number::unsigned)?
            .unwrap_or(0))
    }
}

fn parse_one<T>(
    flag: &'static str,
    value: &OsStr,
    expected: &'static str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, Usage> {
    parse(value.as_bytes()).ok_or_else(|| Usage::Value {
        flag,
        value: value.to_string_lossy().into_owned(),
        expected,
    })
}
