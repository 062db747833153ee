//! The execution of one hook, by the runtime or by init. No allocation here.

use crate::Command;
use coracle_program::{Execution, Failure, Program};
use std::os::fd::BorrowedFd;

/// Where a hook's output goes. `None`: to what the process that runs it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streams<'a> {
    /// Standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// The execution of the command.
pub(super) fn execution<'a>(
    command: &'a Command,
    stdin: BorrowedFd<'a>,
    streams: Streams<'a>,
) -> Execution<'a> {
    Execution {
        path: &command.path,
        arguments: &command.argv,
        environment: &command.env,
        added: None,
        stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        parent_death_signal: None,
    }
}

/// Clones a process that executes the command.
pub(super) fn start(execution: &Execution) -> Result<Program, Failure> {
    coracle_program::start(execution).map_err(|(call, errno)| Failure::Call(call, errno))
}
