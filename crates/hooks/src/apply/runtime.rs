//! Hooks of the runtime's namespaces, and what init's hooks need from the runtime.

use super::launch::{Surroundings, start};
use crate::{Command, Error};
use coracle_bundle::HookPoint;
use coracle_program::{Failure, Limits, Output};
use coracle_sys::Call;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Runs hooks one after the other, up to the first that fails.
///
/// They get the runtime's working directory and umask, and its namespaces. `state` is the state's
/// JSON. The time limit is each hook's own; `limits` are the rest.
///
/// # Errors
/// The hook that failed, how, and the end of its output.
pub fn run(
    point: HookPoint,
    commands: &[Command],
    state: &[u8],
    limits: &Limits,
) -> Result<(), Error> {
    let mut hooks = (0..).zip(commands);
    hooks.try_for_each(|hook| run_one(point, hook, state, limits))
}

/// Runs all hooks, also after one failed, as `poststop` demands. Returns the failures.
#[must_use]
pub fn run_all(
    point: HookPoint,
    commands: &[Command],
    state: &[u8],
    limits: &Limits,
) -> Vec<Error> {
    let hooks = (0..).zip(commands);
    hooks
        .filter_map(|hook| run_one(point, hook, state, limits).err())
        .collect()
}

fn run_one(
    point: HookPoint,
    (index, command): (usize, &Command),
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
    let answer = run_command(command, &stdin, (writer, &mut outputs), &limits);
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
    command: &Command,
    stdin: &OwnedFd,
    (writer, outputs): (OwnedFd, &mut [Output]),
    limits: &Limits,
) -> Result<(), Failure> {
    limits.check()?;
    let surroundings = Surroundings {
        stdin: stdin.as_fd(),
        output: Some(writer.as_fd()),
        added: None,
        parent_death_signal: None,
    };
    let hook = start(command, &surroundings)?;
    // Else the pipe would never end.
    drop(writer);
    coracle_program::wait(&hook, outputs, limits)
}

/// An empty stdin for each of `commands` of [`crate::run_in_container`], made before the clone.
/// Each hook has its own, since each starts reading at the beginning.
///
/// # Errors
/// No memory or descriptor is left.
pub fn stdin_files(commands: &[Command]) -> Result<Vec<OwnedFd>, Error> {
    let files = commands.iter().map(|_| coracle_program::empty_input(STATE));
    files.collect::<Result<_, _>>().map_err(state_error)
}

/// Writes the state into files of [`stdin_files`], once: the clone has happened, init's pid is
/// known, and init has not yet been let go on.
///
/// # Errors
/// No memory is left.
pub fn fill_stdin(files: &[OwnedFd], state: &[u8]) -> Result<(), Error> {
    let mut files = files.iter();
    let filled = files.try_for_each(|file| coracle_program::fill_input(file, state));
    filled.map_err(state_error)
}

/// The name of the file in memory, which `/proc/PID/fd` shows.
const STATE: &std::ffi::CStr = c"state";

fn state_error((call, errno): (Call, Errno)) -> Error {
    Error::State { call, errno }
}
