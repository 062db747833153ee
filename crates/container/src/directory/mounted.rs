//! What is mounted from a container's directory, or on it: files that the container shares, its
//! network namespace, and where criu has the root file system.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use coracle_checkpoint::Readiness;
use coracle_sys::OpenTreeFlags;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Directory, NETNS, NOTIFY, READY, ROOT};
use crate::clear::{clear, open_below};
use crate::error::{Error, with_path};

impl Directory {
    /// Makes the directory that is mounted into the container for NOTIFY_SOCKET.
    pub(crate) fn make_notify(&self) -> Result<(), Error> {
        mkdirat(&self.handle, NOTIFY, Mode::from_bits_truncate(0o755))
            .map_err(|errno| self.failed("make", NOTIFY, errno))?;
        self.share(NOTIFY, 0o755)
    }

    pub(crate) fn notify(&self) -> PathBuf {
        self.path.join(NOTIFY)
    }

    /// The file that is made once the program has reported that it is ready.
    pub(crate) fn ready(&self) -> PathBuf {
        self.path.join(READY)
    }

    /// Whether the program has yet to report that it is ready.
    pub(crate) fn readiness(&self) -> Readiness {
        match self.has(NOTIFY) && !self.has(READY) {
            true => Readiness::Awaited,
            false => Readiness::NotAwaited,
        }
    }

    /// Writes a file that is mounted into the container and readable for any user. An existing file
    /// keeps its inode, which is mounted.
    pub(crate) fn write_shared(&self, name: &str, text: &str) -> Result<(), Error> {
        self.write(name, text.as_bytes())?;
        self.share(name, 0o644)
    }

    /// Sets a mode that lets any user of the container access the file, whatever the umask is.
    fn share(&self, name: &str, mode: u32) -> Result<(), Error> {
        let mode = Mode::from_bits_truncate(mode);
        fchmodat(&self.handle, name, mode, FchmodatFlags::NoFollowSymlink)
            .map_err(|errno| self.failed("change the mode of", name, errno))
    }

    /// Mounts the network namespace in this directory, so that it stays for the plugins even if
    /// init ends, until it is unpinned. `None` without the permission to mount.
    pub(crate) fn pin_network(&self, namespace: BorrowedFd) -> Result<Option<PathBuf>, Error> {
        self.write(NETNS, b"")?;
        let flags = OpenTreeFlags::CLONE | OpenTreeFlags::EMPTY_PATH;
        let mounted = coracle_sys::open_tree(namespace, c"", flags)
            .and_then(|mount| coracle_sys::move_mount(mount.as_fd(), self.handle(), c"netns"));
        match mounted {
            Ok(()) => Ok(Some(self.path.join(NETNS))),
            Err(Errno::EPERM) => Ok(None),
            Err(errno) => Err(self.failed("mount", NETNS, errno)),
        }
    }

    /// The path of the pinned network namespace, if it exists.
    pub(crate) fn pinned_network(&self) -> Option<PathBuf> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = openat(&self.handle, NETNS, flags, Mode::empty()).ok()?;
        let magic = coracle_sys::file_system_magic(file.as_fd()).ok()?;
        (magic == coracle_sys::NSFS_MAGIC).then(|| self.path.join(NETNS))
    }

    /// Unmounts the network namespace, if it was pinned.
    pub(crate) fn unpin_network(&self) -> Result<(), Error> {
        if !self.has(NETNS) {
            return Ok(());
        }
        if let Some(path) = self.pinned_network() {
            detach(&path)?;
        }
        self.unlink(NETNS)
    }

    /// Makes an empty directory for criu to mount on, and returns its path.
    pub(crate) fn make_root(&self) -> Result<PathBuf, Error> {
        self.private(|| mkdirat(&self.handle, ROOT, Mode::S_IRWXU))
            .map_err(|errno| self.failed("make", ROOT, errno))?;
        Ok(self.path.join(ROOT))
    }

    /// Removes that directory, if it exists.
    pub(crate) fn remove_root(&self) -> Result<(), Error> {
        match unlinkat(&self.handle, ROOT, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", ROOT, errno)),
        }
    }

    /// Empties it first: a container that may mount can remount the directory writable, and make
    /// files.
    pub(super) fn remove_notify(&self) -> nix::Result<()> {
        match open_below(&self.handle, NOTIFY) {
            Ok(notify) => clear(notify.as_fd())?,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        match unlinkat(&self.handle, READY, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        unlinkat(&self.handle, NOTIFY, UnlinkatFlags::RemoveDir)
    }
}

/// Unmounts the root that a container without a mount namespace has left on the host.
pub(crate) fn detach(path: &Path) -> Result<(), Error> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: not a mount point, since init did not get so far.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(with_path("umount2", path)(errno)),
    }
}
