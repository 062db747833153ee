//! Seccomp filters: seccomp(2), and pidfd_getfd(2), by which a listener is fetched.

use crate::Result;
use crate::kernel::{done, new_descriptor};
use libc::{c_long, c_ulong};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// An instruction of classic BPF: `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterInstruction {
    /// Operation, size and source.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not hold.
    pub jump_false: u8,
    /// The constant.
    pub constant: u32,
}

/// `struct sock_fprog` of linux/filter.h.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const FilterInstruction,
}

bitflags::bitflags! {
    /// `SECCOMP_FILTER_FLAG_…` of linux/seccomp.h.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FilterFlags: u32 {
        /// All threads of the process get the filter. Since Linux 3.17.
        const TSYNC = 1;
        /// Every action but `ALLOW` is logged. Since Linux 4.14.
        const LOG = 1 << 1;
        /// No mitigation of speculative store bypass. Since Linux 4.17.
        const SPEC_ALLOW = 1 << 2;
        /// The call returns a listener: a descriptor that notifications are read from. Since Linux
        /// 5.0.
        const NEW_LISTENER = 1 << 3;
        /// If a thread cannot get the filter, the call fails with `ESRCH` instead of returning the
        /// thread's id. Since Linux 5.7.
        const TSYNC_ESRCH = 1 << 4;
        /// Once its notification was read, only a fatal signal interrupts a system call. Since
        /// Linux 5.19.
        const WAIT_KILLABLE_RECV = 1 << 5;
    }
}

const SECCOMP_SET_MODE_FILTER: u32 = 1;
const SECCOMP_GET_ACTION_AVAIL: u32 = 2;

/// `int syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, unsigned int flags, struct sock_fprog *)`,
/// seccomp(2): loads a filter for the caller. Returns the listener if `flags` have
/// [`FilterFlags::NEW_LISTENER`].
///
/// # Errors
///
/// The kernel's: `EACCES` without no_new_privs and `CAP_SYS_ADMIN`, `EINVAL` for an invalid program
/// or an unknown flag, `EBUSY` if there is a listener already, `ENOMEM`.
pub fn load_filter(program: &[FilterInstruction], flags: FilterFlags) -> Result<Option<OwnedFd>> {
    let program = Program {
        length: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        instructions: program.as_ptr(),
    };
    // SAFETY: a whole `sock_fprog` that points to as many borrowed instructions as it says; the
    // kernel copies and checks them.
    let answer = unsafe { seccomp(SECCOMP_SET_MODE_FILTER, flags.bits(), &raw const program) };
    if !flags.contains(FilterFlags::NEW_LISTENER) {
        return done(answer).map(|()| None);
    }
    // SAFETY: with this flag the kernel answers with a new descriptor (close-on-exec) or fails, and
    // nobody else has seen the number.
    unsafe { new_descriptor(answer) }.map(Some)
}

/// Whether the running kernel knows all of these flags. The kernel checks the flags before it reads
/// the program, and there is none here: `EFAULT` means that the flags are known.
///
/// # Errors
///
/// The kernel's: `ENOSYS` without seccomp.
pub fn knows_filter_flags(flags: FilterFlags) -> Result<bool> {
    let nothing = std::ptr::null::<Program>();
    // SAFETY: the kernel fails to copy the program from a null before it has changed anything.
    let answer = unsafe { seccomp(SECCOMP_SET_MODE_FILTER, flags.bits(), nothing) };
    match done(answer) {
        Err(Errno::EFAULT) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
        // A kernel that accepts a null program does not have the documented interface.
        Ok(()) => Ok(false),
    }
}

/// `int syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, uint32_t *action)`, seccomp(2), since
/// Linux 4.14: whether the running kernel knows the action, a filter's return value without its
/// data.
///
/// # Errors
///
/// The kernel's: `ENOSYS` without seccomp.
pub fn knows_filter_action(action: u32) -> Result<bool> {
    // SAFETY: the kernel reads four bytes from a borrowed number.
    let answer = unsafe { seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    match done(answer) {
        Ok(()) => Ok(true),
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// # Safety
///
/// `argument` is what the operation takes: a null, or a whole value that is only read.
unsafe fn seccomp<T>(operation: u32, flags: u32, argument: *const T) -> c_long {
    // SAFETY: by the caller's promise.
    unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, argument) }
}

/// `int pidfd_getfd(int pidfd, int targetfd, unsigned int flags)`, pidfd_getfd(2), since Linux 5.6:
/// a duplicate of descriptor `number` of the process, close-on-exec.
///
/// # Errors
///
/// The kernel's: `EBADF` if the process has no such descriptor, `EPERM` if it may not be traced by
/// the caller, `ESRCH` if it is gone.
pub fn pidfd_getfd(pidfd: BorrowedFd, number: i32) -> Result<OwnedFd> {
    const NO_FLAGS: c_ulong = 0;
    // SAFETY: takes three numbers, of which the first is an open descriptor.
    let answer: c_long =
        unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, NO_FLAGS) };
    // SAFETY: the call makes a new descriptor for the caller or fails, and nobody else has seen
    // the number.
    unsafe { new_descriptor(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(
            size_of::<FilterInstruction>(),
            size_of::<libc::sock_filter>()
        );
        assert_eq!(size_of::<Program>(), size_of::<libc::sock_fprog>());
        assert_eq!(
            std::mem::offset_of!(FilterInstruction, constant),
            std::mem::offset_of!(libc::sock_filter, k)
        );
        assert_eq!(
            std::mem::offset_of!(Program, instructions),
            std::mem::offset_of!(libc::sock_fprog, filter)
        );
    }

    #[test]
    fn what_the_kernel_knows() {
        let old = FilterFlags::TSYNC | FilterFlags::LOG | FilterFlags::SPEC_ALLOW;
        assert_eq!(knows_filter_flags(old), Ok(true));
        let future = FilterFlags::from_bits_retain(1 << 31);
        assert_eq!(knows_filter_flags(future), Ok(false));
        assert_eq!(knows_filter_action(0x7fff_0000), Ok(true));
        assert_eq!(knows_filter_action(0x1234_0000), Ok(false));
    }

    #[test]
    fn no_program_is_refused() {
        let refused = load_filter(&[], FilterFlags::empty()).map(drop);
        assert!(
            matches!(refused, Err(Errno::EINVAL | Errno::EACCES)),
            "{refused:?}"
        );
        let long = vec![FilterInstruction::default(); 1 << 16];
        let refused = load_filter(&long, FilterFlags::empty()).map(drop);
        assert_eq!(refused, Err(Errno::EINVAL));
    }

    #[test]
    fn a_descriptor_of_a_process() {
        let (own, other) = crate::socket_pair().expect("a pair");
        let pidfd = crate::pidfd_open(nix::unistd::getpid()).expect("a pidfd");
        let copy = pidfd_getfd(pidfd.as_fd(), own.as_raw_fd()).expect("a duplicate");
        crate::send(copy.as_fd(), b"x", None).expect("sent");
        let mut buffer = [0; 2];
        let (length, _) = crate::receive(other.as_fd(), &mut buffer).expect("received");
        assert_eq!(length, 1);
        let none = pidfd_getfd(pidfd.as_fd(), 1 << 20).map(drop);
        assert_eq!(none, Err(Errno::EBADF));
    }
}
