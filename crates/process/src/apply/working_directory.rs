//! The working directory: made where missing, entered, and verified to be in the jail.

use crate::plan::working_directory::WorkingDirectory;
use coracle_sys::{AT_FDCWD, Call, Fault, getcwd, open_beneath, open_in_root};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::{Mode, mkdirat, umask};
use nix::unistd::fchdir;
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
    let root = open_root().map_err(Call::Openat2.at(step))?;
    match open(root.as_fd(), cwd) {
        Err(Errno::ENOENT) => make_levels(root, cwd, step),
        // Whatever else is wrong will show, and be told, when the directory is entered.
        _ => Ok(()),
    }
}

/// Enters the directory with root's rights. Refusal is not yet a failure: the user may fare better.
pub(crate) fn enter(cwd: &WorkingDirectory, step: u32) -> Result<Entered, Fault> {
    make(cwd, step)?;
    match change(cwd, step) {
        Ok(()) => verify(step).map(|()| Entered::Yes),
        Err(fault) if fault.errno == Errno::EACCES => Ok(Entered::Denied),
        Err(fault) => Err(fault),
    }
}

/// Enters the directory as the process's user.
pub(crate) fn enter_as_user(cwd: &WorkingDirectory, step: u32) -> Result<(), Fault> {
    change(cwd, step)?;
    verify(step)
}

fn open_root() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    open_beneath(AT_FDCWD, c"/", flags, Mode::empty(), ResolveFlag::empty())
}

/// No magic link is followed: `/proc/self/fd/N` would lead to whatever directory of the host the
/// runtime or its caller left open (CVE-2024-21626).
fn open(root: BorrowedFd, cwd: &WorkingDirectory) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    open_in_root(root, &cwd.path, flags, Mode::empty())
}

fn make_levels(root: OwnedFd, cwd: &WorkingDirectory, step: u32) -> Result<(), Fault> {
    // The mode is meant as it stands, whatever mask the caller left us.
    let mask = umask(Mode::empty());
    let made = make_each(root, cwd, step);
    umask(mask);
    made
}

/// From the top down, each in the descriptor of its parent (CVE-2024-45310: a path that is
/// resolved twice may lead elsewhere the second time).
fn make_each(root: OwnedFd, cwd: &WorkingDirectory, step: u32) -> Result<(), Fault> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let open = |path| open_in_root(root.as_fd(), path, flags, Mode::empty());
    let mut parent = open(c"/").map_err(Call::Openat2.at(step))?;
    for level in &cwd.levels {
        parent = match open(&level.path) {
            Err(Errno::ENOENT) => {
                let mode = Mode::from_bits_truncate(0o755);
                match mkdirat(&parent, level.name.as_c_str(), mode) {
                    Ok(()) | Err(Errno::EEXIST) => open(&level.path),
                    Err(errno) => return Err(Fault::new(step, Call::Mkdir, errno)),
                }
            }
            other => other,
        }
        .map_err(Call::Openat2.at(step))?;
    }
    Ok(())
}

fn change(cwd: &WorkingDirectory, step: u32) -> Result<(), Fault> {
    let root = open_root().map_err(Call::Openat2.at(step))?;
    let directory = open(root.as_fd(), cwd).map_err(Call::Openat2.at(step))?;
    fchdir(&directory).map_err(Call::Fchdir.at(step))
}

/// The kernel's own word that the directory is below our root (CVE-2024-21626). It has to be asked
/// before a seccomp filter loads, which may deny the call.
fn verify(step: u32) -> Result<(), Fault> {
    let mut buffer = [0; 4096];
    match getcwd(&mut buffer) {
        Ok(path) if path.starts_with(b"/") => Ok(()),
        // `(unreachable)/some/path/of/the/host`
        Ok(_) => Err(Fault::new(step, Call::Check, Errno::EXDEV)),
        Err(Errno::ENOENT) => Err(Fault::new(step, Call::Check, Errno::ENOENT)),
        Err(errno) => Err(Fault::new(step, Call::Getcwd, errno)),
    }
}
