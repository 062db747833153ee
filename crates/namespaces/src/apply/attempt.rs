//! Whether namespaces of a kind can be had, found by making one.

use coracle_host::Host;
use coracle_sys::{Capability, Cloned, ExitStatus, NamespaceFlags, NamespaceKind, Parentage};
use nix::errno::Errno;
use std::os::fd::AsFd;

/// Makes a namespace of this kind around a process that ends at once. For the runtime, which has
/// one thread.
///
/// Settings and limits tell only a part: a seccomp filter or a security module around the runtime
/// may refuse what they allow. A caller without `CAP_SYS_ADMIN` gets a user namespace with it, as
/// its containers do.
///
/// # Errors
/// The kernel's: `EINVAL` where it was built without the kind, `EPERM` where the caller is refused,
/// `ENOSPC` or `EUSERS` at the limit of `user.max_…_namespaces`.
pub fn attempt(kind: NamespaceKind, host: &Host) -> nix::Result<()> {
    let flags = match host.has(Capability::SysAdmin) {
        true => kind.flag(),
        false => kind.flag() | NamespaceFlags::USER,
    };
    coracle_sys::assert_single_threaded();
    match coracle_sys::clone3(flags, None, Parentage::Own)? {
        Cloned::Parent { pidfd, .. } => match coracle_sys::wait_exit(pidfd.as_fd())? {
            ExitStatus::Code(0) => Ok(()),
            _ => Err(Errno::EPERM),
        },
        // AppArmor can let a user namespace be made and withhold the capabilities in it: unshare(2)
        // is refused with `EPERM` then, before any limit is looked at.
        Cloned::Child => {
            let is_refused = coracle_sys::unshare(NamespaceFlags::UTS) == Err(Errno::EPERM);
            coracle_sys::exit(i32::from(is_refused))
        }
    }
}
