//! The sources of mounts that init cannot find itself.
//!
//! In a new user namespace, init may lack the permission to reach a source on the host; in a mount
//! namespace that it joined, the host's mounts are missing. A child of the runtime, which keeps the
//! runtime's credentials, therefore opens each source while init mounts, and sends init the
//! descriptors one by one.

use std::os::fd::{AsFd, OwnedFd};

use coracle_rootfs::ProviderNamespaces;
use coracle_sys::{Cloned, NamespaceFlags, Parentage, ProcFs};
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, pipe2};

use crate::error::{Error, system};
use crate::runtime::{await_child, kill_and_reap};

/// Starts the child and returns its pidfd once the child is in init's mount namespace, or has
/// ended. The child ends after the last source, or when init has closed its socket. It reports
/// failures to init.
///
/// Call this before init proceeds: afterwards init is not dumpable, so its namespaces cannot be
/// opened, and it may have mounted over the root directory that the child is to use.
///
/// # Errors
/// [`Error::System`] if a namespace cannot be opened or the child cannot be cloned.
pub(crate) fn send(
    plan: &coracle_rootfs::Plan,
    mut opened: coracle_rootfs::Inherited,
    init: Pid,
) -> Result<OwnedFd, Error> {
    let open = |pid: Pid, name: &str| {
        ProcFs::mounted()?.open_target(&ProcFs::path_of(pid, name), OFlag::O_RDONLY)
    };
    let open =
        |pid, name| open(pid, name).map_err(system("open namespaces for the sources of mounts"));
    let parent = Pid::this();
    let (host, mounts, users) = (
        open(parent, "ns/mnt")?,
        open(init, "ns/mnt")?,
        open(init, "ns/user")?,
    );
    let (ready, signal) = pipe2(OFlag::O_CLOEXEC).map_err(system("make a pipe"))?;
    coracle_sys::assert_single_threaded();
    let cloned = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    match cloned.map_err(system("clone a process for the sources of mounts"))? {
        Cloned::Parent { pidfd, .. } => {
            drop(signal);
            // If the child ends early, that closes the pipe as well.
            let joined = await_child(
                "the process that opens the sources of mounts",
                ready.as_fd(),
            );
            joined.map_err(|errno| {
                let _ = kill_and_reap(pidfd.as_fd());
                system("wait for the sources of mounts")(errno)
            })?;
            Ok(pidfd)
        }
        Cloned::Child => {
            #[cfg(debug_assertions)]
            coracle_sys::allocation::forbid();
            // This process enters the container's namespaces with the runtime's credentials: not
            // dumpable, it cannot be traced from there, nor can its descriptors be opened.
            let alone = prctl::set_dumpable(false)
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
