//! User and group ids, host name and domain name.
//!
//! The C library's functions for ids signal all other threads to make the same change. These
//! wrappers change the calling thread alone, which between clone and exec is the only one.

use crate::Result;
use crate::kernel::done;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `int setgroups(size_t size, const gid_t *list)`, setgroups(2).
///
/// # Errors
///
/// `EPERM` without `CAP_SETGID` or where `/proc/PID/setgroups` says deny, `EINVAL` for more than
/// 65536 groups or an unmapped one.
pub fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: the kernel reads `len` numbers of 32 bits, its `gid_t`, from the borrowed slice.
    done(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// `int fchown(int fd, uid_t owner, -1)`, fchown(2): the group stays.
///
/// For an `O_PATH` descriptor musl's function would go on to look up `/proc/self/fd/N`, a path that
/// the image chooses once its root is the process's.
///
/// # Errors
///
/// The kernel's: `EPERM` without `CAP_CHOWN` over the file, `EBADF` for an `O_PATH` descriptor.
pub fn fchown(file: BorrowedFd<'_>, owner: u32) -> Result<()> {
    // SAFETY: takes three numbers. The group `u32::MAX` stays as it is.
    done(unsafe { libc::syscall(libc::SYS_fchown, file.as_raw_fd(), owner, u32::MAX) })
}

/// `int setresuid(uid_t ruid, uid_t euid, uid_t suid)`, setresuid(2): sets all three to `uid`.
///
/// # Errors
///
/// `EPERM` without `CAP_SETUID`, `EINVAL` for an id that is not mapped, `EAGAIN` at a limit.
/// `u32::MAX`, which would leave the id as it is, is `EINVAL` too.
pub fn setresuid(uid: u32) -> Result<()> {
    if uid == u32::MAX {
        return Err(nix::errno::Errno::EINVAL);
    }
    // SAFETY: takes three numbers.
    done(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// `int setresgid(gid_t rgid, gid_t egid, gid_t sgid)`, setresgid(2): sets all three to `gid`.
///
/// # Errors
///
/// As of [`setresuid`], by `CAP_SETGID`.
pub fn setresgid(gid: u32) -> Result<()> {
    if gid == u32::MAX {
        return Err(nix::errno::Errno::EINVAL);
    }
    // SAFETY: takes three numbers.
    done(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
}

/// `int sethostname(const char *name, size_t len)`, sethostname(2), of the UTS namespace.
///
/// # Errors
///
/// `EINVAL` for more than 64 bytes, `EPERM` without `CAP_SYS_ADMIN` over the namespace.
pub fn sethostname(name: &CStr) -> Result<()> {
    // SAFETY: the kernel reads as many bytes of the borrowed string as it is long.
    done(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.count_bytes()) })
}

/// `int setdomainname(const char *name, size_t len)`, setdomainname(2), of the UTS namespace.
///
/// # Errors
///
/// As of [`sethostname`].
pub fn setdomainname(name: &CStr) -> Result<()> {
    // SAFETY: the kernel reads as many bytes of the borrowed string as it is long.
    done(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.count_bytes()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn keeping_the_id_is_not_an_id() {
        assert_eq!(setresuid(u32::MAX), Err(Errno::EINVAL));
        assert_eq!(setresgid(u32::MAX), Err(Errno::EINVAL));
    }

    #[test]
    fn the_own_ids_may_always_be_taken() {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        assert_eq!(setresgid(gid.as_raw()), Ok(()));
        assert_eq!(setresuid(uid.as_raw()), Ok(()));
    }

    #[test]
    fn long_names_are_refused() {
        let name = std::ffi::CString::new([b'a'; 65]).expect("no NUL");
        for answer in [sethostname(&name), setdomainname(&name)] {
            assert!(
                matches!(answer, Err(Errno::EINVAL | Errno::EPERM)),
                "{answer:?}"
            );
        }
    }
}
