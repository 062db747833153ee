//! Starting one hook and waiting for its end: the same for both actors, so no allocation here.

use super::output::Output;
use crate::{Command, Failure};
use coracle_sys::{Call, Execution, ExitStatus, Program};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Clones a process that becomes the command. Without `output` it keeps our stdout and stderr.
/// Its environment gets what is `added`.
pub(super) fn start(
    command: &Command,
    stdin: BorrowedFd<'_>,
    output: Option<BorrowedFd<'_>>,
    added: Option<&CStr>,
) -> Result<Program, Failure> {
    let execution = Execution {
        path: &command.path,
        arguments: &command.argv,
        environment: &command.env,
        added,
        stdin,
        stdout: output,
        stderr: output,
        parent_death_signal: None,
    };
    coracle_sys::start_program(&execution).map_err(|(call, errno)| Failure::Call(call, errno))
}

/// Waits for the hook's own process alone: what it leaves in the background may keep the pipe open.
/// Output is read meanwhile, so that a full pipe stops nobody.
///
/// The hook is killed when `container` becomes readable, the pidfd of the container's init: what
/// the hook works on is gone, and whoever ended it may be waiting for us.
pub(super) fn wait(
    hook: &Program,
    timeout: Option<Duration>,
    mut output: Option<&mut Output>,
    container: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    let failed = |call| move |errno| Failure::Call(call, errno);
    let deadline = timeout.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = deadline.map(left_ms);
        let own = hook.as_fd();
        let init = container.unwrap_or(own);
        let ready = match output.as_deref() {
            Some(output) if !output.is_ended() => {
                coracle_sys::poll_readable(&[own, init, output.as_fd()], left)
            }
            _ => coracle_sys::poll_readable(&[own, init], left),
        };
        let ready = ready.map_err(failed(Call::Poll))?;
        if let Some(output) = output.as_deref_mut() {
            output.read();
        }
        if ready & 1 != 0 {
            break;
        }
        // The kernel looks at one after the other, so the same process may have ended in between.
        if ready & 2 != 0 && container.is_some() {
            hook.kill();
            return Err(Failure::ContainerGone);
        }
        // Also of a hook that never stops writing.
        if left == Some(0) {
            hook.kill();
            return Err(Failure::TimeOut(timeout));
        }
    }
    match coracle_sys::wait_exit(hook.as_fd()).map_err(failed(Call::Wait))? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(status) => Err(hook
            .start_error()
            .map_or(Failure::Status(status), Failure::Start)),
        ExitStatus::Signal(signal) => Err(Failure::Signal(signal)),
    }
}

fn left_ms(end: Instant) -> u32 {
    let left = end.saturating_duration_since(Instant::now());
    // Rounded up, so that zero means that the time is over.
    u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}
