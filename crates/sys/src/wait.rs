//! Waiting for children: waitid(2).

use crate::Result;
use crate::kernel::done;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with a code of 0 to 255.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

impl ExitStatus {
    /// The status in the form of wait(2), without a core dump's flag.
    #[must_use]
    pub fn of_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code(status >> 8 & 0xff),
            signal => Self::Signal(signal),
        }
    }

    /// The exit code as a shell reports it: the program's own, or 128 plus the signal's number.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_i32.saturating_add(signal),
        }
    }
}

/// `int waitid(P_PIDFD, id_t pidfd, siginfo_t *info, WEXITED | __WALL)`, waitid(2), since Linux
/// 5.4.
///
/// Waits for the child to end and reaps it, whatever signal its end sends. An interruption by a
/// signal is retried.
///
/// # Errors
///
/// The kernel's: `ECHILD` if the process is not a child of the caller or was already reaped.
pub fn wait_exit(child: BorrowedFd<'_>) -> Result<ExitStatus> {
    let id = child.as_raw_fd().cast_unsigned();
    wait(libc::P_PIDFD, id, libc::WEXITED | libc::__WALL).map(|info| status(&info))
}

/// `struct pidfd_info` of linux/pidfd.h, as Linux 6.13 had it (`PIDFD_INFO_SIZE_VER0`).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO` of that size: `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: libc::c_ulong = 0xc040_ff0b;

/// `int ioctl(int pidfd, PIDFD_GET_INFO, struct pidfd_info *)` with `PIDFD_INFO_EXIT`, since Linux
/// 6.15: how a process ended that its parent has reaped since the pidfd was opened; `None` before
/// that, and on older kernels.
///
/// # Errors
///
/// `ENOTTY` before Linux 6.13, `ESRCH` before 6.15 for a process that was reaped.
pub fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> Result<Option<ExitStatus>> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the descriptor is open for the borrow, and the kernel reads and writes a whole
    // structure of the size that is part of the request.
    done(unsafe {
        let info = &raw mut info;
        libc::syscall(libc::SYS_ioctl, pidfd.as_raw_fd(), GET_INFO, info)
    })?;
    let is_known = info.mask & INFO_EXIT != 0;
    Ok(is_known.then(|| ExitStatus::of_wait_status(info.exit_code)))
}

/// `int waitid(P_ALL, 0, siginfo_t *info, WEXITED | WNOHANG)`, waitid(2).
///
/// Reaps one child that has ended; `None` if none has.
///
/// # Errors
///
/// The kernel's: `ECHILD` if there are no children.
pub fn wait_any() -> Result<Option<(Pid, ExitStatus)>> {
    let info = wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG)?;
    if info.si_signo == 0 {
        return Ok(None);
    }
    // SAFETY: WEXITED makes the kernel fill the SIGCHLD variant of the union.
    let pid = unsafe { info.si_pid() };
    Ok(Some((Pid::from_raw(pid), status(&info))))
}

/// nix fails on a child that a real-time signal killed, after it has reaped it, so this calls the C
/// library.
fn wait(kind: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> Result<libc::siginfo_t> {
    // SAFETY: `siginfo_t` consists of plain numbers: all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: the kernel writes at most one `siginfo_t` into a whole one. An `id` that names
        // no child, or a descriptor that is no pidfd, is an error, not a fault.
        let answer = unsafe { libc::waitid(kind, id, &raw mut info, flags) };
        match Errno::result(answer) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(info),
        }
    }
}

fn status(info: &libc::siginfo_t) -> ExitStatus {
    // SAFETY: WEXITED makes the kernel fill the SIGCHLD variant of the union.
    let status = unsafe { info.si_status() };
    if info.si_code == libc::CLD_EXITED {
        ExitStatus::Code(status)
    } else {
        ExitStatus::Signal(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::Command;

    fn end_of(script: &str) -> Result<ExitStatus> {
        // The status is taken by the pidfd, so nothing is left to wait for.
        #[allow(clippy::zombie_processes)]
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .expect("a shell");
        let pid = Pid::from_raw(child.id().cast_signed());
        wait_exit(crate::pidfd_open(pid)?.as_fd())
    }

    #[test]
    fn ends_of_both_kinds() {
        assert_eq!(end_of("exit 7"), Ok(ExitStatus::Code(7)));
        assert_eq!(end_of("kill -9 $$"), Ok(ExitStatus::Signal(9)));
        assert_eq!(end_of("kill -40 $$"), Ok(ExitStatus::Signal(40)));
    }

    #[test]
    fn a_pidfd_tells_the_end_after_it_was_reaped() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
        for (script, expected) in [
            ("exit 7", ExitStatus::Code(7)),
            ("kill -9 $$", ExitStatus::Signal(9)),
        ] {
            #[allow(clippy::zombie_processes)]
            let child = Command::new("/bin/sh")
                .args(["-c", script])
                .spawn()
                .expect("a shell");
            let pid = Pid::from_raw(child.id().cast_signed());
            let pidfd = crate::pidfd_open(pid).expect("a pidfd");
            let before = pidfd_exit_status(pidfd.as_fd());
            assert!(!matches!(before, Ok(Some(_))), "{before:?}");
            wait_exit(pidfd.as_fd()).expect("its end");
            // Older kernels do not tell.
            if let Ok(Some(status)) = pidfd_exit_status(pidfd.as_fd()) {
                assert_eq!(status, expected);
            }
        }
    }

    #[test]
    fn statuses_of_wait() {
        assert_eq!(ExitStatus::of_wait_status(42 << 8), ExitStatus::Code(42));
        assert_eq!(ExitStatus::of_wait_status(9), ExitStatus::Signal(9));
        assert_eq!(ExitStatus::of_wait_status(0x8b), ExitStatus::Signal(11));
    }

    #[test]
    fn codes_of_a_shell() {
        assert_eq!(ExitStatus::Code(3).shell_code(), 3);
        assert_eq!(ExitStatus::Signal(15).shell_code(), 143);
    }

    #[test]
    fn another_mans_child() {
        let own = crate::pidfd_open(Pid::this()).expect("our own pidfd");
        assert_eq!(wait_exit(own.as_fd()), Err(Errno::ECHILD));
    }
}
