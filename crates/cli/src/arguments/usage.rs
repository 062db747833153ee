//! Errors in the arguments. Engines match on some of these texts, so they are those of Go.

use std::fmt;

use thiserror::Error;

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
    #[error("No help topic for '{0}'")]
    NoHelpTopic(String),
    /// podman matches on this text to find out which flags exist.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(String),
    #[error("flag provided but not defined: {flag}{}", hint(*.suggestion))]
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
    #[error("unknown signal {0:?}")]
    Signal(String),
    #[error("no command given: name one after the container's id, or use --process")]
    NoCommand,
    #[error(transparent)]
    Id(#[from] coracle_bundle::Error),
}

impl Usage {
    /// A flag that the command does not have.
    pub(super) fn undefined(command: &Command, typed: &[u8]) -> Self {
        let typed = String::from_utf8_lossy(typed);
        let name = typed.split_once('=').map_or(&*typed, |(name, _)| name);
        let bare = name.trim_start_matches('-');
        let flag = match name.strip_prefix('-') {
            // Go writes `--bundel` with one dash, and a short flag unchanged.
            Some(long) if long == bare && bare.chars().count() != 1 => format!("-{name}"),
            _ => name.to_owned(),
        };
        let near = command.flags().filter(|flag| !flag.hidden);
        let near = near.map(|flag| (distance(bare, flag.name), flag.name));
        let nearest = near.min_by_key(|(distance, _)| *distance);
        let suggestion = nearest.filter(|(distance, _)| distance * 3 <= bare.len());
        Self::Undefined {
            flag,
            suggestion: suggestion.map(|(_, name)| name),
        }
    }

    /// Whether the usage of the verb is printed as well.
    pub(crate) fn is_incorrect(&self) -> bool {
        !matches!(self, Usage::NoHelpTopic(_) | Usage::Id(_))
    }
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |flag| format!(" (did you mean --{flag}?)"))
}

/// The Levenshtein distance: how many letters must be added, removed or replaced to turn one word
/// into the other. It keeps one row of the table.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (1..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let (mut above_left, mut left) = (at, at + 1);
        for (cell, against) in row.iter_mut().zip(other.bytes()) {
            let replaced = above_left + usize::from(letter != against);
            above_left = *cell;
            left = replaced.min(above_left + 1).min(left + 1);
            *cell = left;
        }
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
            ("bundel", "bundle", 2),
            ("forced", "force", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }
}
