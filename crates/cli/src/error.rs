//! Errors of the command. Each text is one line.

use std::path::PathBuf;

use coracle_bundle::ContainerId;
use coracle_text::{Code, Detail};
use nix::errno::Errno;
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

    /// What programs read of it.
    pub(crate) fn detail(&self) -> Detail {
        let of = Detail::new;
        match self {
            Error::Usage(usage) => usage.detail(),
            Error::Container(source) => source.detail(),
            Error::Verb { source, .. } => source.detail(),
            Error::Log { path, source } | Error::Trace { path, source } => of(Code::OutputFailed)
                .path(path.display())
                .errno(errno(source)),
            Error::Root(_) => of(Code::StateFailed),
            Error::NoRoot { path, source } => of(Code::StateFailed)
                .path(path.display())
                .errno(errno(source)),
            Error::Output(source) => of(Code::OutputFailed).errno(errno(source)),
            Error::Json(_) => of(Code::OutputFailed),
            Error::Several(_) => of(Code::RuntimeFailed),
            Error::SpecExists(path) => of(Code::OutputFailed).path(path.display()),
            Error::Write { path, source } => of(Code::OutputFailed)
                .path(path.display())
                .errno(errno(source)),
            Error::RunPs(source) => of(Code::RuntimeFailed)
                .errno(errno(source))
                .hint("install ps (package procps)"),
            Error::PsFailed { .. } | Error::NoPidColumn => of(Code::UsageInvalid),
        }
    }

    /// The whole message: a hint that it does not have yet comes last.
    pub(crate) fn line(&self, detail: &Detail) -> String {
        let text = self.to_string();
        match &detail.hint {
            Some(hint) if !text.contains(hint) => format!("{text}; {hint}"),
            _ => text,
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

fn errno(error: &std::io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

/// The errno's text as in other messages: engines match on Go's lower case.
fn lower_case(error: &std::io::Error) -> String {
    match errno(error) {
        Some(errno) => coracle_text::errno_text(errno),
        None => error.to_string(),
    }
}
