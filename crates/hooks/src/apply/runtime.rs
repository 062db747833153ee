//! Hooks that run in the runtime's namespaces, and the standard input of those that init runs.

use super::execution::{execution, start};
use super::files::Files;
use crate::{Command, Error};
use coracle_bundle::HookPoint;
use coracle_program::{Failure, Limits, Output};
use coracle_sys::Call;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Runs hooks one after the other, up to the first that fails.
///
/// They have the runtime's working directory, umask and namespaces. `state` is the container's
/// state as JSON. `limits` apply besides each hook's own timeout.
///
/// # Errors
/// [`Error::Hook`] for the first hook that failed, with the end of its output.
pub fn run(
    point: HookPoint,
    commands: &[Command],
    files: &Files,
    state: &[u8],
    limits: &Limits,
) -> Result<(), Error> {
    let mut hooks = (0..).zip(commands);
    hooks.try_for_each(|hook| run_one((point, hook), files, state, limits))
}

/// Runs all hooks, even after one has failed, as runtime.md § Lifecycle demands of `poststop`.
/// Returns the failures.
#[must_use]
pub fn run_all(
    point: HookPoint,
    commands: &[Command],
    files: &Files,
    state: &[u8],
    limits: &Limits,
) -> Vec<Error> {
    let hooks = (0..).zip(commands);
    hooks
        .filter_map(|hook| run_one((point, hook), files, state, limits).err())
        .collect()
}

fn run_one(
    (point, (index, command)): (HookPoint, (usize, &Command)),
    files: &Files,
    state: &[u8],
    limits: &Limits,
) -> Result<(), Error> {
    let stdin = coracle_program::input(STATE, state).map_err(state_error)?;
    let (output, writer) = Output::pipe().map_err(|errno| Error::Pipe { errno })?;
    let mut outputs = [output];
    let limits = Limits {
        timeout: command.timeout,
        ..*limits
    };
    let wait = coracle_sys::wait_for(&format!("hook {}", command.path.to_string_lossy()));
    let answer = run_command((command, files), &stdin, (writer, &mut outputs), &limits);
    drop(wait);
    let [output] = outputs;
    answer.map_err(|failure| Error::Hook {
        point,
        index,
        path: command.path.to_string_lossy().into_owned(),
        failure,
        output: output.text(),
    })
}

fn run_command(
    (command, files): (&Command, &Files),
    stdin: &OwnedFd,
    (writer, outputs): (OwnedFd, &mut [Output]),
    limits: &Limits,
) -> Result<(), Failure> {
    limits.check()?;
    let hook = start(&execution(
        command,
        stdin.as_fd(),
        files.or(Some(writer.as_fd())),
    ))?;
    // Otherwise the pipe would have no end of file.
    drop(writer);
    coracle_program::wait(&hook, outputs, limits)
}

/// Makes, before the clone, an empty standard input for each of the `commands` of
/// [`crate::run_in_container`]. Each hook has its own, since they would share the file offset.
///
/// # Errors
/// [`Error::State`] if there is no memory or descriptor left.
pub fn stdin_files(commands: &[Command]) -> Result<Vec<OwnedFd>, Error> {
    let files = commands.iter().map(|_| coracle_program::empty_input(STATE));
    files.collect::<Result<_, _>>().map_err(state_error)
}

/// Writes the state into files of [`stdin_files`]. Call it once, after the clone, since the state
/// has init's pid, and before init proceeds.
///
/// # Errors
/// [`Error::State`] if there is no memory left.
pub fn fill_stdin(files: &[OwnedFd], state: &[u8]) -> Result<(), Error> {
    let mut files = files.iter();
    let filled = files.try_for_each(|file| coracle_program::fill_input(file, state));
    filled.map_err(state_error)
}

/// The name of the memory file, visible in `/proc/PID/fd`.
const STATE: &std::ffi::CStr = c"state";

fn state_error((call, errno): (Call, Errno)) -> Error {
    Error::State { call, errno }
}
