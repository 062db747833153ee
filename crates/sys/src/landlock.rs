//! Landlock, landlock(7): a process gives up accesses for itself and its descendants.

use crate::Result;
use crate::kernel::{done, new_descriptor};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `struct landlock_ruleset_attr` of linux/landlock.h: the accesses that a ruleset handles, which
/// it denies wherever no rule allows them. A kernel that knows fewer of the fields accepts the
/// others if they are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LandlockHandled {
    /// `LANDLOCK_ACCESS_FS_…`.
    pub fs: u64,
    /// `LANDLOCK_ACCESS_NET_…`, since ABI 4.
    pub net: u64,
    /// `LANDLOCK_SCOPE_…`, since ABI 6.
    pub scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: libc::c_int,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct NetPort {
    allowed: u64,
    port: u64,
}

const RULE_PATH_BENEATH: libc::c_long = 1;
const RULE_NET_PORT: libc::c_long = 2;

/// `int landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)`,
/// landlock_create_ruleset(2), since Linux 5.13: the kernel's ABI version, 1 or more; 0 if it has
/// no Landlock, or it is not enabled.
#[must_use]
pub fn landlock_abi() -> u32 {
    const VERSION: libc::c_long = 1;
    let none = std::ptr::null::<LandlockHandled>();
    // SAFETY: with this flag the kernel takes a null pointer and a zero, and only answers.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    u32::try_from(answer).unwrap_or(0)
}

/// `int landlock_create_ruleset(const struct landlock_ruleset_attr *attr, size_t size, 0)`: an
/// empty ruleset.
///
/// # Errors
///
/// `EINVAL` for an access that this kernel does not know, `ENOMSG` if nothing is handled,
/// `EOPNOTSUPP` or `ENOSYS` without Landlock.
pub fn landlock_create_ruleset(handled: &LandlockHandled) -> Result<OwnedFd> {
    const NO_FLAGS: libc::c_long = 0;
    // SAFETY: the kernel reads a whole structure of the size passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const *handled,
            size_of::<LandlockHandled>(),
            NO_FLAGS,
        )
    };
    // SAFETY: the call makes a new descriptor for its caller, close-on-exec, or fails.
    unsafe { new_descriptor(answer) }
}

/// `int landlock_add_rule(int ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, …)`, landlock_add_rule(2):
/// allows accesses to a file, or to a directory and all below it. `O_PATH` is enough.
///
/// # Errors
///
/// `EINVAL` for accesses that the ruleset does not handle, or that are none to a file that is no
/// directory.
pub fn landlock_allow_path(ruleset: BorrowedFd, path: BorrowedFd, allowed: u64) -> Result<()> {
    let rule = PathBeneath {
        allowed,
        parent: path.as_raw_fd(),
    };
    // SAFETY: both descriptors are open, and the kernel reads a whole structure of this type.
    done(unsafe { add_rule(ruleset, RULE_PATH_BENEATH, (&raw const rule).cast()) })
}

/// `int landlock_add_rule(int ruleset_fd, LANDLOCK_RULE_NET_PORT, …)`, since ABI 4: allows accesses
/// to a TCP port.
///
/// # Errors
///
/// `EINVAL` for accesses that the ruleset does not handle, or a port above 65535.
pub fn landlock_allow_port(ruleset: BorrowedFd, port: u16, allowed: u64) -> Result<()> {
    let rule = NetPort {
        allowed,
        port: port.into(),
    };
    // SAFETY: the descriptor is open, and the kernel reads a whole structure of this type.
    done(unsafe { add_rule(ruleset, RULE_NET_PORT, (&raw const rule).cast()) })
}

/// # Safety
///
/// `rule` points to a whole structure of the type of `kind`.
unsafe fn add_rule(
    ruleset: BorrowedFd,
    kind: libc::c_long,
    rule: *const libc::c_void,
) -> libc::c_long {
    const NO_FLAGS: libc::c_long = 0;
    let ruleset = ruleset.as_raw_fd();
    // SAFETY: the descriptor is open for the borrow; the caller vouches for the rule, which the
    // kernel only reads.
    unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset, kind, rule, NO_FLAGS) }
}

/// `int landlock_restrict_self(int ruleset_fd, 0)`, landlock_restrict_self(2): from now on the
/// ruleset applies to the calling thread and its future children.
///
/// # Errors
///
/// `EPERM` without no_new_privs and `CAP_SYS_ADMIN`, `E2BIG` beside 16 others.
pub fn landlock_restrict_self(ruleset: BorrowedFd) -> Result<()> {
    const NO_FLAGS: libc::c_long = 0;
    // SAFETY: takes an open descriptor and a number.
    done(unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
            NO_FLAGS,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::os::fd::AsFd;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<LandlockHandled>(), 24);
        assert_eq!(size_of::<PathBeneath>(), 12);
        assert_eq!(size_of::<NetPort>(), 16);
    }

    #[test]
    fn rules_are_added() {
        if landlock_abi() == 0 {
            return;
        }
        let execute = LandlockHandled {
            fs: 1,
            ..LandlockHandled::default()
        };
        let ruleset = landlock_create_ruleset(&execute).expect("a ruleset");
        let root = std::fs::File::open("/").expect("the root");
        let allow = |access| landlock_allow_path(ruleset.as_fd(), root.as_fd(), access);
        assert_eq!(allow(1), Ok(()));
        assert_eq!(allow(2), Err(Errno::EINVAL));
        let nothing = landlock_create_ruleset(&LandlockHandled::default());
        assert_eq!(nothing.map(drop), Err(Errno::ENOMSG));
    }
}
