//! `abort` in place of musl's.
//!
//! musl signals the thread number that the C library has noted at the start. After a bare clone3(2)
//! that is still the parent's: a child that aborts would end the runtime, or, once it is in another
//! pid namespace, whoever has that number there. This one asks the kernel.

/// `void abort(void)`, abort(3): ends this process by SIGABRT, whatever its handler or mask is. The
/// first process of a pid namespace, which its own signals cannot end, exits with the status that a
/// shell gives for the signal.
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    const STATUS: libc::c_int = 128 + libc::SIGABRT;
    // SAFETY: SIG_DFL is no handler, and the signal is one whose action can be changed.
    unsafe { libc::signal(libc::SIGABRT, libc::SIG_DFL) };
    let set = 1_u64 << (libc::SIGABRT - 1);
    // SAFETY: the kernel reads as many bytes of `set` as the last argument says, and a null old set
    // is not written.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            &raw const set,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
    // SAFETY: takes no argument.
    let process = unsafe { libc::syscall(libc::SYS_getpid) };
    // SAFETY: takes no argument.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    // SAFETY: takes three numbers and touches no memory.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGABRT) };
    // SAFETY: takes a number, and does not return.
    unsafe { libc::_exit(STATUS) }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    #[test]
    fn a_child_of_a_bare_clone_ends_itself_alone() {
        // SAFETY: without CLONE_VM the child has a copy of everything, and it only aborts.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            std::process::abort();
        }
        let pid = Pid::from_raw(pid.try_into().unwrap());
        let status = waitpid(pid, None).unwrap();
        assert!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGABRT, _)),
            "{status:?}"
        );
    }
}
