//! How hooks fail.

use coracle_bundle::HookPoint;
use coracle_program::Failure;
use coracle_sys::{Call, Cause, ExitStatus};
use coracle_text::{cause_text, errno_text};
use nix::errno::Errno;
use std::time::Duration;

/// What the runtime's side failed at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A hook failed.
    #[error("{}: {failure}{}", attempted(*.point, *.index, .path), after_colon(.output))]
    Hook {
        /// Where it is listed.
        point: HookPoint,
        /// Its place in the list.
        index: usize,
        /// Its path.
        path: String,
        /// How it failed.
        failure: Failure,
        /// The end of its output on one line, maybe empty.
        output: String,
    },
    /// The state could not be prepared for a hook.
    #[error("prepare the state for hooks: {}: {}", .call.name(), errno_text(*.errno))]
    State {
        /// What failed.
        call: Call,
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

coracle_text::checks! {
    TimeOut = "timed out",
    NoInput = "the runtime has prepared no input for it",
    Interrupted = "killed",
}

/// For the way from init to the runtime.
pub(crate) fn cause(failure: Failure) -> Cause {
    match failure {
        Failure::Start(errno) => Cause::Call(Call::Exec, errno),
        Failure::Status(status) => Cause::Exit(ExitStatus::Code(status)),
        Failure::Signal(signal) => Cause::Exit(ExitStatus::Signal(signal)),
        Failure::Call(call, errno) => Cause::Call(call, errno),
        Failure::TimeOut(_) => Check::TimeOut.into(),
        // Init reads no output, catches no signal, and waits for no container.
        Failure::TooLong(_) | Failure::ContainerGone | Failure::Interrupted => {
            Check::Interrupted.into()
        }
    }
}

/// What [`cause`] was made of, in words. Only the plan knows the time limit.
pub(crate) fn explain(cause: Cause, timeout: Option<Duration>) -> String {
    match cause {
        Cause::Call(Call::Exec, errno) => Failure::Start(errno).to_string(),
        cause if cause == Check::TimeOut.into() => Failure::TimeOut(timeout).to_string(),
        Cause::Check(number) => Check::text(number).to_owned(),
        cause => cause_text(cause),
    }
}

/// What a failure begins with: scripts match it in the output of runc, which also counts from 0.
pub(crate) fn attempted(point: HookPoint, index: usize, path: &str) -> String {
    format!("error running {} hook #{index}: {path}", point.name())
}

fn after_colon(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(": {output}")
    }
}
