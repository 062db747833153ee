//! How hooks fail.

use crate::plan::attempted;
use coracle_bundle::HookPoint;
use coracle_sys::{Call, Fault};
use coracle_text::errno_text;
use nix::errno::Errno;
use std::fmt;
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

/// How one hook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not start: no such file, not executable, not a program.
    Start(Errno),
    /// It left with this status, not zero.
    Status(i32),
    /// This signal killed it.
    Signal(i32),
    /// It took longer than its `timeout`, if known, and was killed.
    TimeOut(Option<Duration>),
    /// The container ended meanwhile, so the hook was ended, too.
    ContainerGone,
    /// A call of ours failed.
    Call(Call, Errno),
}

impl Failure {
    /// For the way from init to the runtime. A fault has room for an errno only, so a status or a
    /// signal travels as the errno of that number; those from 134 on have none and get lost.
    pub(crate) fn into_fault(self, step: u32) -> Fault {
        match self {
            Failure::Start(errno) => Fault::new(step, Call::Exec, errno),
            Failure::Status(status) => Fault::new(step, Call::ExitStatus, Errno::from_raw(status)),
            Failure::Signal(signal) => Fault::new(step, Call::Kill, Errno::from_raw(signal)),
            Failure::TimeOut(_) => Fault::new(step, Call::TimeOut, Errno::ETIMEDOUT),
            Failure::ContainerGone => Fault::new(step, Call::Check, Errno::ESRCH),
            Failure::Call(call, errno) => Fault::new(step, call, errno),
        }
    }

    pub(crate) fn of_fault(fault: &Fault, timeout: Option<Duration>) -> Self {
        match fault.call {
            Call::Exec => Failure::Start(fault.errno),
            Call::ExitStatus => Failure::Status(fault.errno as i32),
            Call::Kill => Failure::Signal(fault.errno as i32),
            Call::TimeOut => Failure::TimeOut(timeout),
            call => Failure::Call(call, fault.errno),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Start(errno) => f.write_str(&errno_text(*errno)),
            Failure::Status(0) => f.write_str("exit status above 133"),
            Failure::Status(status) => write!(f, "exit status {status}"),
            Failure::Signal(0) => f.write_str("killed by a signal"),
            Failure::Signal(signal) => write!(f, "killed by signal {signal}"),
            Failure::TimeOut(Some(limit)) => write!(f, "timed out after {} s", limit.as_secs()),
            Failure::TimeOut(None) => f.write_str("timed out"),
            Failure::ContainerGone => f.write_str("ended, since the container was"),
            Failure::Call(call, errno) => write!(f, "{}: {}", call.name(), errno_text(*errno)),
        }
    }
}

fn after_colon(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(": {output}")
    }
}
