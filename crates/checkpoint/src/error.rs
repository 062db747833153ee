//! How checkpoint and restore fail.

use std::path::PathBuf;

use coracle_sys::{Call, Cause, ExitStatus};
use coracle_text::{cause_text, errno_text};
use nix::errno::Errno;

use crate::plan::version::Version;

/// What was attempted and why it did not come about, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no criu.
    #[error("criu: not found in PATH")]
    NotFound,
    /// It could not be executed.
    #[error("start {path:?}: {}", cause_text(*cause))]
    Start {
        /// The program.
        path: PathBuf,
        /// Why not.
        cause: Cause,
    },
    /// criu's mode for ordinary users restores no namespaces.
    #[error("restore needs CAP_SYS_ADMIN: without it criu restores no container")]
    Unprivileged,
    /// It is older than what is asked of it.
    #[error("criu {found} is too old: {purpose} needs {needed}")]
    TooOld {
        /// What was found.
        found: Version,
        /// What for.
        purpose: &'static str,
        /// The oldest that would do.
        needed: Version,
    },
    /// criu or the kernel lacks what is asked for.
    #[error("{flag}: criu says that this kernel has no {feature}")]
    Feature {
        /// The flag.
        flag: &'static str,
        /// What is missing.
        feature: &'static str,
    },
    /// criu says no.
    #[error("criu {verb}: {reason} (see {log:?})")]
    Failed {
        /// `dump`, `pre-dump` or `restore`.
        verb: &'static str,
        /// The decisive lines of its log, or its own word.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// criu cannot work with what it was asked, before there is a log.
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
    /// criu says what it cannot mean.
    #[error("criu {verb}: its answer is not of the protocol of criu's rpc.proto")]
    Protocol {
        /// What was asked for.
        verb: &'static str,
    },
    /// A directory or file of the images could not be handled.
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
    /// A directory is not what it should be.
    #[error("{flag} {path:?}: {problem}")]
    Images {
        /// The flag that names it.
        flag: &'static str,
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The mount point or source of a mount of the config cannot be had.
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
    /// Something of our own failed.
    #[error("{attempted}: {}", errno_text(*errno))]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("ended with status {code}"),
        ExitStatus::Signal(signal) => format!("was killed by signal {signal}"),
    }
}
