//! The working directory: made for init if it is missing, entered, and verified to be below the
//! root.

use super::root::ROOT;
use crate::plan::explain::Check;
use crate::plan::working_directory::WorkingDirectory;
use coracle_sys::{Call, Cause, Fault, getcwd, open_in_root};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat, umask};
use nix::unistd::fchdir;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Whether the container's root could enter the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    Yes,
    /// Root was denied. The process's user may still be allowed: on NFS with root squash, or if the
    /// owner is not mapped in the user namespace.
    Denied,
}

/// Makes the missing directories of the path, as the container's root.
pub(crate) fn make(cwd: &WorkingDirectory, step: usize) -> Result<(), Fault> {
    match open(&cwd.path) {
        Err(Errno::ENOENT) => make_levels(cwd, step),
        // Any other error is reported when the directory is entered.
        _ => Ok(()),
    }
}

/// Enters the directory, as the container's root. EACCES is no failure yet: it is tried once more
/// as the process's user.
pub(crate) fn enter(cwd: &WorkingDirectory, step: usize) -> Result<Entered, Fault> {
    if cwd.path.as_c_str() == c"/" {
        // It stands there already.
        return Ok(Entered::Yes);
    }
    let directory = open(&cwd.path).map_err(Call::Openat2.at(step));
    match directory.and_then(|directory| fchdir(&directory).map_err(Call::Fchdir.at(step))) {
        Ok(()) => verify(step).map(|()| Entered::Yes),
        Err(fault) => match fault.cause {
            Cause::Call(_, Errno::EACCES) => Ok(Entered::Denied),
            _ => Err(fault),
        },
    }
}

/// Enters the directory as the process's user.
pub(crate) fn enter_as_user(cwd: &WorkingDirectory, step: usize) -> Result<(), Fault> {
    let directory = open(&cwd.path).map_err(Call::Openat2.at(step))?;
    fchdir(&directory).map_err(Call::Fchdir.at(step))?;
    verify(step)
}

/// Opens a directory below the root, without following magic links: `/proc/self/fd/N` would lead to
/// a directory of the host that the runtime or its caller has open (CVE-2024-21626).
fn open(path: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    open_in_root(ROOT, path, flags, Mode::empty())
}

fn make_levels(cwd: &WorkingDirectory, step: usize) -> Result<(), Fault> {
    // The mode must not depend on the caller's umask.
    let mask = umask(Mode::empty());
    let made = make_each(cwd, step);
    umask(mask);
    made
}

/// Makes each directory, from the top down, through the descriptor of its parent: a path that is
/// resolved twice may lead elsewhere the second time (CVE-2024-45310).
fn make_each(cwd: &WorkingDirectory, step: usize) -> Result<(), Fault> {
    let mut parent = open(c"/").map_err(Call::Openat2.at(step))?;
    for level in &cwd.levels {
        parent = match open(&level.path) {
            Err(Errno::ENOENT) => {
                let mode = Mode::from_bits_truncate(0o755);
                match mkdirat(&parent, level.name.as_c_str(), mode) {
                    Ok(()) | Err(Errno::EEXIST) => open(&level.path),
                    Err(errno) => return Err(Fault::new(step, (Call::Mkdir, errno))),
                }
            }
            opened => opened,
        }
        .map_err(Call::Openat2.at(step))?;
    }
    Ok(())
}

/// A working directory entered through an inherited descriptor would not be below the root
/// (CVE-2024-21626). getcwd(2) shows this; it is called before a seccomp filter may deny it.
fn verify(step: usize) -> Result<(), Fault> {
    let mut buffer = [0; 4096];
    match getcwd(&mut buffer) {
        Ok(path) if path.starts_with(b"/") => Ok(()),
        // `(unreachable)/path/on/the/host`, or ENOENT for a directory that was removed.
        Ok(_) | Err(Errno::ENOENT) => Err(Fault::new(step, Check::OutsideRoot)),
        Err(errno) => Err(Fault::new(step, (Call::Getcwd, errno))),
    }
}
