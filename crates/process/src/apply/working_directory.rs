//! The working directory: made where missing, entered, and verified to be below the root.

use crate::plan::explain::Check;
use crate::plan::working_directory::WorkingDirectory;
use coracle_sys::{AT_FDCWD, Call, Cause, Fault, getcwd, open_beneath, open_in_root};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::{Mode, mkdirat, umask};
use nix::unistd::fchdir;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What came of the first try, by the container's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    Yes,
    /// Only its user may: a volume on a network, or of a user that root is not mapped to.
    Denied,
}

/// Makes what is missing of the path, as the container's root. Nothing happens if it is there.
pub(crate) fn make(cwd: &WorkingDirectory, step: u32) -> Result<(), Fault> {
    let root = open_root(step)?;
    match open(root.as_fd(), &cwd.path) {
        Err(Errno::ENOENT) => make_levels(root.as_fd(), cwd, step).map(drop),
        // Anything else that is wrong is reported when the directory is entered.
        _ => Ok(()),
    }
}

/// Makes and enters the directory with root's rights. Refusal is not yet a failure: the user may
/// fare better.
pub(crate) fn enter(cwd: &WorkingDirectory, step: u32) -> Result<Entered, Fault> {
    let root = open_root(step)?;
    let directory = match open(root.as_fd(), &cwd.path) {
        Err(Errno::ENOENT) => make_levels(root.as_fd(), cwd, step),
        opened => opened.map_err(Call::Openat2.at(step)),
    };
    match directory.and_then(|directory| fchdir(&directory).map_err(Call::Fchdir.at(step))) {
        Ok(()) => verify(step).map(|()| Entered::Yes),
        Err(fault) => match fault.cause {
            Cause::Call(_, Errno::EACCES) => Ok(Entered::Denied),
            _ => Err(fault),
        },
    }
}

/// Enters the directory as the process's user.
pub(crate) fn enter_as_user(cwd: &WorkingDirectory, step: u32) -> Result<(), Fault> {
    let root = open_root(step)?;
    let directory = open(root.as_fd(), &cwd.path).map_err(Call::Openat2.at(step))?;
    fchdir(&directory).map_err(Call::Fchdir.at(step))?;
    verify(step)
}

fn open_root(step: u32) -> Result<OwnedFd, Fault> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    open_beneath(AT_FDCWD, c"/", flags, Mode::empty(), ResolveFlag::empty())
        .map_err(Call::Openat2.at(step))
}

/// No magic link is followed: `/proc/self/fd/N` would lead to whatever directory of the host the
/// runtime or its caller left open (CVE-2024-21626).
fn open(root: BorrowedFd, path: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    open_in_root(root, path, flags, Mode::empty())
}

fn make_levels(root: BorrowedFd, cwd: &WorkingDirectory, step: u32) -> Result<OwnedFd, Fault> {
    // The mode is meant as it stands, whatever mask the caller left us.
    let mask = umask(Mode::empty());
    let made = make_each(root, cwd, step);
    umask(mask);
    made
}

/// From the top down, each in the descriptor of its parent (CVE-2024-45310: a path that is
/// resolved twice may lead elsewhere the second time).
fn make_each(root: BorrowedFd, cwd: &WorkingDirectory, step: u32) -> Result<OwnedFd, Fault> {
    let mut parent = open(root, c"/").map_err(Call::Openat2.at(step))?;
    for level in &cwd.levels {
        parent = match open(root, &level.path) {
            Err(Errno::ENOENT) => {
                let mode = Mode::from_bits_truncate(0o755);
                match mkdirat(&parent, level.name.as_c_str(), mode) {
                    Ok(()) | Err(Errno::EEXIST) => open(root, &level.path),
                    Err(errno) => return Err(Fault::new(step, (Call::Mkdir, errno))),
                }
            }
            opened => opened,
        }
        .map_err(Call::Openat2.at(step))?;
    }
    Ok(parent)
}

/// CVE-2024-21626: a working directory through an inherited descriptor is not below the root.
/// getcwd(2) shows that, and is called before a seccomp filter loads that may deny it.
fn verify(step: u32) -> Result<(), Fault> {
    let mut buffer = [0; 4096];
    match getcwd(&mut buffer) {
        Ok(path) if path.starts_with(b"/") => Ok(()),
        // `(unreachable)/some/path/of/the/host`, or one that is removed.
        Ok(_) | Err(Errno::ENOENT) => Err(Fault::new(step, Check::OutsideRoot)),
        Err(errno) => Err(Fault::new(step, (Call::Getcwd, errno))),
    }
}
