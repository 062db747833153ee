//! What is wrong with the arguments. Engines look for some of these texts, so they are Go's.

use std::fmt;

use clap::error::{ContextKind, ContextValue};
use thiserror::Error;

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

/// The arguments are refused.
#[derive(Debug, Error)]
pub(crate) enum Usage {
    #[error("No help topic for '{0}'")]
    NoHelpTopic(String),
    /// podman looks for this text to learn which flags exist.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(String),
    #[error("flag provided but not defined: {flag}{}", hint(suggestion.as_deref()))]
    Undefined {
        flag: String,
        suggestion: Option<String>,
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
        expected: &'static str,
    },
    #[error("unknown signal {0:?}")]
    Signal(String),
    #[error("no command given: name one after the container's id, or use --process")]
    NoCommand,
    #[error(transparent)]
    Id(#[from] coracle_bundle::Error),
    /// What clap found, in its words.
    #[error("{0}")]
    Other(String),
}

impl Usage {
    /// Whether showing how the verb is used would help.
    pub(crate) fn is_incorrect(&self) -> bool {
        !matches!(self, Usage::NoHelpTopic(_) | Usage::Id(_))
    }
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |flag| format!(" (did you mean {flag}?)"))
}

impl From<clap::Error> for Usage {
    fn from(error: clap::Error) -> Self {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => texts.first().cloned(),
            _ => None,
        };
        match text(ContextKind::InvalidArg) {
            Some(flag) if error.kind() == clap::error::ErrorKind::UnknownArgument => {
                Usage::Undefined {
                    flag,
                    suggestion: text(ContextKind::SuggestedArg),
                }
            }
            _ => Usage::Other(error.kind().to_string()),
        }
    }
}
