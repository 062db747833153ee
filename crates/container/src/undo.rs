//! What a failed creation takes back, last first.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use coracle_program::Interrupts;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::Error;
use crate::interrupt;
use crate::mounts::detach;
use crate::network;
use crate::options::Force;
use crate::store::Directory;

/// Something that was made outside this process.
#[derive(Debug)]
pub(crate) enum Made {
    /// The container's directory in the state root.
    Directory,
    /// The container's cgroup. Boxed: it is large and there is one.
    Cgroup(Box<coracle_cgroups::Record>),
    /// The caller's pid file.
    PidFile(PathBuf),
    /// What the record says of attachments to networks.
    Network,
    /// The root's mount in the runtime's own mount namespace, with all below it.
    HostMount(PathBuf),
}

/// The list of what was made, taken back by [`Undo::run`]; forgotten by dropping it.
#[derive(Debug)]
pub(crate) struct Undo {
    made: Vec<Made>,
}

/// Descriptors kept free for taking back: running a plugin again needs the most.
const DESCRIPTORS: usize = 16;

impl Undo {
    /// The empty list. All that a creation opens from here on, but for its directory and the lock,
    /// is closed before it is taken back, so what is free now is free then.
    ///
    /// # Errors
    /// [`Error::System`] where so few descriptors are left that nothing could be taken back.
    pub(crate) fn begin() -> Result<Self, Error> {
        if coracle_sys::last_are_free::<DESCRIPTORS>() == Ok(true) {
            return Ok(Self { made: Vec::new() });
        }
        let free: nix::Result<Vec<OwnedFd>> = (0..DESCRIPTORS)
            .map(|_| open(c"/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()))
            .collect();
        free.map_err(|errno| Error::System {
            attempted: "open as many descriptors as taking a failed creation back needs",
            errno,
        })?;
        Ok(Self { made: Vec::new() })
    }

    pub(crate) fn push(&mut self, made: Made) {
        self.made.push(made);
    }

    /// Takes everything back, as far as it goes: what is left is found by `delete --force`, since
    /// the directory goes only when the rest has gone.
    ///
    /// # Errors
    /// What could not be taken back.
    pub(crate) fn run(self, directory: &Directory, interrupts: &Interrupts) -> Result<(), Error> {
        interrupts.spare_first();
        self.made.into_iter().rev().try_for_each(|made| match made {
            Made::Cgroup(record) => {
                if !record.is_empty() {
                    let _ = coracle_cgroups::kill(&record, nix::libc::SIGKILL);
                }
                Ok(coracle_cgroups::undo(&record)?)
            }
            // Gone, or never written.
            Made::PidFile(path) => {
                let _ = std::fs::remove_file(path);
                Ok(())
            }
            Made::Network => detach_network(directory, interrupts),
            Made::HostMount(path) => detach(&path),
            Made::Directory => directory.remove(),
        })
    }

    /// The error of the creation, with what it leaves behind.
    pub(crate) fn after(
        self,
        error: Error,
        directory: &Directory,
        interrupts: &Interrupts,
    ) -> Error {
        let error = interrupt::explain(error, interrupts);
        match self.run(directory, interrupts) {
            Ok(()) => error,
            Err(left) => error.leaving(&left.to_string()),
        }
    }
}

/// The record on disk, since it knows how far the attachments came.
fn detach_network(directory: &Directory, interrupts: &Interrupts) -> Result<(), Error> {
    let record = directory.record()?.unwrap_or_default();
    network::detach(directory, &record, Force::No, Some(interrupts)).map(drop)
}
