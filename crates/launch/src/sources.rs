//! The sources of mounts for a container with a user namespace of its own.
//!
//! The kernel locks the flags of mounts, and mounts on what they cover, when a mount namespace is
//! copied for another user namespace. A clone made on the host would be free of locks, and root in
//! the container could lift what the host had restricted. So a child of the runtime goes into
//! init's mount namespace, with the credentials of the runtime, since init itself may be unable to
//! walk to a source. It clones the sources there, and they go to init over the link.

use std::os::fd::{AsFd, BorrowedFd};

use coracle_sys::{Call, Cloned, ExitStatus, Fault, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::error::Error;
use crate::message::{self, Message, Stage};

/// Has a child send the sources to init. False if it failed: then init was told why, if it lives.
///
/// # Errors
/// [`Error::Runtime`] of the clone.
pub(crate) fn send(
    plan: &coracle_rootfs::Plan,
    slots: &coracle_rootfs::Slots,
    init: BorrowedFd,
    link: BorrowedFd,
) -> Result<bool, Error> {
    let failed = |attempted| move |errno| Error::Runtime { attempted, errno };
    coracle_sys::assert_single_threaded();
    let parent = Pid::this();
    let cloned = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    match cloned.map_err(failed("clone a process for the sources of mounts"))? {
        Cloned::Parent { pidfd, .. } => {
            let status = coracle_sys::wait_exit(pidfd.as_fd());
            match status.map_err(failed("wait for the sources of mounts"))? {
                ExitStatus::Code(0) => Ok(true),
                ExitStatus::Code(_) => Ok(false),
                ExitStatus::Signal(_) => {
                    Err(failed("clone the sources of mounts")(Errno::ECANCELED))
                }
            }
        }
        Cloned::Child => {
            #[cfg(debug_assertions)]
            coracle_sys::allocation::forbid();
            if let Err((stage, fault)) = clone_sources(plan, slots, (parent, init), link) {
                let _ = message::send(link, Message::Failed(stage, fault), None);
                coracle_sys::exit(1)
            }
            coracle_sys::exit(0)
        }
    }
}

/// The child's part. Does not allocate.
fn clone_sources(
    plan: &coracle_rootfs::Plan,
    slots: &coracle_rootfs::Slots,
    (parent, init): (Pid, BorrowedFd),
    link: BorrowedFd,
) -> Result<(), (Stage, Fault)> {
    let session = |call: Call| move |errno| (Stage::Session, Fault::new(0, call, errno));
    coracle_sys::die_with_parent(parent, Signal::SIGKILL).map_err(session(Call::Prctl))?;
    coracle_sys::setns(init, NamespaceFlags::MOUNT).map_err(session(Call::Setns))?;
    coracle_rootfs::clone_sources(plan, slots, |number, tree| {
        message::send(link, Message::Source(number), Some(tree))
    })
    .map_err(|fault| (Stage::Rootfs, fault))
}
