//! Errors in the arguments. Engines match on some of these texts, so they are those of Go.

use std::fmt;

use coracle_text::{Code, Detail};
use thiserror::Error;

use super::signal;
use super::table::Command;

/// How many arguments a verb takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Exactly(usize),
    Minimum(usize),
    Maximum(usize),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Exactly(count) => write!(f, "exactly {count} argument(s)"),
            Expected::Minimum(count) => write!(f, "a minimum of {count} argument(s)"),
            Expected::Maximum(count) => write!(f, "a maximum of {count} argument(s)"),
        }
    }
}

/// An error in the arguments.
#[derive(Debug, Error)]
pub(crate) enum Usage {
    #[error("No help topic for '{name}'{}", hint("", *.suggestion))]
    NoHelpTopic {
        name: String,
        suggestion: Option<&'static str>,
    },
    /// podman matches on this text to find out which flags exist.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(String),
    #[error("flag provided but not defined: {flag}{}", hint("--", *.suggestion))]
    Undefined {
        flag: String,
        suggestion: Option<&'static str>,
    },
    #[error("invalid boolean value {value:?} for -{flag}: expected true or false")]
    Boolean { flag: String, value: String },
    #[error("\"{verb}\" requires {expected}")]
    Count {
        verb: &'static str,
        expected: Expected,
    },
    #[error("\"{verb}\" requires one of: {expected}")]
    Subcommand {
        verb: &'static str,
        expected: &'static str,
    },
    #[error("--{flag}: {value:?}: expected {expected}")]
    Value {
        flag: &'static str,
        value: String,
        expected: String,
    },
    #[error("unknown signal {name:?}{}", hint("", *.suggestion))]
    Signal {
        name: String,
        suggestion: Option<&'static str>,
    },
    #[error("no command given: name one after the container's id, or use --process")]
    NoCommand,
    #[error(transparent)]
    Id(#[from] coracle_bundle::Error),
}

impl Usage {
    /// A flag that none of the commands has.
    pub(super) fn undefined(
        commands: impl Iterator<Item = &'static Command>,
        typed: &[u8],
    ) -> Self {
        let typed = String::from_utf8_lossy(typed);
        let name = typed.split_once('=').map_or(&*typed, |(name, _)| name);
        let bare = name.trim_start_matches('-');
        let flag = match name.strip_prefix('-') {
            // Go writes `--bundel` with one dash, and a short flag unchanged.
            Some(long) if long == bare && bare.chars().count() != 1 => format!("-{name}"),
            _ => name.to_owned(),
        };
        let shown = commands
            .flat_map(Command::flags)
            .filter(|flag| !flag.hidden);
        Self::Undefined {
            flag,
            suggestion: nearest(bare, shown.map(|flag| flag.name)),
        }
    }

    /// A command that is none of these.
    pub(crate) fn no_help_topic(
        typed: &str,
        commands: impl Iterator<Item = &'static Command>,
    ) -> Self {
        Self::NoHelpTopic {
            name: typed.to_owned(),
            suggestion: nearest(typed, commands.map(|command| command.name)),
        }
    }

    /// What programs read of it.
    pub(crate) fn detail(&self) -> Detail {
        let invalid = Detail::new(Code::UsageInvalid);
        match self {
            Usage::NoHelpTopic { .. } => Detail::new(Code::UsageUnknownVerb),
            Usage::NeedsArgument(flag) | Usage::Boolean { flag, .. } => {
                invalid.path(format_args!("-{flag}"))
            }
            Usage::Undefined { flag, .. } => invalid.path(flag),
            Usage::Value { flag, .. } => invalid.path(format_args!("--{flag}")),
            Usage::Id(error) => error.detail(),
            Usage::Count { .. }
            | Usage::Subcommand { .. }
            | Usage::Signal { .. }
            | Usage::NoCommand => invalid,
        }
    }

    /// A signal that is none.
    pub(crate) fn unknown_signal(name: &str) -> Self {
        let typed = name.to_ascii_uppercase();
        let typed = typed.strip_prefix("SIG").unwrap_or(&typed);
        Self::Signal {
            name: name.to_owned(),
            suggestion: nearest(typed, signal::names()),
        }
    }

    /// Whether the usage of the verb is printed as well.
    pub(crate) fn is_incorrect(&self) -> bool {
        !matches!(self, Usage::NoHelpTopic { .. } | Usage::Id(_))
    }
}

fn hint(dashes: &str, suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| {
        format!(" (did you mean {dashes}{name}?)")
    })
}

/// What may have been meant: the name from which at most one letter in three differs.
fn nearest(typed: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let near = names.map(|name| (distance(typed, name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= typed.len()).then_some(name)
}

/// How many letters must be added, removed, replaced or swapped with the next to make one word of
/// the other: the optimal string alignment distance, a row of the table at a time.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let (mut before, mut row) = (Vec::new(), (0..=other.len()).collect::<Vec<_>>());
    for (down, letter) in one.iter().enumerate() {
        let mut next = vec![down + 1];
        let mut left = down + 1;
        for (across, against) in other.iter().enumerate() {
            let at = |row: &[usize], column| row.get(column).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&row, across) + usize::from(letter != against);
            let mut least = replaced.min(left + 1).min(at(&row, across + 1) + 1);
            let above = down.checked_sub(1).zip(across.checked_sub(1));
            if let Some((up, aside)) = above
                && one.get(up) == Some(against)
                && other.get(aside) == Some(letter)
            {
                least = least.min(at(&before, aside) + 1);
            }
            next.push(least);
            left = least;
        }
        before = std::mem::replace(&mut row, next);
    }
    row.pop().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("bundel", "bundle", 1),
            ("strat", "start", 1),
            ("ba", "abc", 2),
            ("forced", "force", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }
}
