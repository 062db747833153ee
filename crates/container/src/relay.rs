//! Copies between our terminal and the container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_sys::{STDIN, STDOUT};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};
use nix::unistd::{read, write};

use crate::error::Error;

/// What is read at once, in bytes.
const CHUNK: usize = 4096;
/// How much is still copied after the process's end, in bytes: more than a pty holds. Somebody else
/// may have the other end open and never stop writing.
const DRAINED: usize = 1 << 20;
/// How long a stopped reader of ours may hold up the end, in milliseconds.
const PATIENCE_MS: u16 = 5000;

/// Each way has one small buffer, so that a stopped reader stops only its own direction.
pub(crate) struct Relay {
    master: OwnedFd,
    master_open: bool,
    /// The other end, once the container has left it.
    slave: Option<OwnedFd>,
    stdin_open: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    original: Option<Termios>,
}

/// One of the relay's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Master,
    Stdin,
    Stdout,
}

impl Relay {
    /// Puts our terminal into raw mode, where stdin is one, from here on.
    pub(crate) fn begin(master: OwnedFd) -> Result<Self, Error> {
        let failed = |attempted| move |errno| Error::System { attempted, errno };
        // The description is ours alone: nobody else sees the flag.
        fcntl(
            &master,
            FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK),
        )
        .map_err(failed("prepare the terminal"))?;
        let original = termios::tcgetattr(STDIN).ok();
        if let Some(original) = &original {
            let mut raw = original.clone();
            termios::cfmakeraw(&mut raw);
            raw.output_flags.insert(OutputFlags::OPOST);
            termios::tcsetattr(STDIN, SetArg::TCSANOW, &raw)
                .map_err(failed("put the terminal into raw mode"))?;
        }
        Ok(Self {
            master,
            master_open: true,
            slave: None,
            stdin_open: true,
            input: Vec::new(),
            output: Vec::new(),
            original,
        })
    }

    /// Our terminal's size becomes the container's.
    pub(crate) fn resize(&self) {
        resize(self.master.as_fd());
    }

    /// What to wait for. A descriptor without wanted events would still report a hang-up, for ever:
    /// it is left out.
    pub(crate) fn wanted(&self) -> Vec<(End, PollFd<'_>)> {
        let when = |flags: PollFlags, when: bool| if when { flags } else { PollFlags::empty() };
        let reading = self.master_open && self.output.is_empty();
        let master = when(PollFlags::POLLIN, reading)
            | when(
                PollFlags::POLLOUT,
                self.master_open && !self.input.is_empty(),
            );
        let stdin = when(PollFlags::POLLIN, self.stdin_open && self.input.is_empty());
        let stdout = when(PollFlags::POLLOUT, !self.output.is_empty());
        [
            (End::Master, self.master.as_fd(), master),
            (End::Stdin, STDIN, stdin),
            (End::Stdout, STDOUT, stdout),
        ]
        .into_iter()
        .filter(|(_, _, flags)| !flags.is_empty())
        .map(|(end, fd, flags)| (end, PollFd::new(fd, flags)))
        .collect()
    }

    /// Serves one descriptor that is ready.
    pub(crate) fn serve(&mut self, end: End, ready: PollFlags) {
        match end {
            End::Stdin => self.stdin_open = fill(STDIN, &mut self.input),
            End::Stdout => drop(empty(STDOUT, &mut self.output)),
            End::Master => {
                let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
                if ready.intersects(readable)
                    && self.output.is_empty()
                    && !fill(self.master.as_fd(), &mut self.output)
                {
                    self.hold_slave();
                }
                if ready.contains(PollFlags::POLLOUT) {
                    let _ = empty(self.master.as_fd(), &mut self.input);
                }
            }
        }
    }

    /// EIO says that nobody has the other end open, but only of now: a program may close its
    /// streams and open the console later. While we have it open ourselves, the master waits.
    fn hold_slave(&mut self) {
        self.slave = coracle_sys::pty_peer(self.master.as_fd()).ok();
        self.master_open = self.slave.is_some();
    }

    /// After the process's end: what it wrote is still in the pty.
    pub(crate) fn drain(&mut self) {
        let mut copied = 0;
        while self.flush() && copied < DRAINED && fill(self.master.as_fd(), &mut self.output) {
            if self.output.is_empty() {
                return;
            }
            copied += self.output.len();
        }
    }

    /// Writes the output buffer out, waiting a limited time for a slow reader. Asked before each
    /// write: a pipe that is ready takes a whole chunk, and else the write would not return.
    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            let mut stdout = [PollFd::new(STDOUT, PollFlags::POLLOUT)];
            if poll(&mut stdout, PollTimeout::from(PATIENCE_MS)) == Ok(0) {
                return false;
            }
            let _ = empty(STDOUT, &mut self.output);
        }
        true
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(original) = &self.original {
            let _ = termios::tcsetattr(STDIN, SetArg::TCSANOW, original);
        }
    }
}

/// Makes the container's terminal ready for the relay, before its process can write a byte: our own
/// terminal still turns a newline into both characters, and its size is the container's unless the
/// config gave one.
pub(crate) fn prepare(master: BorrowedFd) {
    if let Ok(mut attributes) = termios::tcgetattr(master) {
        attributes.output_flags.remove(OutputFlags::ONLCR);
        let _ = termios::tcsetattr(master, SetArg::TCSANOW, &attributes);
    }
    if coracle_sys::window_size(master).is_ok_and(|size| size.rows == 0 && size.columns == 0) {
        resize(master);
    }
}

fn resize(master: BorrowedFd) {
    if let Ok(size) = coracle_sys::window_size(STDIN) {
        let _ = coracle_sys::set_window_size(master, size);
    }
}

/// Reads once; whether more can come.
fn fill(from: BorrowedFd, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0_u8; CHUNK];
    match read(from, &mut chunk) {
        Ok(0) => false,
        Ok(length) => {
            buffer.extend(chunk.iter().take(length));
            true
        }
        Err(Errno::EINTR | Errno::EAGAIN) => true,
        Err(_) => false,
    }
}

/// Writes once. What nobody can take any more is dropped.
fn empty(to: BorrowedFd, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    match write(to, buffer) {
        Ok(length) => drop(buffer.drain(..length)),
        Err(Errno::EINTR) => {}
        Err(Errno::EAGAIN) => return Err(Errno::EAGAIN),
        Err(_) => buffer.clear(),
    }
    Ok(())
}
