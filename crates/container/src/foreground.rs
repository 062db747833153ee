//! Waiting for a process in the foreground: signals and terminal are passed on, and its end is
//! ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_launch::Released;
use coracle_sys::{ExitStatus, WindowSize};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, read, write};

use crate::error::Error;
use crate::notify::Proxy;

const STDIN: BorrowedFd<'static> = coracle_sys::STDIN;
const STDOUT: BorrowedFd<'static> = coracle_sys::STDOUT;

fn failed(attempted: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::System { attempted, errno }
}

/// Our signals, caught from before the clone on, so that none is lost.
#[derive(Debug)]
pub(crate) struct Signals {
    queue: SignalFd,
}

impl Signals {
    /// Blocks all signals and queues them. The clone starts with an empty mask of its own.
    pub(crate) fn catch() -> Result<Self, Error> {
        let mut set = SigSet::all();
        set.remove(Signal::SIGURG);
        set.thread_block().map_err(failed("block signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let queue = SignalFd::with_flags(&set, flags).map_err(failed("queue signals"))?;
        Ok(Self { queue })
    }

    /// Waits for the process and returns its exit code, 128 + n for signal n.
    pub(crate) fn wait(
        self,
        process: &Released,
        console: Option<OwnedFd>,
        proxy: Option<&Proxy>,
    ) -> Result<i32, Error> {
        let relay = console.map(Relay::begin).transpose()?;
        let mut watch = Watch {
            signals: self,
            process,
            proxy,
            relay,
            ended: None,
        };
        while watch.ended.is_none() {
            watch.step()?;
        }
        if let Some(relay) = &mut watch.relay {
            relay.drain();
        }
        Ok(watch.ended.map_or(1, ExitStatus::shell_code))
    }
}

/// One foreground process under watch.
struct Watch<'a> {
    signals: Signals,
    process: &'a Released,
    proxy: Option<&'a Proxy>,
    relay: Option<Relay>,
    ended: Option<ExitStatus>,
}

impl Watch<'_> {
    /// Waits for the next event and serves it.
    fn step(&mut self) -> Result<(), Error> {
        let (signals, notified, events) = self.poll()?;
        if signals {
            self.take_signals()?;
        }
        if notified && let Some(proxy) = self.proxy {
            proxy.forward()?;
        }
        if let Some(relay) = &mut self.relay {
            relay.serve(events);
        }
        Ok(())
    }

    fn poll(&self) -> Result<(bool, bool, Events), Error> {
        let wanted = |flags: PollFlags, when: bool| if when { flags } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(self.signals.queue.as_fd(), PollFlags::POLLIN)];
        if let Some(proxy) = self.proxy {
            fds.push(PollFd::new(proxy.as_fd(), PollFlags::POLLIN));
        }
        let relayed = fds.len();
        if let Some(relay) = &self.relay {
            let master = wanted(
                PollFlags::POLLIN,
                relay.output.is_empty() && relay.master_open,
            ) | wanted(PollFlags::POLLOUT, !relay.input.is_empty());
            // A descriptor without wanted events still reports a hang-up: leave it out instead.
            let stdin = relay.stdin_open && relay.input.is_empty();
            let entries = [
                (relay.master.as_fd(), master),
                (STDIN, wanted(PollFlags::POLLIN, stdin)),
                (STDOUT, wanted(PollFlags::POLLOUT, !relay.output.is_empty())),
            ];
            fds.extend(
                entries
                    .iter()
                    .filter(|(_, f)| !f.is_empty())
                    .map(|(fd, f)| PollFd::new(*fd, *f)),
            );
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed("wait for the process")(errno)),
        }
        let happened = |fd: &PollFd| fd.any().unwrap_or_default();
        let signals = fds.first().is_some_and(happened);
        let notified = relayed > 1 && fds.get(1).is_some_and(happened);
        let events = fds.iter().skip(relayed).filter(|fd| happened(fd)).fold(
            Events::default(),
            |mut events, fd| {
                use std::os::fd::AsRawFd;
                let number = fd.as_fd().as_raw_fd();
                if number == STDIN.as_raw_fd() {
                    events.stdin = true;
                } else if number == STDOUT.as_raw_fd() {
                    events.stdout = true;
                } else {
                    events.master = true;
                }
                events
            },
        );
        Ok((signals, notified, events))
    }

    fn take_signals(&mut self) -> Result<(), Error> {
        while let Some(info) = self
            .signals
            .queue
            .read_signal()
            .map_err(failed("read a signal"))?
        {
            match i32::try_from(info.ssi_signo) {
                Ok(nix::libc::SIGCHLD) => self.reap()?,
                Ok(nix::libc::SIGWINCH) if self.relay.is_some() => {
                    if let Some(relay) = &self.relay {
                        relay.resize();
                    }
                }
                Ok(signal) => {
                    // The process may be gone: its end is in the queue then.
                    let _ = coracle_sys::pidfd_send_signal(self.process.pidfd.as_fd(), signal);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Reaps the process and, as subreaper, the orphans of the container.
    fn reap(&mut self) -> Result<(), Error> {
        loop {
            let (pid, status) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, ExitStatus::Signal(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed("wait for the process")(errno)),
            };
            if pid == self.process.pid {
                self.ended = Some(status);
            }
        }
    }
}

/// Which of the relay's descriptors can be served.
#[derive(Clone, Copy, Debug, Default)]
struct Events {
    master: bool,
    stdin: bool,
    stdout: bool,
}

/// Copies between our terminal and the container's, each way through one small buffer, so that a
/// stopped reader stops only its own direction.
struct Relay {
    master: OwnedFd,
    master_open: bool,
    stdin_open: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    original: Option<Termios>,
}

impl Relay {
    /// Puts our terminal into raw mode, where stdin is one, and gives its size to the container's.
    fn begin(master: OwnedFd) -> Result<Self, Error> {
        if let Ok(mut attributes) = termios::tcgetattr(&master) {
            // Our own terminal still turns a newline into both characters.
            attributes.output_flags.remove(OutputFlags::ONLCR);
            let _ = termios::tcsetattr(&master, SetArg::TCSANOW, &attributes);
        }
        let original = termios::tcgetattr(STDIN).ok();
        if let Some(original) = &original {
            let mut raw = original.clone();
            termios::cfmakeraw(&mut raw);
            raw.output_flags.insert(OutputFlags::OPOST);
            termios::tcsetattr(STDIN, SetArg::TCSANOW, &raw)
                .map_err(failed("put the terminal into raw mode"))?;
        }
        let relay = Self {
            master,
            master_open: true,
            stdin_open: true,
            input: Vec::new(),
            output: Vec::new(),
            original,
        };
        if relay.original.is_some() {
            relay.resize();
        }
        Ok(relay)
    }

    fn resize(&self) {
        if let Ok(size @ WindowSize { .. }) = coracle_sys::window_size(STDIN) {
            let _ = coracle_sys::set_window_size(self.master.as_fd(), size);
        }
    }

    fn serve(&mut self, events: Events) {
        if events.stdin && self.input.is_empty() {
            self.stdin_open = fill(STDIN, &mut self.input);
        }
        if events.master && self.output.is_empty() {
            // EIO: nobody has the other end open.
            self.master_open = fill(self.master.as_fd(), &mut self.output);
        }
        if !self.input.is_empty() && events.master {
            empty(self.master.as_fd(), &mut self.input);
        }
        if events.stdout {
            empty(STDOUT, &mut self.output);
        }
    }

    /// After the process's end: what it wrote is still in the pty.
    fn drain(&mut self) {
        while !self.output.is_empty() {
            empty(STDOUT, &mut self.output);
        }
        while coracle_sys::poll_readable(&[self.master.as_fd()], Some(0)).is_ok_and(|r| r != 0) {
            if !fill(self.master.as_fd(), &mut self.output) {
                return;
            }
            while !self.output.is_empty() {
                empty(STDOUT, &mut self.output);
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(original) = &self.original {
            let _ = termios::tcsetattr(STDIN, SetArg::TCSANOW, original);
        }
    }
}

/// Reads once; whether more can come.
fn fill(from: BorrowedFd, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0_u8; 4096];
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

/// Writes once. What cannot be written any more is dropped.
fn empty(to: BorrowedFd, buffer: &mut Vec<u8>) {
    match write(to, buffer) {
        Ok(length) => drop(buffer.drain(..length)),
        Err(Errno::EINTR | Errno::EAGAIN) => {}
        Err(_) => buffer.clear(),
    }
}
