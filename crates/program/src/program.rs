//! Starting a program as a child that inherits only its three standard streams.

use coracle_sys::{Call, Cause, Cloned, CloseRange, NamespaceFlags, Parentage, StringArray};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The exit status of a child that could not execute the program, as in a shell.
const NOT_STARTED: i32 = 127;

/// A program to execute, with its arguments and descriptors.
#[derive(Clone, Copy, Debug)]
pub struct Execution<'a> {
    /// The program's path; `PATH` is not searched.
    pub path: &'a CStr,
    /// Its arguments, including `argv[0]`.
    pub arguments: &'a StringArray,
    /// Its whole environment, but for `added`.
    pub environment: &'a StringArray,
    /// One more variable of the environment.
    pub added: Option<&'a CStr>,
    /// Becomes descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Becomes descriptor 1; `None` keeps the caller's.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Becomes descriptor 2; `None` keeps the caller's.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Sent to the program when its parent ends.
    pub parent_death_signal: Option<Signal>,
}

/// A child that has been cloned to become a program.
#[derive(Debug)]
pub struct Program {
    pid: Pid,
    pidfd: OwnedFd,
    /// A pipe to which the child writes why it could not execute the program. The exec closes it.
    report: OwnedFd,
}

/// Clones a child with clone3(2), which executes the program by execve(2).
///
/// The child leads a new session, so it has no controlling terminal and a process group of its own
/// that can be killed. Its signals have their default actions and none is blocked; it inherits no
/// other descriptor. As for [`clone3`](coracle_sys::clone3), the caller must have only one thread.
///
/// # Errors
///
/// The call that failed in the parent; [`Program::start_error`] returns what failed in the child.
pub fn start(execution: &Execution<'_>) -> Result<Program, (Call, Errno)> {
    let parent = Pid::this();
    clone_program(NamespaceFlags::empty(), None, || {
        become_program(execution, parent)
    })
}

/// Clones a child, in `cgroup` if there is one, that calls `become_program`. It must not allocate,
/// and returns only if it fails, with the cause.
///
/// # Errors
///
/// Those of [`start`].
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

/// Returns only if it fails, with the cause.
fn become_program(execution: &Execution<'_>, parent: Pid) -> Cause {
    // The runtime may block signals, and its caller may have ignored some: both survive an exec.
    coracle_sys::reset_signals();
    if let Err(cause) = prepare(execution, parent) {
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

fn prepare(execution: &Execution<'_>, parent: Pid) -> Result<(), Cause> {
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
    /// The child's pid, which cannot be reused until [`wait`](crate::wait).
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills the whole process group with SIGKILL, since a shell's child would run on otherwise,
    /// and reaps the child.
    pub fn kill(&self) {
        // The child is not yet reaped, so its pid cannot be that of another group. It is also
        // killed by its pidfd, in case it has not yet made its group.
        let _ = killpg(self.pid, Signal::SIGKILL);
        let killed = coracle_sys::pidfd_send_signal(self.pidfd.as_fd(), nix::libc::SIGKILL);
        // The runtime may not be allowed to kill a set-uid program. It then leaves a zombie, and
        // does not wait.
        if killed.is_ok() {
            let _ = coracle_sys::wait_exit(self.pidfd.as_fd());
        }
    }

    /// Why the child could not execute the program, once it has exited with status 127; `None` if
    /// the program itself returned that status.
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
