//! Errors of hooks.

use coracle_bundle::HookPoint;
use coracle_program::Failure;
use coracle_sys::{Call, Cause, ExitStatus};
use coracle_text::{Code, Detail, after_colon, cause_errno, cause_text, errno_text};
use nix::errno::Errno;
use std::path::PathBuf;
use std::time::Duration;

/// A failure on the runtime's side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A hook failed.
    #[error("{}: {failure}{}", attempted(*.point, *.index, .path), after_colon(.output))]
    Hook {
        /// Its point.
        point: HookPoint,
        /// Its index in the list of that point.
        index: usize,
        /// Its path.
        path: String,
        /// How it failed.
        failure: Failure,
        /// The end of its output on one line; may be empty.
        output: String,
    },
    /// The state could not be prepared for a hook.
    #[error("prepare the state for hooks: {}: {}", .call.name(), errno_text(*.errno))]
    State {
        /// The failed call.
        call: Call,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The file that an annotation names for output could not be opened.
    #[error("append the output of hooks to {path:?}: {}", errno_text(*.errno))]
    File {
        /// As in the config.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The pipe for output could not be made.
    #[error("make a pipe for the output of hooks: {}", errno_text(*.errno))]
    Pipe {
        /// The kernel's answer.
        errno: Errno,
    },
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        match self {
            Error::Hook {
                point,
                index,
                failure,
                ..
            } => detail(*point, *index, cause(*failure)),
            Error::File { path, errno } => Detail::new(Code::HookFailed)
                .path(path.display())
                .errno(*errno),
            Error::State { errno, .. } | Error::Pipe { errno } => {
                Detail::new(Code::RuntimeFailed).errno(*errno)
            }
        }
    }
}

/// What programs read of the failure of a hook.
pub(crate) fn detail(point: HookPoint, index: usize, cause: Cause) -> Detail {
    let code = match cause {
        cause if cause == Check::TimeOut.into() => Code::HookTimeOut,
        cause if cause == Check::Interrupted.into() => Code::RuntimeInterrupted,
        _ => Code::HookFailed,
    };
    Detail::new(code)
        .path(format_args!("hooks.{}[{index}]", point.name()))
        .errno(cause_errno(cause))
        .stage(point.name())
}

coracle_text::checks! {
    TimeOut = "timed out",
    NoInput = "the runtime has prepared no input for it",
    Interrupted = "killed",
}

/// The failure in the form in which init reports it.
pub(crate) fn cause(failure: Failure) -> Cause {
    match failure {
        Failure::Start(errno) => Cause::Call(Call::Exec, errno),
        Failure::Status(status) => Cause::Exit(ExitStatus::Code(status)),
        Failure::Signal(signal) => Cause::Exit(ExitStatus::Signal(signal)),
        Failure::Call(call, errno) => Cause::Call(call, errno),
        Failure::TimeOut(_) => Check::TimeOut.into(),
        // Not possible in init, which reads no output, catches no signal and has no pidfd to watch.
        Failure::TooLong(_)
        | Failure::ContainerGone
        | Failure::Interrupted
        | Failure::NotStarted => Check::Interrupted.into(),
    }
}

/// The text for a [`cause`]. The report has no time limit, so it comes from the plan.
pub(crate) fn explain(cause: Cause, timeout: Option<Duration>) -> String {
    match cause {
        Cause::Call(Call::Exec, errno) => Failure::Start(errno).to_string(),
        cause if cause == Check::TimeOut.into() => Failure::TimeOut(timeout).to_string(),
        Cause::Check(number) => Check::text(number).to_owned(),
        cause => cause_text(cause),
    }
}

/// The beginning of a failure's message. Scripts match it: runc has the same text, and counts from
/// 0, too.
pub(crate) fn attempted(point: HookPoint, index: usize, path: &str) -> String {
    format!("error running {} hook #{index}: {path}", point.name())
}
