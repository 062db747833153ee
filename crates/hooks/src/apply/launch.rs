//! One hook from its start to its end: the same for both actors, so no allocation here.

use crate::Command;
use coracle_program::{Execution, Failure, Program};
use nix::sys::signal::Signal;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// What a hook gets besides its command.
pub(super) struct Surroundings<'a> {
    pub(super) stdin: BorrowedFd<'a>,
    /// Without it the hook keeps our stdout and stderr.
    pub(super) output: Option<BorrowedFd<'a>>,
    /// One variable more of its environment.
    pub(super) added: Option<&'a CStr>,
    /// Comes when we end.
    pub(super) parent_death_signal: Option<Signal>,
}

/// Clones a process that becomes the command.
pub(super) fn start(command: &Command, with: &Surroundings<'_>) -> Result<Program, Failure> {
    let execution = Execution {
        path: &command.path,
        arguments: &command.argv,
        environment: &command.env,
        added: with.added,
        stdin: with.stdin,
        stdout: with.output,
        stderr: with.output,
        parent_death_signal: with.parent_death_signal,
    };
    coracle_program::start(&execution).map_err(|(call, errno)| Failure::Call(call, errno))
}
