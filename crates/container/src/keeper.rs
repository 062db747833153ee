//! `--keep-exit`: a process of one container that waits for its end and records it.
//!
//! Only a parent gets the exit status on every kernel (waitid(2)), and init is the child of
//! whoever clones it. So the verb is performed by a child of the command, which becomes the keeper
//! when it has succeeded; the command ends with the verb, as ever.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use coracle_bundle::ContainerId;
use coracle_sys::{Cloned, CloseRange, NamespaceFlags, Parentage};
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::elsewhere;
use crate::ending;
use crate::error::{Error, system};
use crate::store::Store;

/// Which of the two processes goes on.
#[derive(Debug)]
pub enum Side {
    /// The command, after the keeper has performed and reported the verb, with its exit status.
    Command(i32),
    /// The keeper, before it performs the verb.
    Keeper(Keeper),
}

/// The keeper of a container that is yet to be made. Dropped before [`Keeper::keep`], the verb has
/// failed.
#[derive(Debug)]
pub struct Keeper {
    /// Tells the command that the verb has succeeded.
    command: OwnedFd,
}

/// Clones the keeper, and waits in the command until it has performed the verb.
///
/// # Errors
/// [`Error::System`].
pub fn split() -> Result<Side, Error> {
    let (command, keeper) = coracle_sys::socket_pair().map_err(system("make a socket pair"))?;
    coracle_sys::assert_single_threaded();
    let parent = Pid::this();
    let cloned = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    match cloned.map_err(system("clone the keeper"))? {
        Cloned::Child => {
            drop(command);
            // A command that is killed takes what it began with it, as without a keeper.
            coracle_sys::die_with_parent(parent, Signal::SIGTERM)
                .map_err(system("tie the keeper to the command"))?;
            Ok(Side::Keeper(Keeper { command: keeper }))
        }
        Cloned::Parent { pidfd, .. } => {
            drop(keeper);
            match coracle_sys::receive(command.as_fd(), &mut [0; 1]) {
                Ok((1, _)) => Ok(Side::Command(0)),
                // It has reported why.
                _ => {
                    let ended = coracle_sys::wait_exit(pidfd.as_fd());
                    let ended = ended.map_err(system("wait for the keeper"))?;
                    Ok(Side::Command(ended.shell_code()))
                }
            }
        }
    }
}

impl Keeper {
    /// Lets the command end, waits for the end of the container, and records it. Returns only if
    /// it cannot.
    ///
    /// # Errors
    /// [`Error`]: the container runs on, and its end is not recorded.
    pub fn keep(self, store: &Store, id: &ContainerId) -> Result<(), Error> {
        let directory = store.open(id)?;
        let record = directory.present_record()?;
        let absent = || elsewhere::absent(store.root(), id);
        let init = record.init.ok_or_else(absent)?;
        let pidfd = init.open().map_err(system("open init's pidfd"))?;
        let pidfd = pidfd.ok_or_else(absent)?;
        // No stream, descriptor, directory or session of the caller's stays in use.
        let null =
            coracle_sys::open("/dev/null", OFlag::O_RDWR).map_err(system("open /dev/null"))?;
        prctl::set_pdeathsig(None).map_err(system("clear the parent-death signal"))?;
        setsid().map_err(system("start a session"))?;
        chdir("/").map_err(system("change directory to /"))?;
        dup2_stdin(&null).map_err(system("close standard input"))?;
        dup2_stdout(&null).map_err(system("close standard output"))?;
        // The command ends with this.
        let sent = coracle_sys::send(self.command.as_fd(), b"k", None);
        sent.map_err(system("report to the command"))?;
        let _ = dup2_stderr(&null);
        let kept = u32::try_from(pidfd.as_raw_fd()).unwrap_or(0);
        let store = store.silent();
        for range in [3..=kept.saturating_sub(1), kept + 1..=u32::MAX] {
            if !range.is_empty() {
                let _ = coracle_sys::close_range(range, CloseRange::Close);
            }
        }
        if let Ok(status) = coracle_sys::wait_exit(pidfd.as_fd())
            && let Ok(Some(directory)) = store.find(id)
        {
            let _ = ending::record(&directory, &init, status);
        }
        // The descriptors that were closed above must not be closed again by their owners.
        coracle_sys::exit(0)
    }
}
