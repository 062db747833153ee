//! Waits for a process in the foreground, passes on signals and terminal, and returns its exit
//! code.

use std::os::fd::{AsFd, OwnedFd};

use coracle_launch::Child;
use coracle_sys::ExitStatus;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Error, system};
use crate::notify::Proxy;
use crate::relay::{End, Relay};

/// A process that runs in a container, and what the runtime has to serve meanwhile.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Child,
    /// The pty's master, if there is no console socket.
    pub(crate) console: Option<OwnedFd>,
    /// The proxy of the container's notify socket, if it has one.
    pub(crate) proxy: Option<Proxy>,
    /// Warnings, one line each.
    pub(crate) warnings: Vec<String>,
}

/// The runtime's signals, queued from before the clone on, so that none is lost.
#[derive(Debug)]
pub(crate) struct Signals {
    queue: SignalFd,
}

impl Signals {
    /// Blocks all signals and queues them. The clone starts with an empty mask of its own.
    ///
    /// Except those that the kernel sends for the runtime's own use of its streams (SIGURG,
    /// SIGPIPE, SIGTTIN, SIGTTOU): they keep their disposition, and are not passed on to the
    /// container.
    pub(crate) fn catch() -> Result<Self, Error> {
        let mut set = coracle_sys::all_signals();
        for own in [
            Signal::SIGURG,
            Signal::SIGPIPE,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
        ] {
            set.remove(own);
        }
        coracle_sys::read_signal_masks();
        set.thread_block().map_err(system("block signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let queue = SignalFd::with_flags(&set, flags).map_err(system("queue signals"))?;
        Ok(Self { queue })
    }

    /// Waits for the process and returns its exit code, 128 + n for signal n.
    pub(crate) fn wait(self, running: &mut Running) -> Result<ExitStatus, Error> {
        let relay = running.console.take().map(Relay::begin).transpose()?;
        let mut watch = Watch {
            signals: self,
            running,
            relay,
            ended: None,
        };
        while watch.ended.is_none() {
            watch.step()?;
        }
        if let Some(relay) = &mut watch.relay {
            relay.drain();
        }
        Ok(watch.ended.unwrap_or(ExitStatus::Code(1)))
    }
}

/// One foreground process under watch.
struct Watch<'a> {
    signals: Signals,
    running: &'a Running,
    relay: Option<Relay>,
    ended: Option<ExitStatus>,
}

/// The source of an event.
#[derive(Clone, Copy)]
enum Source {
    /// The process has ended.
    Process,
    Signals,
    Proxy,
    Relay(End),
}

impl Watch<'_> {
    /// Waits for the next events and handles them.
    fn step(&mut self) -> Result<(), Error> {
        for (source, ready) in self.poll()? {
            match source {
                Source::Process => {
                    let pidfd = self.running.process.pidfd.as_fd();
                    let ended = coracle_sys::wait_exit(pidfd);
                    self.ended = Some(ended.map_err(system("wait for the process"))?);
                    return Ok(());
                }
                Source::Signals => self.take_signals()?,
                Source::Proxy => {
                    if let Some(proxy) = &self.running.proxy {
                        // An unreachable service manager must not end the container.
                        let _ = proxy.forward();
                    }
                }
                Source::Relay(end) => {
                    if let Some(relay) = &mut self.relay {
                        relay.serve(end, ready);
                    }
                }
            }
        }
        Ok(())
    }

    fn poll(&self) -> Result<Vec<(Source, PollFlags)>, Error> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        // The process comes first: no signal can reach it any more. Its SIGCHLD is not waited for,
        // since one that was killed while it executed the program may have sent none.
        let mut watched = vec![
            (
                Source::Process,
                readable(self.running.process.pidfd.as_fd()),
            ),
            (Source::Signals, readable(self.signals.queue.as_fd())),
        ];
        let proxy = self.running.proxy.as_ref();
        watched.extend(proxy.map(|proxy| (Source::Proxy, readable(proxy.as_fd()))));
        let relayed = self.relay.iter().flat_map(Relay::wanted);
        watched.extend(relayed.map(|(end, fd)| (Source::Relay(end), fd)));
        let (sources, mut fds): (Vec<_>, Vec<_>) = watched.into_iter().unzip();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("wait for the process")(errno)),
        }
        let ready = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| !ready.is_empty())
            .collect())
    }

    fn take_signals(&mut self) -> Result<(), Error> {
        let failed = system("read a signal");
        while let Some(info) = self.signals.queue.read_signal().map_err(&failed)? {
            match (i32::try_from(info.ssi_signo), &self.relay) {
                (Ok(nix::libc::SIGCHLD), _) => self.reap()?,
                (Ok(nix::libc::SIGWINCH), Some(relay)) => relay.resize(),
                (Ok(signal), _) => {
                    // The process may have ended; its SIGCHLD is queued then.
                    let _ =
                        coracle_sys::pidfd_send_signal(self.running.process.pidfd.as_fd(), signal);
                }
                (Err(_), _) => {}
            }
        }
        Ok(())
    }

    /// Reaps the process and, as subreaper, the orphans of the container.
    fn reap(&mut self) -> Result<(), Error> {
        loop {
            match coracle_sys::wait_any() {
                Ok(Some((pid, status))) if pid == self.running.process.pid => {
                    self.ended = Some(status)
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(Errno::ECHILD) => return Ok(()),
                Err(errno) => return Err(system("wait for the process")(errno)),
            }
        }
    }
}
