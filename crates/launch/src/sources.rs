//! The sources of mounts that init cannot find itself.
//!
//! With a user namespace of the container's own, mapped root may be unable to walk to a source; in
//! a mount namespace that was there before, the host's mounts are missing. So a child of the
//! runtime with its credentials finds them while init mounts, and sends one after the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_rootfs::Parties;
use coracle_sys::{Cloned, NamespaceFlags, Parentage};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::error::Error;

/// Starts the child, which ends when it has sent all, or when init does not listen any more. Init
/// learns from it what failed. Returns its pidfd.
///
/// # Errors
/// [`Error::Runtime`] of the clone.
pub(crate) fn send(
    plan: &coracle_rootfs::Plan,
    mut slots: coracle_rootfs::Slots,
    init: BorrowedFd,
) -> Result<OwnedFd, Error> {
    let failed = |attempted| move |errno| Error::Runtime { attempted, errno };
    coracle_sys::assert_single_threaded();
    let parent = Pid::this();
    let runtime = coracle_sys::pidfd_open(parent).map_err(failed("open the runtime's pidfd"))?;
    let cloned = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    match cloned.map_err(failed("clone a process for the sources of mounts"))? {
        Cloned::Parent { pidfd, .. } => Ok(pidfd),
        Cloned::Child => {
            #[cfg(debug_assertions)]
            coracle_sys::allocation::forbid();
            if coracle_sys::die_with_parent(parent, Signal::SIGKILL).is_ok() {
                let runtime = runtime.as_fd();
                coracle_rootfs::provide(plan, &mut slots, Parties { runtime, init });
            }
            coracle_sys::exit(0)
        }
    }
}
