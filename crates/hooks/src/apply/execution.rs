//! The execution of one hook, by the runtime or by init. No allocation here.

use crate::Command;
use coracle_program::{Execution, Failure, Program};
use std::os::fd::BorrowedFd;

/// The execution of the command. Without `output`, the hook keeps this process's stdout and stderr.
pub(super) fn execution<'a>(
    command: &'a Command,
    stdin: BorrowedFd<'a>,
    output: Option<BorrowedFd<'a>>,
) -> Execution<'a> {
    Execution {
        path: &command.path,
        arguments: &command.argv,
        environment: &command.env,
        added: None,
        stdin,
        stdout: output,
        stderr: output,
        parent_death_signal: None,
    }
}

/// Clones a process that executes the command.
pub(super) fn start(execution: &Execution) -> Result<Program, Failure> {
    coracle_program::start(execution).map_err(|(call, errno)| Failure::Call(call, errno))
}
