//! Brings up the loopback device of a network namespace that criu has made: criu leaves it down.

use std::os::fd::AsFd;

use coracle_sys::{Cloned, ExitStatus, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::Error;

/// Has a child enter the network namespace of `pid` and bring up the device. criu restores
/// connections of the container to itself right after, and they need it.
///
/// # Errors
/// [`Error::System`].
pub fn raise_loopback(pid: i32) -> Result<(), Error> {
    let failed = |errno| Error::System {
        attempted: "bring the loopback device up",
        errno,
    };
    let path = format!("/proc/{pid}/ns/net");
    let namespace = open(
        path.as_str(),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let namespace = namespace.map_err(failed)?;
    coracle_sys::assert_single_threaded();
    let cloned = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    let pidfd = match cloned.map_err(failed)? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => {
            let done = coracle_sys::setns(namespace.as_fd(), NamespaceFlags::NETWORK)
                .and_then(|()| coracle_sys::loopback_up());
            coracle_sys::exit(done.map_or_else(|errno| errno as i32, |()| 0))
        }
    };
    match coracle_sys::wait_exit(pidfd.as_fd()).map_err(failed)? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(errno) => Err(failed(Errno::from_raw(errno))),
        ExitStatus::Signal(_) => Err(failed(Errno::EINTR)),
    }
}
