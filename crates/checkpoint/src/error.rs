//! Errors of checkpoint and restore.

use std::path::PathBuf;

use coracle_sys::{Call, Cause, ExitStatus};
use coracle_text::{Code, Detail, cause_errno, cause_text, errno_text};
use nix::errno::Errno;

use crate::plan::version::{MINIMUM, Version};

/// Why a checkpoint or restore failed, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// criu was not found.
    #[error("criu: not found in PATH")]
    NotFound,
    /// criu could not be executed.
    #[error("start {path:?}: {}", cause_text(*cause))]
    Start {
        /// The program.
        path: PathBuf,
        /// The cause.
        cause: Cause,
    },
    /// An ordinary user cannot restore: criu's mode for such users restores no namespaces.
    #[error("restore needs CAP_SYS_ADMIN: without it criu restores no container")]
    Unprivileged,
    /// criu is older than [`MINIMUM`].
    #[error("criu {found} is too old: this needs {MINIMUM}")]
    TooOld {
        /// The version found.
        found: Version,
    },
    /// criu or the kernel lacks a feature that a flag requires.
    #[error("{flag}: criu says that this kernel has no {feature}")]
    Feature {
        /// The flag.
        flag: &'static str,
        /// The missing feature.
        feature: &'static str,
    },
    /// criu failed.
    #[error("criu {verb}: {reason} (see {log:?})")]
    Failed {
        /// `dump`, `pre-dump` or `restore`.
        verb: &'static str,
        /// The first errors in its log, or the message in its answer.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// criu refused the request or its configuration file before it opened a log.
    #[error(
        "criu {verb}: it refuses the request (EBADRQC){}",
        file.as_ref().map(|file| format!(" or its configuration file {file:?}")).unwrap_or_default()
    )]
    BadRequest {
        /// `dump`, `pre-dump` or `restore`.
        verb: &'static str,
        /// The configuration file, if criu was given one that exists.
        file: Option<PathBuf>,
    },
    /// criu did not answer a request for its version or features.
    #[error("{path:?} does not answer")]
    Silent {
        /// The program.
        path: PathBuf,
    },
    /// criu ended without an answer.
    #[error("criu {verb}: it {} without an answer{reason} (see {log:?})", ended(*status))]
    Gone {
        /// `dump`, `pre-dump`, `restore` or `check`.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last errors of its log, with a colon before; or nothing.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// criu sent a malformed or unexpected message.
    #[error("criu {verb}: its answer is not of the protocol of criu's rpc.proto")]
    Protocol {
        /// The request.
        verb: &'static str,
    },
    /// An operation on a directory or file of the images failed.
    #[error("{flag} {path:?}: {call}: {}", errno_text(*errno))]
    Path {
        /// The flag that names it.
        flag: &'static str,
        /// The path.
        path: PathBuf,
        /// What was attempted.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A directory is not suitable.
    #[error("{flag} {path:?}: {problem}")]
    Images {
        /// The flag that names it.
        flag: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it is not suitable.
        problem: &'static str,
    },
    /// A mount point was moved out of the root while it was opened.
    #[error("config.json: {at}: {path:?} was moved out of the root meanwhile")]
    Moved {
        /// The property.
        at: String,
        /// The part of the path that was resolved.
        path: PathBuf,
    },
    /// The mount point of a mount of the config cannot be made, or its source cannot be opened.
    #[error("config.json: {at} {path:?}: {}: {}", call.name(), errno_text(*errno))]
    Mount {
        /// `mounts[3].source`.
        at: String,
        /// The path.
        path: PathBuf,
        /// The call that failed.
        call: Call,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A system call of the runtime failed.
    #[error("{attempted}: {}", errno_text(*errno))]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let failed = || Detail::new(Code::CheckpointFailed);
        match self {
            Error::NotFound => Detail::new(Code::CheckpointNoCriu).hint("install criu"),
            Error::Start { path, cause } => Detail::new(Code::CheckpointNoCriu)
                .path(path.display())
                .errno(cause_errno(*cause)),
            Error::Unprivileged => Detail::new(Code::CallerUnprivileged).hint("be root"),
            Error::TooOld { .. } => Detail::new(Code::HostUnsupported).hint("install a newer criu"),
            Error::Feature { flag, .. } => Detail::new(Code::HostUnsupported).path(flag),
            Error::Failed { log, .. } | Error::Gone { log, .. } => failed().path(log.display()),
            Error::Silent { path } => failed().path(path.display()),
            Error::BadRequest { .. } | Error::Protocol { .. } => failed(),
            Error::Path { path, errno, .. } => failed().path(path.display()).errno(*errno),
            Error::Images { path, .. } => failed().path(path.display()),
            Error::Moved { at, .. } => Detail::new(Code::MountFailed).path(at),
            Error::Mount { at, errno, .. } => Detail::new(Code::MountFailed).path(at).errno(*errno),
            Error::System { errno, .. } => Detail::new(Code::RuntimeFailed).errno(*errno),
        }
    }
}

/// Makes [`Error::System`] of an errno.
pub(crate) fn system(attempted: &'static str) -> impl Fn(Errno) -> Error + Copy {
    move |errno| Error::System { attempted, errno }
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("ended with status {code}"),
        ExitStatus::Signal(signal) => format!("was killed by signal {signal}"),
    }
}
