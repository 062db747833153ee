//! Mounts of a running container: where they are attached, and how they are taken away.

use super::inherited::Inherited;
use super::source::{self, Failure};
use super::target;
use crate::plan::Node;
use crate::plan::explain::Check;
use coracle_bundle::Device;
use coracle_sys::{Call, Cause, NamespaceFlags, mount_id, open_in_root, setns};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, fchdir, unlinkat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

impl Inherited {
    /// Names the root of a running container, below which [`crate::mounts`] attaches what it
    /// opens, and the mount namespace, which the process joins before it attaches.
    ///
    /// Sources are found where the process is, and a detached mount of one namespace may be
    /// attached in another. A plan of this kind has one step, since no source of the host can be
    /// found after the join.
    pub fn attach_in(&mut self, root: OwnedFd, namespace: OwnedFd) {
        self.root = Some(root);
        self.namespace = Some(namespace);
    }

    /// Joins the mount namespace of [`Inherited::attach_in`], if there is one.
    pub(super) fn enter(&mut self) -> Result<(), Failure> {
        match self.namespace.take() {
            Some(namespace) => {
                setns(namespace.as_fd(), NamespaceFlags::MOUNT).map_err(Call::Setns.failed())
            }
            None => Ok(()),
        }
    }
}

/// Unmounts what is at `place`, a path below `root` without links, with all that is mounted below
/// it, if it is the mount of this id. What processes have open stays usable for them. For a process
/// in the container's mount namespace. Does not allocate.
///
/// # Errors
/// The call that failed; a check if another mount is there.
pub fn detach(root: BorrowedFd<'_>, place: &CStr, mount: u64) -> Result<(), Cause> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let found = open_in_root(root, place, flags, Mode::empty());
    let found = found.map_err(Call::Openat2.failed())?;
    if id_of(found.as_fd())? != mount {
        return Err(Check::OtherMount.into());
    }
    drop(found);
    let (parent, name) = target::existing_parent(root, place)?;
    unmount(parent.as_fd(), name)
}

/// Removes the node of a device, and the mount on it if it is the host's, if it is still there. For
/// a process in the container's mount namespace. Does not allocate.
///
/// # Errors
/// The call that failed; a check if something else is there.
pub fn remove_node(root: BorrowedFd<'_>, place: &CStr, device: &Device) -> Result<(), Cause> {
    let (parent, name) = match target::existing_parent(root, place) {
        Err(Cause::Call(_, Errno::ENOENT)) => return Ok(()),
        parent => parent?,
    };
    let node = match target::inode(parent.as_fd(), name) {
        Err(Errno::ENOENT) => return Ok(()),
        node => node.map_err(Call::Open.failed())?,
    };
    let stat = fstat(&node).map_err(Call::Stat.failed())?;
    if !source::is_node(&stat, Node::of(device)) {
        return Err(Check::OtherDevice.into());
    }
    if id_of(node.as_fd())? != id_of(parent.as_fd())? {
        unmount(parent.as_fd(), name)?;
    }
    unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir).map_err(Call::Unlink.failed())
}

fn id_of(file: BorrowedFd<'_>) -> Result<u64, Cause> {
    mount_id(file).map_err(Call::Stat.failed())
}

fn unmount(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Cause> {
    fchdir(parent).map_err(Call::Fchdir.failed())?;
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    umount2(name, flags).map_err(Call::Umount.failed())
}
