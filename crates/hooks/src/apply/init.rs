//! Hooks of the container: no allocation here.

use super::launch::{Surroundings, start};
use crate::Command;
use crate::error::{Check, cause};
use coracle_program::Limits;
use coracle_sys::{Cause, Fault};
use nix::sys::signal::Signal;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Runs hooks in init's namespaces one after the other, up to the first that fails.
///
/// `stdin` has a file of [`crate::stdin_files`] for each. Both output streams go to `output`, the
/// writing end of a pipe that the runtime must read meanwhile; without one they stay init's own.
/// `home` is the process's `HOME=…`, where its environment lacks it: hooks that
/// get that environment get it too. The hooks get init's working directory, user and capabilities
/// as they are at this moment.
///
/// # Errors
/// The hook that failed as the step, and how: see [`crate::Plan::explain`].
pub fn run_in_container(
    commands: &[Command],
    stdin: &[OwnedFd],
    output: Option<BorrowedFd<'_>>,
    home: Option<&CStr>,
) -> Result<(), Fault> {
    for ((step, command), index) in (0..).zip(commands).zip(0_usize..) {
        let run = || -> Result<(), Cause> {
            // A plan and inputs that don't match must not skip a hook.
            let stdin = stdin.get(index).ok_or(Check::NoInput)?;
            let surroundings = Surroundings {
                stdin: stdin.as_fd(),
                output,
                added: home.filter(|_| command.of_process),
                parent_death_signal: command.dies_with_init.then_some(Signal::SIGKILL),
            };
            let hook = start(command, &surroundings).map_err(cause)?;
            let limits = Limits {
                timeout: command.timeout,
                ..Limits::default()
            };
            coracle_program::wait(&hook, &mut [], &limits).map_err(cause)
        };
        run().map_err(Cause::at(step))?;
    }
    Ok(())
}
