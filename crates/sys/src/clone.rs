//! Creating a process by clone3(2), and ending one by _exit(2).

use crate::{NamespaceFlags, Result};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which process becomes the parent of the clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parentage {
    /// The caller, to which the clone's end sends SIGCHLD.
    Own,
    /// The caller, to which the clone's end sends no signal: only
    /// [`wait_exit`](crate::wait_exit) finds it. execve(2) brings SIGCHLD back.
    OwnSilent,
    /// The caller's parent, so that the clone is the caller's sibling (`CLONE_PARENT`).
    Sibling,
}

/// Which process is running after [`clone3`] returns.
#[derive(Debug)]
pub enum Cloned {
    /// The caller.
    Parent {
        /// The new process's number in the caller's pid namespace.
        pid: Pid,
        /// A pidfd of it, which stays valid for this process even if its pid is reused.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// `struct clone_args` of linux/sched.h, second extension (`CLONE_ARGS_SIZE_VER2`).
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const SIGCHLD: u64 = 17;

/// `long clone3(struct clone_args *cl_args, size_t size)`, clone(2), since Linux 5.3, cgroup 5.7.
///
/// The new process is a copy that continues from here, made in new `namespaces` and, with `cgroup`,
/// in the cgroup v2 whose directory is open. It has no signal handlers (`CLONE_CLEAR_SIGHAND`,
/// since Linux 5.5), but keeps ignoring the signals that the caller ignored until it calls
/// [`reset_signals`](crate::reset_signals). With `CLONE_PARENT` the kernel takes no exit signal: a
/// sibling has that of the caller.
///
/// # Errors
///
/// The kernel's: `EINVAL` for a sibling of pid 1 of a pid namespace, `EBUSY` for a cgroup that
/// may hold no process, `ENOSPC` at a limit on namespaces, `EPERM`.
///
/// The calling process must have only one thread: a lock that another thread holds, such as the
/// allocator's, would stay locked in the child for ever. [`assert_single_threaded`] checks it. This
/// function does not, since init also clones, and init sees the container's `/proc`, which may lie.
pub fn clone3(
    namespaces: NamespaceFlags,
    cgroup: Option<BorrowedFd<'_>>,
    parentage: Parentage,
) -> Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let mut arguments = CloneArguments {
        flags: u64::from(namespaces.bits()) | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        ..CloneArguments::default()
    };
    match parentage {
        Parentage::Own => arguments.exit_signal = SIGCHLD,
        Parentage::OwnSilent => {}
        Parentage::Sibling => arguments.flags |= CLONE_PARENT,
    }
    if let Some(directory) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(directory.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    }
    // SAFETY: `arguments` is a whole `clone_args` of the size that is passed along and outlives the
    // call; its `pidfd` points to a live int, the other pointers are null with a size of zero. No
    // CLONE_VM and no stack: the child runs on its own copy of this stack, so returning twice is
    // sound, and since no other thread existed no lock in the copy is held by nobody.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<CloneArguments>(),
        )
    };
    let pid = Errno::result(answer)?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    let pid = Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?);
    // SAFETY: the call succeeded in the parent with CLONE_PIDFD, so the kernel has stored a new
    // close-on-exec descriptor there, which belongs to nobody else.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid, pidfd })
}

/// Checks that the process may be cloned. Call it where `/proc` is the host's.
///
/// # Panics
///
/// If the process has other threads. Where `/proc` cannot be read, nothing is checked.
pub fn assert_single_threaded() {
    assert!(
        is_single_threaded(),
        "a process with more than one thread must not be cloned"
    );
}

/// A directory has two links and one more for each subdirectory; procfs keeps this rule for `task`,
/// which has one subdirectory for each thread.
fn is_single_threaded() -> bool {
    match nix::sys::stat::stat(c"/proc/self/task") {
        Ok(status) => status.st_nlink == 3,
        Err(_) => true,
    }
}

/// `void exit_group(int status)`, exit_group(2), as _exit(2) of the C library.
///
/// Ends the process at once: no destructor and no exit handler that was copied from the parent
/// runs, and no buffer is flushed. If a seccomp filter refuses the call, the process ends by a
/// signal; musl's `_exit` would try exit(2) for ever.
pub fn exit(code: i32) -> ! {
    // SAFETY: the call takes any number, and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_exit_group, code) };
    // SAFETY: the instruction may not be executed by a program, so the kernel sends a signal:
    // SIGSEGV on x86_64, SIGILL elsewhere. Nothing runs after it.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("hlt", options(noreturn, nomem, nostack));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("udf #0", options(noreturn, nomem, nostack));
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        libc::_exit(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_the_size_of_the_second_extension() {
        assert_eq!(size_of::<CloneArguments>(), 88);
        assert_eq!(std::mem::offset_of!(CloneArguments, cgroup), 80);
    }

    #[test]
    fn a_test_has_many_threads() {
        // libtest runs this on a thread of its own.
        assert!(!is_single_threaded());
    }
}
