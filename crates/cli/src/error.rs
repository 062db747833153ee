//! Errors of the command. Each text is one line.

use std::path::PathBuf;

use coracle_bundle::ContainerId;
use nix::sys::signal::Signal;
use thiserror::Error;

use crate::arguments::Usage;

/// Why the command failed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The arguments are invalid; nothing was changed.
    #[error(transparent)]
    Usage(#[from] Usage),
    /// The verb itself failed.
    #[error(transparent)]
    Container(#[from] coracle_container::Error),
    /// The verb failed on a container.
    #[error("{verb} {id}: {source}")]
    Verb {
        /// The verb.
        verb: &'static str,
        /// The container.
        id: ContainerId,
        /// What was attempted and why it failed.
        source: Box<coracle_container::Error>,
    },
    /// The verb failed on some of several containers.
    #[error("{0}")]
    Several(String),
    /// `--log` cannot be written.
    #[error("--log {path:?}: {}", lower_case(source))]
    Log {
        /// The flag's value.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// `--trace` cannot be written.
    #[error("--trace {path:?}: {}", lower_case(source))]
    Trace {
        /// The flag's value.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The state root cannot be used.
    #[error("{0}")]
    Root(&'static str),
    /// The state root that `--root` names does not exist.
    #[error("--root {path:?}: {}", lower_case(source))]
    NoRoot {
        /// The flag's value.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// stdout cannot be written.
    #[error("write to standard output: {}", lower_case(.0))]
    Output(std::io::Error),
    /// A value has no JSON form.
    #[error("write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The file exists; `spec` does not overwrite it.
    #[error("{0:?} exists: remove it first")]
    SpecExists(PathBuf),
    /// A file that was asked for, such as that of `spec`, cannot be written.
    #[error("write {path:?}: {}", lower_case(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The `ps` program could not be run.
    #[error("run ps: {}", lower_case(.0))]
    RunPs(std::io::Error),
    /// The `ps` program refused its options.
    #[error("ps ended with {status}: {text}")]
    PsFailed {
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its standard error.
        text: String,
    },
    /// The table of ps has no column to filter by.
    #[error("ps printed no PID column: choose options that do, such as -ef")]
    NoPidColumn,
}

impl Error {
    /// A verb that failed on a container.
    pub(crate) fn failed(
        verb: &'static str,
        id: &ContainerId,
        source: coracle_container::Error,
    ) -> Self {
        Self::Verb {
            verb,
            id: id.clone(),
            source: Box::new(source),
        }
    }

    /// The signal that ended the verb, if it was one.
    pub(crate) fn signal(&self) -> Option<Signal> {
        match self {
            Error::Container(source) => source.signal(),
            Error::Verb { source, .. } => source.signal(),
            _ => None,
        }
    }
}

/// The errno's text as in other messages: engines match on Go's lower case.
fn lower_case(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => coracle_text::errno_text(nix::errno::Errno::from_raw(errno)),
        None => error.to_string(),
    }
}
