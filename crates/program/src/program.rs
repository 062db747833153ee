//! Starting a program as a child of ours that inherits nothing but three streams.

use coracle_sys::{Call, Cause, Cloned, CloseRange, NamespaceFlags, Parentage, StringArray};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The status of a child that could not become the program: a shell's.
const NOT_STARTED: i32 = 127;

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
/// As of [`clone3`](coracle_sys::clone3), the caller has no other thread.
///
/// # Errors
///
/// The call that failed in the parent; [`Program::start_error`] has what fails in the child.
pub fn start(execution: &Execution<'_>) -> Result<Program, (Call, Errno)> {
    let parent = Pid::this();
    clone_program(NamespaceFlags::empty(), None, || {
        become_program(execution, parent)
    })
}

/// Clones a child, into a cgroup if there is one, that becomes a program by `become_program`, which
/// returns only with the reason why not and must not allocate.
///
/// # Errors
///
/// As of [`start`].
pub fn clone_program(
    namespaces: NamespaceFlags,
    cgroup: Option<BorrowedFd<'_>>,
    become_program: impl FnOnce() -> Cause,
) -> Result<Program, (Call, Errno)> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (report, reporter) = nix::unistd::pipe2(flags).map_err(|errno| (Call::Open, errno))?;
    let clone = coracle_sys::clone3(namespaces, cgroup, Parentage::Own);
    match clone.map_err(|errno| (Call::Clone, errno))? {
        Cloned::Parent { pid, pidfd } => Ok(Program { pid, pidfd, report }),
        Cloned::Child => {
            let cause = become_program();
            let _ = nix::unistd::write(&reporter, &cause.encode());
            coracle_sys::exit(NOT_STARTED)
        }
    }
}

/// Returns only with the reason why not.
fn become_program(execution: &Execution<'_>, parent: Pid) -> Cause {
    // We may have signals blocked, and our caller may have had some ignored: both outlive an exec.
    coracle_sys::reset_signals();
    if let Err(cause) = get_ready(execution, parent) {
        return cause;
    }
    let (path, arguments) = (execution.path, execution.arguments);
    let environment = execution.environment;
    let errno = match execution.added {
        Some(variable) => coracle_sys::execve_adding(path, arguments, environment, variable),
        None => coracle_sys::execve(path, arguments, environment),
    };
    Cause::Call(Call::Exec, errno)
}

fn get_ready(execution: &Execution<'_>, parent: Pid) -> Result<(), Cause> {
    if let Some(signal) = execution.parent_death_signal {
        coracle_sys::die_with_parent(parent, signal).map_err(Call::Prctl.failed())?;
    }
    nix::unistd::setsid().map_err(Call::Setsid.failed())?;
    dup2_stdin(execution.stdin).map_err(Call::Dup.failed())?;
    execution
        .stdout
        .map_or(Ok(()), dup2_stdout)
        .map_err(Call::Dup.failed())?;
    execution
        .stderr
        .map_or(Ok(()), dup2_stderr)
        .map_err(Call::Dup.failed())?;
    coracle_sys::close_range(3..=u32::MAX, CloseRange::CloseOnExec)
        .map_err(Call::CloseRange.failed())
}

impl Program {
    /// The child's pid, which is its own until it is waited for.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills the whole group with SIGKILL and takes the status: a shell's child would go on
    /// otherwise.
    pub fn kill(&self) {
        // Not yet waited for, so the number cannot be another group's. The process itself again, in
        // case it had not come to make its group.
        let _ = killpg(self.pid, Signal::SIGKILL);
        let killed = coracle_sys::pidfd_send_signal(self.pidfd.as_fd(), nix::libc::SIGKILL);
        // A set-uid program may be out of our reach: better a zombie than to wait for it.
        if killed != Err(Errno::EPERM) {
            let _ = coracle_sys::wait_exit(self.pidfd.as_fd());
        }
    }

    /// What kept the child from becoming the program, once it has ended with status 127; `None` if
    /// that status is the program's own.
    #[must_use]
    pub fn start_error(&self) -> Option<Cause> {
        let mut report = [0; Cause::LENGTH];
        let length = nix::unistd::read(&self.report, &mut report).ok()?;
        (length == report.len()).then(|| Cause::decode(report))?
    }
}

impl AsFd for Program {
    /// The pidfd: readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
