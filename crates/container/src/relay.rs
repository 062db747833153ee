//! Copies between the runtime's terminal and the container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_sys::{STDERR, STDIN, STDOUT};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};
use nix::unistd::{read, write};

use crate::error::{Error, system};

/// The size of one read, in bytes.
const CHUNK: usize = 4096;
/// How much is copied after the process's end, in bytes: more than a pty buffers. Another process
/// may have the slave open and never stop writing.
const DRAINED: usize = 1 << 20;
/// How long to wait at the end for a reader that does not read, in milliseconds.
const PATIENCE_MS: u16 = 5000;

/// Copies both ways. Each direction has its own buffer, so that a slow reader blocks only its own.
pub(crate) struct Relay {
    master: OwnedFd,
    master_open: bool,
    /// The slave, opened once no process of the container has it open.
    slave: Option<OwnedFd>,
    stdin_open: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    original: Option<Termios>,
}

/// A descriptor of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Master,
    Stdin,
    Stdout,
}

impl Relay {
    /// Puts the terminal into raw mode, if stdin is one, until the relay is dropped.
    pub(crate) fn begin(master: OwnedFd) -> Result<Self, Error> {
        // The open file description is not shared, so O_NONBLOCK affects nobody else.
        fcntl(
            &master,
            FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK),
        )
        .map_err(system("prepare the terminal"))?;
        let original = termios::tcgetattr(STDIN).ok();
        if let Some(original) = &original {
            let mut raw = original.clone();
            termios::cfmakeraw(&mut raw);
            raw.output_flags.insert(OutputFlags::OPOST);
            termios::tcsetattr(STDIN, SetArg::TCSANOW, &raw)
                .map_err(system("put the terminal into raw mode"))?;
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

    /// Copies the terminal's size to the container's.
    pub(crate) fn resize(&self) {
        resize(self.master.as_fd());
    }

    /// The descriptors to poll. Those without wanted events are left out: poll(2) would report a
    /// hang-up again and again.
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

    /// Handles one descriptor that is ready.
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

    /// Opens the slave after EIO. EIO means that no process has it open, but a program may open the
    /// console again later. While the relay itself has it open, reads of the master wait instead.
    fn hold_slave(&mut self) {
        self.slave = coracle_sys::pty_peer(self.master.as_fd()).ok();
        self.master_open = self.slave.is_some();
    }

    /// Copies the output that is still in the pty after the process's end.
    pub(crate) fn drain(&mut self) {
        let mut copied = 0;
        while self.flush() && copied < DRAINED && fill(self.master.as_fd(), &mut self.output) {
            if self.output.is_empty() {
                return;
            }
            copied += self.output.len();
        }
    }

    /// Writes out the buffer, and waits a limited time for a slow reader. It polls before each
    /// write, since a write to a full pipe would block; one that is ready takes a whole chunk.
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

/// Prepares the container's terminal before its process can write: newlines are not translated,
/// since the runtime's terminal does that, and it gets that terminal's size unless the config has
/// one.
pub(crate) fn prepare(master: BorrowedFd) {
    if let Ok(mut attributes) = termios::tcgetattr(master) {
        attributes.output_flags.remove(OutputFlags::ONLCR);
        let _ = termios::tcsetattr(master, SetArg::TCSANOW, &attributes);
    }
    if coracle_sys::window_size(master).is_ok_and(|size| size.rows == 0 && size.columns == 0) {
        resize(master);
    }
}

/// The caller's terminal is the first of its streams that is one: a step of BuildKit's without
/// input has a terminal for its output alone.
fn resize(master: BorrowedFd) {
    let mut sizes = [STDIN, STDOUT, STDERR]
        .into_iter()
        .filter_map(|stream| coracle_sys::window_size(stream).ok());
    if let Some(size) = sizes.next() {
        let _ = coracle_sys::set_window_size(master, size);
    }
}

/// Reads once. Returns whether more may come.
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

/// Writes once. Drops the data if no reader is left.
fn empty(to: BorrowedFd, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    match write(to, buffer) {
        Ok(length) => drop(buffer.drain(..length)),
        Err(Errno::EINTR) => {}
        Err(Errno::EAGAIN) => return Err(Errno::EAGAIN),
        Err(_) => buffer.clear(),
    }
    Ok(())
}
