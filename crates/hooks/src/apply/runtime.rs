//! Hooks of the runtime's namespaces, and what init's hooks need from the runtime.

use super::launch::{start, wait};
use super::output::Output;
use crate::{Command, Error, Failure};
use coracle_bundle::HookPoint;
use coracle_sys::Call;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// MFD_NOEXEC_SEAL of linux/memfd.h, since 6.3.
const NOEXEC_SEAL: libc::c_uint = 0x8;

/// Runs hooks one after the other, up to the first that fails.
///
/// They get the runtime's working directory and umask, and its namespaces. `state` is the state's
/// JSON.
///
/// # Errors
/// The hook that failed, how, and the end of its output. With `init`, a pidfd, a hook is
/// killed and fails when the container's init ends.
pub fn run(
    point: HookPoint,
    commands: &[Command],
    state: &[u8],
    init: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let mut hooks = (0..).zip(commands);
    hooks.try_for_each(|hook| run_one(point, hook, state, init))
}

/// Runs all hooks, also after one failed, as `poststop` demands. Returns the failures.
#[must_use]
pub fn run_all(point: HookPoint, commands: &[Command], state: &[u8]) -> Vec<Error> {
    let hooks = (0..).zip(commands);
    hooks
        .filter_map(|hook| run_one(point, hook, state, None).err())
        .collect()
}

fn run_one(
    point: HookPoint,
    (index, command): (usize, &Command),
    state: &[u8],
    init: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let stdin = state_file(state)?;
    let (mut output, writer) = Output::pipe()?;
    let answer = run_command(command, &stdin, (writer, &mut output), init);
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
    (writer, output): (OwnedFd, &mut Output),
    init: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    let hook = start(command, stdin.as_fd(), Some(writer.as_fd()), None)?;
    // Else the pipe would never end.
    drop(writer);
    let answer = wait(&hook, command.timeout, Some(&mut *output), init);
    // What it wrote between our last look and its end.
    output.read();
    answer
}

/// An empty stdin for each of `commands` of [`crate::run_in_container`], made before the clone.
/// Each hook has its own, since each starts reading at the beginning.
///
/// # Errors
/// No memory or descriptor is left.
pub fn stdin_files(commands: &[Command]) -> Result<Vec<OwnedFd>, Error> {
    commands.iter().map(|_| empty_file()).collect()
}

/// Writes the state into files of [`stdin_files`], once: the clone has happened, init's pid is
/// known, and init has not yet been let go on.
///
/// # Errors
/// No memory is left.
pub fn fill_stdin(files: &[OwnedFd], state: &[u8]) -> Result<(), Error> {
    files.iter().try_for_each(|file| fill(file, state))
}

fn state_file(state: &[u8]) -> Result<OwnedFd, Error> {
    let file = empty_file()?;
    fill(&file, state)?;
    Ok(file)
}

/// A file in memory: unlike a pipe it takes a state of any size at once and knows no EPIPE.
fn empty_file() -> Result<OwnedFd, Error> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let not_executable = flags | MFdFlags::from_bits_retain(NOEXEC_SEAL);
    let file = match memfd_create(c"state", not_executable) {
        // Before 6.3.
        Err(Errno::EINVAL) => memfd_create(c"state", flags),
        answer => answer,
    };
    file.map_err(|errno| Error::State {
        call: Call::Open,
        errno,
    })
}

/// Sealed afterwards, so that a hook in the container has nothing to change.
fn fill(file: &OwnedFd, state: &[u8]) -> Result<(), Error> {
    let failed = |call| move |errno| Error::State { call, errno };
    let mut done = 0;
    while let Some(rest @ [_, ..]) = state.get(done..) {
        // At an offset: the position that the hook reads from stays at the start.
        let offset = libc::off_t::try_from(done).unwrap_or(libc::off_t::MAX);
        done += pwrite(file, rest, offset).map_err(failed(Call::Write))?;
    }
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).map_err(failed(Call::Open))?;
    Ok(())
}
