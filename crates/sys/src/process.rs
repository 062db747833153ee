//! A process: its descriptor, its attributes, its limits.

use crate::Result;
use crate::kernel::{done, new_descriptor};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `struct rlimit64` of linux/resource.h.
#[repr(C)]
#[derive(Default)]
struct Limits {
    soft: u64,
    hard: u64,
}

/// `int pidfd_open(pid_t pid, unsigned int flags)`, pidfd_open(2), since Linux 5.3.
///
/// # Errors
///
/// The kernel's: `ESRCH` if there is no such process; for a thread's number `EINVAL`, since Linux
/// 6.15 `ENOENT`.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: takes two numbers; the result is close-on-exec by itself.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    // SAFETY: the call makes a new descriptor for its caller.
    unsafe { new_descriptor(answer) }
}

/// `int pidfd_send_signal(int pidfd, int sig, siginfo_t *info, unsigned int flags)`,
/// pidfd_send_signal(2), since Linux 5.1.
///
/// Signal 0 sends nothing, but is checked as if it were sent.
///
/// # Errors
///
/// The kernel's: `ESRCH` if the process has ended and was reaped, `EINVAL`, `EPERM`.
pub fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: the descriptor is open for the borrow; a null `info` makes the kernel fill it in as
    // kill(2) does.
    done(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
}

/// `int prctl(PR_SET_PDEATHSIG, long sig)` and `pid_t getppid(void)`: the caller gets `signal` when
/// the *thread* of `parent` that cloned it ends. A change of the user id cancels this.
///
/// # Errors
///
/// `ESRCH` if `parent` had already ended, since the signal would never come.
pub fn die_with_parent(parent: Pid, signal: Signal) -> Result<()> {
    prctl::set_pdeathsig(signal)?;
    if Pid::parent() == parent {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

/// `int prlimit(pid_t pid, int resource, const struct rlimit *new, struct rlimit *old)`,
/// getrlimit(2), of the caller. `u64::MAX` is no limit.
///
/// # Errors
///
/// `EINVAL` for a soft limit above the hard one or an unknown resource, `EPERM` for raising a
/// hard limit without `CAP_SYS_RESOURCE`.
pub fn set_rlimit(resource: i32, soft: u64, hard: u64) -> Result<()> {
    prlimit(resource, Some(&Limits { soft, hard })).map(drop)
}

/// `int prlimit(pid_t pid, int resource, NULL, struct rlimit *old)`, getrlimit(2), of the caller:
/// the soft and the hard limit.
///
/// # Errors
///
/// `EINVAL` for an unknown resource.
pub fn get_rlimit(resource: i32) -> Result<(u64, u64)> {
    prlimit(resource, None).map(|old| (old.soft, old.hard))
}

fn prlimit(resource: i32, new: Option<&Limits>) -> Result<Limits> {
    let mut old = Limits::default();
    // SAFETY: 0 is the caller; the kernel reads a whole `rlimit64` or, for a null, changes nothing,
    // and writes one into a whole one.
    done(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            new.map_or(std::ptr::null(), std::ptr::from_ref),
            &raw mut old,
        )
    })?;
    Ok(old)
}

/// `int personality(unsigned long persona)`, personality(2): sets the execution domain.
///
/// # Errors
///
/// The kernel's. `u32::MAX`, which would only return the domain, is `EINVAL`.
pub fn personality(persona: u32) -> Result<()> {
    if persona == u32::MAX {
        return Err(Errno::EINVAL);
    }
    // SAFETY: takes one number.
    done(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_pidfd_reaches_its_process() {
        let own = Pid::this();
        let pidfd = pidfd_open(own).expect("our own pidfd");
        assert_eq!(pidfd_send_signal(pidfd.as_fd(), 0), Ok(()));
        assert_eq!(pidfd_send_signal(pidfd.as_fd(), 1000), Err(Errno::EINVAL));
        let absent = pidfd_open(Pid::from_raw(i32::MAX)).map(drop);
        assert_eq!(absent, Err(Errno::ESRCH));
    }

    #[test]
    fn limits_are_read_and_lowered() {
        assert_eq!(size_of::<Limits>(), 16);
        let resource = i32::try_from(libc::RLIMIT_CORE).unwrap();
        let (_, hard) = get_rlimit(resource).expect("a limit of every process");
        assert_eq!(set_rlimit(resource, 0, hard), Ok(()));
        assert_eq!(get_rlimit(resource), Ok((0, hard)));
        assert_eq!(set_rlimit(resource, 2, 1), Err(Errno::EINVAL));
        assert_eq!(get_rlimit(999), Err(Errno::EINVAL));
    }

    #[test]
    fn asking_is_no_personality() {
        assert_eq!(personality(u32::MAX), Err(Errno::EINVAL));
        assert_eq!(personality(0), Ok(()));
    }
}
