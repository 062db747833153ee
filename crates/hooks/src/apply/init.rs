//! Hooks that init runs in the container, without allocating.

use super::execution::{Streams, execution, start};
use crate::Command;
use crate::error::{Check, cause};
use coracle_program::{Execution, Limits};
use coracle_sys::{Cause, Fault};
use nix::sys::signal::Signal;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

/// Runs hooks in init's namespaces one after the other, up to the first that fails.
///
/// `stdin` has a file of [`crate::stdin_files`] for each. If `streams` has the writing end of a
/// pipe, the runtime must read it meanwhile. `home` is the process's `HOME=…` if its environment
/// lacks it: hooks with that environment get it too. Hooks have init's current working directory,
/// user and capabilities.
///
/// # Errors
/// The index of the failed hook as the step, and the cause: see [`crate::Plan::explain`].
pub fn run_in_container(
    commands: &[Command],
    stdin: &[OwnedFd],
    streams: Streams<'_>,
    home: Option<&CStr>,
) -> Result<(), Fault> {
    for (step, command) in commands.iter().enumerate() {
        let run = || -> Result<(), Cause> {
            // Fewer inputs than hooks must not skip a hook.
            let stdin = stdin.get(step).ok_or(Check::NoInput)?;
            let execution = Execution {
                added: home.filter(|_| command.of_process),
                parent_death_signal: command.dies_with_init.then_some(Signal::SIGKILL),
                ..execution(command, stdin.as_fd(), streams)
            };
            let hook = start(&execution).map_err(cause)?;
            let limits = Limits {
                timeout: command.timeout,
                ..Limits::default()
            };
            coracle_program::wait(&hook, &mut [], &limits).map_err(cause)
        };
        run().map_err(Cause::at(step))?;
        coracle_sys::note_step(step);
    }
    Ok(())
}
