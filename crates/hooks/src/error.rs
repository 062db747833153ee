//! How hooks fail.

use coracle_bundle::HookPoint;
use coracle_program::Failure;
use coracle_sys::{Call, Fault};
use coracle_text::errno_text;
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

/// For the way from init to the runtime. A fault has room for an errno only, so a status or a
/// signal travels as the errno of that number; those from 134 on have none and get lost.
pub(crate) fn into_fault(failure: Failure, step: u32) -> Fault {
    match failure {
        Failure::Start(errno) => Fault::new(step, Call::Exec, errno),
        Failure::Status(status) => Fault::new(step, Call::ExitStatus, Errno::from_raw(status)),
        Failure::Signal(signal) => Fault::new(step, Call::Kill, Errno::from_raw(signal)),
        Failure::TimeOut(_) => Fault::new(step, Call::TimeOut, Errno::ETIMEDOUT),
        Failure::ContainerGone => Fault::new(step, Call::Check, Errno::ESRCH),
        Failure::Call(call, errno) => Fault::new(step, call, errno),
        // Init reads no output and catches no signal.
        Failure::TooLong(_) => Fault::new(step, Call::Read, Errno::EFBIG),
        Failure::Interrupted => Fault::new(step, Call::Poll, Errno::EINTR),
    }
}

pub(crate) fn of_fault(fault: &Fault, timeout: Option<Duration>) -> Failure {
    match fault.call {
        Call::Exec => Failure::Start(fault.errno),
        Call::ExitStatus => Failure::Status(fault.errno as i32),
        Call::Kill => Failure::Signal(fault.errno as i32),
        Call::TimeOut => Failure::TimeOut(timeout),
        call => Failure::Call(call, fault.errno),
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
