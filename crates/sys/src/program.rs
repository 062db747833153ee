//! Starting a program as a child of ours that inherits nothing but three streams.

use crate::{Call, Cloned, CloseRange, NamespaceFlags, Parentage, StringArray};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What to execute, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Execution<'a> {
    /// Not looked up anywhere.
    pub path: &'a CStr,
    /// With `argv[0]`.
    pub arguments: &'a StringArray,
    /// All of it.
    pub environment: &'a StringArray,
    /// One variable more.
    pub added: Option<&'a CStr>,
    /// Becomes descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Becomes descriptor 1; without it the caller's stays.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Becomes descriptor 2; without it the caller's stays.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Sent to the program when its parent ends.
    pub parent_death_signal: Option<Signal>,
}

/// A child that has been cloned to become a program.
#[derive(Debug)]
pub struct Program {
    pid: Pid,
    pidfd: OwnedFd,
    /// Where the child writes why it could not become the program; closed by the exec.
    report: OwnedFd,
}

/// Clones a child with clone3(2), which becomes the program by execve(2).
///
/// It leads a session of its own, so it has no terminal of the caller's and a process group to
/// kill; its signals are at their defaults with an empty mask, and no other descriptor passes.
/// As of [`clone3`](crate::clone3), the caller has no other thread.
///
/// # Errors
///
/// The call that failed in the parent; what fails in the child is told by [`Program::start_error`].
pub fn start_program(execution: &Execution<'_>) -> Result<Program, (Call, Errno)> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (report, reporter) = nix::unistd::pipe2(flags).map_err(|errno| (Call::Open, errno))?;
    let parent = Pid::this();
    let clone = crate::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    match clone.map_err(|errno| (Call::Clone, errno))? {
        Cloned::Parent { pid, pidfd } => Ok(Program { pid, pidfd, report }),
        Cloned::Child => {
            let errno = become_program(execution, parent);
            let _ = nix::unistd::write(&reporter, &(errno as i32).to_ne_bytes());
            crate::exit(127)
        }
    }
}

/// Returns only with the reason why not.
fn become_program(execution: &Execution<'_>, parent: Pid) -> Errno {
    let (path, arguments) = (execution.path, execution.arguments);
    let environment = execution.environment;
    // We may have signals blocked, and our caller may have had some ignored: both outlive an exec.
    crate::reset_signals();
    if let Some(signal) = execution.parent_death_signal
        && let Err(errno) = crate::die_with_parent(parent, signal)
    {
        return errno;
    }
    let prepared = nix::unistd::setsid()
        .and_then(|_| dup2_stdin(execution.stdin))
        .and_then(|()| execution.stdout.map_or(Ok(()), dup2_stdout))
        .and_then(|()| execution.stderr.map_or(Ok(()), dup2_stderr))
        .and_then(|()| crate::close_range(3..=u32::MAX, CloseRange::CloseOnExec));
    match prepared {
        Ok(()) => match execution.added {
            Some(variable) => crate::execve_adding(path, arguments, environment, variable),
            None => crate::execve(path, arguments, environment),
        },
        Err(errno) => errno,
    }
}

impl Program {
    /// Kills the whole group with SIGKILL and takes the status: a shell's child would go on
    /// otherwise.
    pub fn kill(&self) {
        // Not yet waited for, so the number cannot be another group's. The process itself again, in
        // case it had not come to make its group.
        let _ = killpg(self.pid, Signal::SIGKILL);
        let killed = crate::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        // A set-uid program may be out of our reach: better a zombie than to wait for it.
        if killed != Err(Errno::EPERM) {
            let _ = crate::wait_exit(self.pidfd.as_fd());
        }
    }

    /// Why the program did not start, once the child has ended with status 127; `None` if that
    /// status is the program's own.
    #[must_use]
    pub fn start_error(&self) -> Option<Errno> {
        let mut errno = [0; 4];
        match nix::unistd::read(&self.report, &mut errno) {
            Ok(4) => Some(Errno::from_raw(i32::from_ne_bytes(errno))),
            _ => None,
        }
    }
}

impl AsFd for Program {
    /// The pidfd: readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
