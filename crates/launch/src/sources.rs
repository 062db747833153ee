//! The sources of mounts that init cannot find itself.
//!
//! With a user namespace of the container's own, mapped root may be unable to walk to a source; in
//! a mount namespace that was there before, the host's mounts are missing. So a child of the
//! runtime with its credentials finds them while init mounts, and sends one after the other.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use coracle_rootfs::ProviderNamespaces;
use coracle_sys::{Cloned, Dumpable, NamespaceFlags, Parentage, ProcFs};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, pipe2, read};

use crate::error::Error;

/// Starts the child, and returns its pidfd when it is in init's mount namespace, or ended. It ends
/// when it has sent all, or when init does not listen any more. Init learns from it what failed.
///
/// Init must not have proceeded: it can neither be looked into afterwards, nor may it
/// have mounted over the root that the child gets.
///
/// # Errors
/// [`Error::Runtime`] of the clone and what comes before.
pub(crate) fn send(
    plan: &coracle_rootfs::Plan,
    mut opened: coracle_rootfs::Inherited,
    init: Pid,
) -> Result<OwnedFd, Error> {
    let failed = |attempted| move |errno| Error::Runtime { attempted, errno };
    let open = |pid: Pid, name: &str| {
        let path = CString::new(format!("{pid}/ns/{name}")).map_err(|_| Errno::EINVAL)?;
        ProcFs::mounted()?.open_target(&path, OFlag::O_RDONLY)
    };
    let open =
        |pid, name| open(pid, name).map_err(failed("open namespaces for the sources of mounts"));
    let parent = Pid::this();
    let (host, mounts, users) = (
        open(parent, "mnt")?,
        open(init, "mnt")?,
        open(init, "user")?,
    );
    let (ready, signal) = pipe2(OFlag::O_CLOEXEC).map_err(failed("make a pipe"))?;
    coracle_sys::assert_single_threaded();
    let cloned = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    match cloned.map_err(failed("clone a process for the sources of mounts"))? {
        Cloned::Parent { pidfd, .. } => {
            drop(signal);
            // Its end closes the pipe, too.
            while read(&ready, &mut [0]) == Err(Errno::EINTR) {}
            Ok(pidfd)
        }
        Cloned::Child => {
            #[cfg(debug_assertions)]
            coracle_sys::allocation::forbid();
            // Nobody of the container may look into this process, whatever namespaces they share.
            let alone = coracle_sys::set_dumpable(Dumpable::No)
                .and_then(|()| coracle_sys::die_with_parent(parent, Signal::SIGKILL));
            if alone.is_ok() {
                let namespaces = ProviderNamespaces {
                    host: host.as_fd(),
                    mounts: mounts.as_fd(),
                    users: users.as_fd(),
                };
                coracle_rootfs::provide(plan, &mut opened, namespaces, || drop(signal));
            }
            coracle_sys::exit(0)
        }
    }
}
