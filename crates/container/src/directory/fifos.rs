//! The FIFOs in a container's directory, between `start` and init.

use std::os::fd::OwnedFd;

use coracle_launch::Fifos;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::mkfifoat;

use super::{Directory, OUTPUT, START, STARTED};
use crate::error::Error;

/// The output of hooks that run in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookOutput {
    Fifo,
    None,
}

impl Directory {
    /// Makes the FIFOs and opens both ends of each, so that no open blocks.
    pub(crate) fn make_fifos(&self, output: HookOutput) -> Result<Fifos, Error> {
        let make = |name: &str| {
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            self.private(|| mkfifoat(&self.handle, name, mode))
                .and_then(|()| self.open_fifo(name, OFlag::O_RDWR))
                .map_err(|errno| self.failed("make", name, errno))
        };
        let output = match output {
            HookOutput::Fifo => Some(make(OUTPUT)?),
            HookOutput::None => None,
        };
        Ok(Fifos {
            started: make(STARTED)?,
            start: make(START)?,
            output,
        })
    }

    /// Opens the ends for `start`. `None` if the container was started: there are no FIFOs, or init
    /// has closed its ends.
    pub(crate) fn open_fifos(&self) -> Result<Option<Fifos>, Error> {
        let open = |name, flags| match self.open_fifo(name, flags | OFlag::O_NONBLOCK) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENXIO) => Ok(None),
            Err(errno) => Err(self.failed("open", name, errno)),
        };
        let output = open(OUTPUT, OFlag::O_RDONLY)?;
        let started = open(STARTED, OFlag::O_RDONLY)?;
        let start = open(START, OFlag::O_WRONLY)?;
        Ok(start.zip(started).map(|(start, started)| Fifos {
            start,
            started,
            output,
        }))
    }

    fn open_fifo(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.handle, name, flags, Mode::empty())
    }

    /// Whether init still waits for `start`. Init has the FIFO open until execve(2); the file alone
    /// shows nothing, since a `start` that was killed may have left it.
    pub(crate) fn is_awaiting_start(&self) -> bool {
        self.open_fifo(START, OFlag::O_WRONLY | OFlag::O_NONBLOCK)
            .is_ok()
    }

    /// Removes the FIFOs of a container that was started.
    pub(crate) fn remove_fifos(&self) -> Result<(), Error> {
        [START, STARTED, OUTPUT]
            .into_iter()
            .try_for_each(|name| self.unlink(name))
    }
}
