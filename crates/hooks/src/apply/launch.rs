//! Starting one hook and waiting for its end: the same for both actors, so no allocation here.

use super::output::Output;
use crate::{Command, Failure};
use coracle_sys::{Call, Cloned, CloseRange, ExitStatus, NamespaceFlags, Parentage};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A hook that has been cloned.
pub(super) struct Started {
    pid: Pid,
    pidfd: OwnedFd,
    /// Where the child writes why it could not become the hook; closed by the exec.
    report: OwnedFd,
}

/// Clones a process that becomes the command. Without `output` it keeps our stdout and stderr.
pub(super) fn start(
    command: &Command,
    stdin: BorrowedFd<'_>,
    output: Option<BorrowedFd<'_>>,
) -> Result<Started, Failure> {
    let failed = |call| move |errno| Failure::Call(call, errno);
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (report, reporter) = nix::unistd::pipe2(flags).map_err(failed(Call::Open))?;
    let clone = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    match clone.map_err(failed(Call::Clone))? {
        Cloned::Parent { pid, pidfd } => Ok(Started { pid, pidfd, report }),
        Cloned::Child => {
            let errno = become_hook(command, stdin, output);
            let _ = nix::unistd::write(&reporter, &(errno as i32).to_ne_bytes());
            coracle_sys::exit(127)
        }
    }
}

/// Returns only with the reason why not.
fn become_hook(command: &Command, stdin: BorrowedFd<'_>, output: Option<BorrowedFd<'_>>) -> Errno {
    // We may have signals blocked, and our caller may have had some ignored: both outlive an exec.
    coracle_sys::reset_signals();
    // A session of its own: no terminal of the caller's, and a process group to kill.
    let prepared = nix::unistd::setsid()
        .and_then(|_| dup2_stdin(stdin))
        .and_then(|()| output.map_or(Ok(()), dup2_stdout))
        .and_then(|()| output.map_or(Ok(()), dup2_stderr))
        .and_then(|()| coracle_sys::close_range(3..=u32::MAX, CloseRange::CloseOnExec));
    match prepared {
        Ok(()) => coracle_sys::execve(&command.path, &command.argv, &command.env),
        Err(errno) => errno,
    }
}

/// Waits for the hook's own process alone: what it leaves in the background may keep the pipe open.
/// Output is read meanwhile, so that a full pipe stops nobody.
///
/// The hook is killed when `container` becomes readable, the pidfd of the container's init: what
/// the hook works on is gone, and whoever ended it may be waiting for us.
pub(super) fn wait(
    hook: &Started,
    timeout: Option<Duration>,
    mut output: Option<&mut Output>,
    container: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    let failed = |call| move |errno| Failure::Call(call, errno);
    let deadline = timeout.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = deadline.map(left_ms);
        let own = hook.pidfd.as_fd();
        let container = container.unwrap_or(own);
        let ready = match output.as_deref() {
            Some(output) if !output.is_ended() => {
                coracle_sys::poll_readable(&[own, container, output.as_fd()], left)
            }
            _ => coracle_sys::poll_readable(&[own, container], left),
        };
        let ready = ready.map_err(failed(Call::Poll))?;
        if let Some(output) = output.as_deref_mut() {
            output.read();
        }
        if ready & 1 != 0 {
            break;
        }
        if ready & 2 != 0 {
            kill(hook);
            return Err(Failure::ContainerGone);
        }
        // Also of a hook that never stops writing.
        if left == Some(0) {
            kill(hook);
            return Err(Failure::TimeOut(timeout));
        }
    }
    match coracle_sys::wait_exit(hook.pidfd.as_fd()).map_err(failed(Call::Wait))? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(status) => Err(start_failure(hook).unwrap_or(Failure::Status(status))),
        ExitStatus::Signal(signal) => Err(Failure::Signal(signal)),
    }
}

fn left_ms(end: Instant) -> u32 {
    let left = end.saturating_duration_since(Instant::now());
    // Rounded up, so that zero means that the time is over.
    u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// The whole group: a shell's child would go on otherwise. Not yet waited for, so the number cannot
/// be another group's. The process itself again, in case it had not come to make its group.
fn kill(hook: &Started) {
    let _ = killpg(hook.pid, Signal::SIGKILL);
    let killed = coracle_sys::pidfd_send_signal(hook.pidfd.as_fd(), libc::SIGKILL);
    // A set-uid hook may be out of our reach: better a zombie than to wait for it.
    if killed != Err(Errno::EPERM) {
        let _ = coracle_sys::wait_exit(hook.pidfd.as_fd());
    }
}

fn start_failure(hook: &Started) -> Option<Failure> {
    let mut errno = [0; 4];
    match nix::unistd::read(&hook.report, &mut errno) {
        Ok(4) => Some(Failure::Start(Errno::from_raw(i32::from_ne_bytes(errno)))),
        _ => None,
    }
}
