//! The container's root directory, after the change of the root.

use coracle_sys::{AT_FDCWD, open_beneath};
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::Mode;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The root, below which paths of the image are resolved until `process.cwd` is entered: so long
/// init's working directory is its root.
pub(super) const ROOT: BorrowedFd<'static> = AT_FDCWD;

/// Opens the root, below which paths of the image are resolved after that.
pub(super) fn open_root() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    open_beneath(AT_FDCWD, c"/", flags, Mode::empty(), ResolveFlag::empty())
}
