//! Namespaces: their kinds, setns(2) and unshare(2).

use crate::Result;
use crate::kernel::{done, new_descriptor};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

bitflags::bitflags! {
    /// Kinds of namespace, by the kernel's `CLONE_NEW…` bits of linux/sched.h; namespaces(7).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct NamespaceFlags: u32 {
        /// `CLONE_NEWTIME`: offsets of the boot and monotonic clocks, since Linux 5.6.
        const TIME = 0x0000_0080;
        /// `CLONE_NEWNS`: the mount table.
        const MOUNT = 0x0002_0000;
        /// `CLONE_NEWCGROUP`: the root of the cgroup hierarchies, since Linux 4.6.
        const CGROUP = 0x0200_0000;
        /// `CLONE_NEWUTS`: host and domain name.
        const UTS = 0x0400_0000;
        /// `CLONE_NEWIPC`: System V IPC, POSIX message queues.
        const IPC = 0x0800_0000;
        /// `CLONE_NEWUSER`: user and group ids, capabilities.
        const USER = 0x1000_0000;
        /// `CLONE_NEWPID`: process numbers.
        const PID = 0x2000_0000;
        /// `CLONE_NEWNET`: network devices, addresses, sockets.
        const NETWORK = 0x4000_0000;
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $field:ident $flag:ident $name:literal $file:literal;)*) => {
        /// A kind of namespace, in the order in which kinds are joined; see namespaces(7).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum NamespaceKind { $($(#[$doc])* $kind,)* }

        /// A value for each kind of namespace.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct PerNamespace<T> { $($(#[$doc])* pub $field: T,)* }

        impl NamespaceKind {
            /// Every kind, in the order of joining.
            pub const ALL: [NamespaceKind; 8] = [$(NamespaceKind::$kind),*];

            /// Its type in `config.json`: `config-linux.md`, Namespaces.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(NamespaceKind::$kind => $name,)* }
            }

            /// Its file in `/proc/PID/ns`.
            #[must_use]
            pub fn file(self) -> &'static CStr {
                match self { $(NamespaceKind::$kind => $file,)* }
            }

            /// Its `CLONE_NEW…` bit.
            #[must_use]
            pub fn flag(self) -> NamespaceFlags {
                match self { $(NamespaceKind::$kind => NamespaceFlags::$flag,)* }
            }
        }

        impl<T> PerNamespace<T> {
            /// The value for this kind.
            #[must_use]
            pub fn of(&self, kind: NamespaceKind) -> &T {
                match kind { $(NamespaceKind::$kind => &self.$field,)* }
            }

            /// The value for this kind, mutable.
            #[must_use]
            pub fn of_mut(&mut self, kind: NamespaceKind) -> &mut T {
                match kind { $(NamespaceKind::$kind => &mut self.$field,)* }
            }
        }
    };
}

// The user namespace comes last, since joining the others may need a capability in the outer one;
// the mount namespace comes after everything that is found by path.
kinds! {
    /// pid_namespaces(7): the caller stays in its own, its children are in the one joined.
    Pid pid PID "pid" c"pid";
    /// time_namespaces(7): the caller stays in its own, its children are in the new one.
    Time time TIME "time" c"time";
    /// network_namespaces(7).
    Network network NETWORK "network" c"net";
    /// ipc_namespaces(7).
    Ipc ipc IPC "ipc" c"ipc";
    /// uts_namespaces(7).
    Uts uts UTS "uts" c"uts";
    /// cgroup_namespaces(7).
    Cgroup cgroup CGROUP "cgroup" c"cgroup";
    /// mount_namespaces(7).
    Mount mount MOUNT "mount" c"mnt";
    /// user_namespaces(7).
    User user USER "user" c"user";
}

/// `int setns(int fd, int nstype)`, setns(2); a pidfd since Linux 5.8.
///
/// If `target` is a namespace, `namespaces` is its kind, which the kernel checks. If it is a pidfd,
/// `namespaces` are the kinds to join of that process, all or none. A pid namespace takes
/// effect for the caller's children only; a time namespace for the caller too, which must have one
/// thread.
///
/// # Errors
///
/// The kernel's: `EINVAL` if the namespace is of another kind, `EPERM`, `ESRCH` if the process has
/// ended.
pub fn setns(target: BorrowedFd<'_>, namespaces: NamespaceFlags) -> Result<()> {
    // SAFETY: takes two numbers; the descriptor is open for the borrow.
    done(unsafe { libc::syscall(libc::SYS_setns, target.as_raw_fd(), namespaces.bits()) })
}

/// `int unshare(int flags)`, unshare(2).
///
/// # Errors
///
/// The kernel's: `EPERM`, `ENOSPC` at a limit on namespaces.
pub fn unshare(namespaces: NamespaceFlags) -> Result<()> {
    // SAFETY: takes one number. The bits are those of namespaces alone: nothing that a Rust type
    // relies on (memory, the descriptor table) can come apart.
    done(unsafe { libc::syscall(libc::SYS_unshare, namespaces.bits()) })
}

/// `int ioctl(int fd, NS_GET_NSTYPE)`, ioctl_nsfs(2), since Linux 4.11.
///
/// # Errors
///
/// `ENOTTY` if the descriptor is not of a namespace; the kernel's own.
pub fn namespace_type(namespace: BorrowedFd<'_>) -> Result<NamespaceFlags> {
    // Devices may give 0xb703 another meaning, so the request is sent to nsfs alone.
    if crate::file_system_magic(namespace)? != crate::NSFS_MAGIC {
        return Err(Errno::ENOTTY);
    }
    // SAFETY: the file is nsfs's, whose NS_GET_NSTYPE takes no argument and returns a number.
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_NSTYPE) };
    let bits = Errno::result(answer)?.cast_unsigned();
    NamespaceFlags::from_bits(bits).ok_or(Errno::EINVAL)
}

/// `int ioctl(int fd, SIOCSIFFLAGS, struct ifreq *)`, netdevice(7).
///
/// Brings up `lo` in the caller's network namespace; the kernel gives it its address then.
///
/// # Errors
///
/// The kernel's: `EPERM` without `CAP_NET_ADMIN` over the namespace.
pub fn loopback_up() -> Result<()> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // The request works on a socket of any family, and every kernel has unix sockets.
    // SAFETY: `socket` takes three numbers.
    let answer = unsafe { libc::syscall(libc::SYS_socket, libc::AF_UNIX, kind, 0) };
    // SAFETY: a socket that was just made belongs to us.
    let socket = unsafe { new_descriptor(answer) }?;
    // SAFETY: `ifreq` is an array of bytes and a union of plain numbers: all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: a whole `ifreq` that outlives the call; the kernel fills in its flags.
    done(unsafe {
        let file = socket.as_raw_fd();
        libc::syscall(libc::SYS_ioctl, file, libc::SIOCGIFFLAGS, &raw mut request)
    })?;
    let up = libc::c_short::try_from(libc::IFF_UP).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel has just written this member of the union; any bits are a number.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | up;
    // SAFETY: as above; the kernel only reads.
    done(unsafe {
        let file = socket.as_raw_fd();
        libc::syscall(libc::SYS_ioctl, file, libc::SIOCSIFFLAGS, &raw mut request)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn the_bits_are_the_kernels() {
        let table = [
            (NamespaceFlags::TIME, 0x80),
            (NamespaceFlags::MOUNT, libc::CLONE_NEWNS),
            (NamespaceFlags::CGROUP, libc::CLONE_NEWCGROUP),
            (NamespaceFlags::UTS, libc::CLONE_NEWUTS),
            (NamespaceFlags::IPC, libc::CLONE_NEWIPC),
            (NamespaceFlags::USER, libc::CLONE_NEWUSER),
            (NamespaceFlags::PID, libc::CLONE_NEWPID),
            (NamespaceFlags::NETWORK, libc::CLONE_NEWNET),
        ];
        for (flag, bits) in table {
            assert_eq!(flag.bits(), bits.cast_unsigned());
        }
        assert_eq!(NamespaceFlags::all().iter().count(), table.len());
    }

    #[test]
    fn types_of_our_own() {
        for (name, flag) in [
            ("pid", NamespaceFlags::PID),
            ("net", NamespaceFlags::NETWORK),
            ("mnt", NamespaceFlags::MOUNT),
            ("user", NamespaceFlags::USER),
            ("cgroup", NamespaceFlags::CGROUP),
        ] {
            let file = File::open(format!("/proc/self/ns/{name}")).expect("a namespace");
            assert_eq!(namespace_type(file.as_fd()), Ok(flag));
        }
    }

    #[test]
    fn what_is_no_namespace_has_no_type() {
        let file = File::open("/dev/null").expect("the null device");
        assert_eq!(namespace_type(file.as_fd()), Err(Errno::ENOTTY));
    }

    #[test]
    fn a_namespace_is_not_joined_as_another_kind() {
        let file = File::open("/proc/self/ns/uts").expect("a namespace");
        assert_eq!(setns(file.as_fd(), NamespaceFlags::IPC), Err(Errno::EINVAL));
    }
}
