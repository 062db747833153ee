//! Pseudo-terminals: pty(7), ioctl_tty(2).

use crate::Result;
use crate::kernel::new_descriptor;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// `int ioctl(int fd, TIOCSPTLCK, const int *lock)`, TIOCSPTLCK(2const): unlocks the slave end.
///
/// # Errors
///
/// The kernel's: `ENOTTY` if it is no pty master.
pub fn unlock_pty(master: BorrowedFd<'_>) -> Result<()> {
    let lock: libc::c_int = 0;
    // SAFETY: the terminal is open for the borrow; the kernel reads one int.
    let answer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const lock) };
    Errno::result(answer).map(drop)
}

/// `int ioctl(int fd, TIOCGPTPEER, int flags)`, TIOCGPTPEER(2const), since Linux 4.13.
///
/// Opens the slave end, read-write and close-on-exec, without a path that a container could have
/// mounted over. It does not become the controlling terminal.
///
/// # Errors
///
/// The kernel's: `ENOTTY` if it is no pty master, `EIO` while the slave end is locked.
pub fn pty_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the terminal is open for the borrow; the argument is a number.
    let answer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    // SAFETY: the call makes a new descriptor for its caller.
    unsafe { new_descriptor(libc::c_long::from(answer)) }
}

/// `int ioctl(int fd, TIOCSCTTY, int arg)`, TIOCSCTTY(2const): makes the terminal the caller's
/// controlling terminal, without taking it from another session.
///
/// # Errors
///
/// `EPERM` if the caller is no session leader, already has a terminal, or another session has this
/// one.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the terminal is open for the borrow; the argument is a number.
    let answer = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(answer).map(drop)
}

/// `int ioctl(int fd, TIOCGWINSZ, struct winsize *size)`, TIOCGWINSZ(2const).
///
/// # Errors
///
/// The kernel's: `ENOTTY` if it is no terminal.
pub fn window_size(terminal: BorrowedFd<'_>) -> Result<WindowSize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the terminal is open for the borrow; the kernel writes one `winsize`.
    let answer = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(answer)?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// `int ioctl(int fd, TIOCSWINSZ, const struct winsize *size)`, TIOCSWINSZ(2const); the foreground
/// process group gets `SIGWINCH`.
///
/// # Errors
///
/// The kernel's: `ENOTTY` if it is no terminal.
pub fn set_window_size(terminal: BorrowedFd<'_>, size: WindowSize) -> Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the terminal is open for the borrow; the kernel reads one `winsize`.
    let answer = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(answer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::sys::stat::Mode;
    use std::os::fd::AsFd;

    #[test]
    fn a_terminal_from_lock_to_size() {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let Ok(master) = nix::fcntl::open(c"/dev/ptmx", flags, Mode::empty()) else {
            return; // A sandbox without devpts.
        };
        assert_eq!(pty_peer(master.as_fd()).map(drop), Err(Errno::EIO));
        assert_eq!(unlock_pty(master.as_fd()), Ok(()));
        let slave = pty_peer(master.as_fd()).expect("the other end");
        let name = std::fs::read_link(format!("/proc/self/fd/{}", slave.as_raw_fd()));
        assert!(name.expect("a link").starts_with("/dev/pts"));
        let size = WindowSize {
            rows: 25,
            columns: 80,
        };
        assert_eq!(set_window_size(master.as_fd(), size), Ok(()));
        assert_eq!(window_size(slave.as_fd()), Ok(size));
    }

    #[test]
    fn what_is_no_terminal_says_so() {
        let null = std::fs::File::open("/dev/null").expect("the null device");
        assert_eq!(window_size(null.as_fd()), Err(Errno::ENOTTY));
        assert_eq!(unlock_pty(null.as_fd()), Err(Errno::ENOTTY));
    }
}
