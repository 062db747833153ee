//! Undoes what a failed creation has made, last first.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use coracle_program::Interrupts;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::directory::Directory;
use crate::directory::mounted::detach;
use crate::error::{Error, system};
use crate::interrupt;
use crate::network;
use crate::options::Force;

/// Something that was made outside this process.
#[derive(Debug)]
pub(crate) enum Made {
    /// The container's directory in the state root.
    Directory,
    /// The container's cgroup. Boxed, since it is much larger than the others.
    Cgroup(Box<coracle_cgroups::Record>),
    /// The caller's pid file.
    PidFile(PathBuf),
    /// The attachments to networks that the record names.
    Network,
    /// The root's mount, and all below it, in the runtime's mount namespace.
    HostMount(PathBuf),
}

/// The list of what was made, undone by [`Undo::run`]. Dropping it undoes nothing.
#[derive(Debug)]
pub(crate) struct Undo {
    made: Vec<Made>,
}

/// The number of descriptors that an undo needs: running a network plugin needs the most.
const DESCRIPTORS: usize = 16;

impl Undo {
    /// An empty list. Whatever a creation opens from here on, except its directory and the lock, is
    /// closed before an undo, so descriptors that are free now will be free then.
    ///
    /// # Errors
    /// [`Error::System`] if too few descriptors are left for an undo.
    pub(crate) fn begin() -> Result<Self, Error> {
        if coracle_sys::last_are_free::<DESCRIPTORS>() == Ok(true) {
            return Ok(Self { made: Vec::new() });
        }
        let free: nix::Result<Vec<OwnedFd>> = (0..DESCRIPTORS)
            .map(|_| open(c"/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()))
            .collect();
        free.map_err(system(
            "open as many descriptors as taking a failed creation back needs",
        ))?;
        Ok(Self { made: Vec::new() })
    }

    pub(crate) fn push(&mut self, made: Made) {
        self.made.push(made);
    }

    /// Undoes everything, up to the first failure. The directory goes last, so that `delete
    /// --force` finds what is left.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) fn run(self, directory: &Directory, interrupts: &Interrupts) -> Result<(), Error> {
        interrupts.require_second();
        self.made.into_iter().rev().try_for_each(|made| match made {
            Made::Cgroup(record) => {
                if !record.is_empty() {
                    let _ = coracle_cgroups::kill(&record, nix::libc::SIGKILL);
                }
                Ok(coracle_cgroups::undo(&record, interrupts)?)
            }
            // It may be gone, or never have been written.
            Made::PidFile(path) => {
                let _ = std::fs::remove_file(path);
                Ok(())
            }
            Made::Network => detach_network(directory, interrupts),
            Made::HostMount(path) => detach(&path),
            Made::Directory => directory.remove(),
        })
    }

    /// Undoes everything, and returns the creation's error, with what is left behind if that fails.
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

/// Detaches from the networks that the record on disk names, which is written before each
/// attachment.
fn detach_network(directory: &Directory, interrupts: &Interrupts) -> Result<(), Error> {
    let record = directory.record()?.unwrap_or_default();
    network::detach(directory, &record, Force::No, Some(interrupts)).map(drop)
}
