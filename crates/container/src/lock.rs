//! Lets one verb at a time change a container: flock(2) on its directory, with a limited wait.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use coracle_program::Interrupts;
use coracle_sys::flock;
use nix::errno::Errno;

use crate::directory::Directory;
use crate::error::{Error, with_path};
use crate::orphans;

/// How long a verb waits for another verb on the same container.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a verb waits for the lock of the networks, whose plugins may be slow.
const NETWORKS_LIMIT: Duration = Duration::from_secs(120);
/// How long processes of a killed verb may have its lock before they are taken for orphans: most of
/// them end with it. Then again how long until there is another search, which reads all of /proc.
const ORPHANED: Duration = Duration::from_millis(50);
const ORPHANED_STILL: Duration = Duration::from_secs(1);

/// Whether others may hold the lock at the same time.
pub(crate) use coracle_sys::Lock as Kind;

/// The lock of one container, held until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    held: OwnedFd,
}

impl AsRawFd for Lock {
    fn as_raw_fd(&self) -> RawFd {
        self.held.as_raw_fd()
    }
}

impl Drop for Lock {
    /// Unlocks explicitly: closing this descriptor would not be enough, since its duplicates keep
    /// the lock. If that fails, the lock ends with the process.
    fn drop(&mut self) {
        let _ = flock(self.held.as_fd(), Kind::None);
    }
}

/// Takes the container's lock.
///
/// # Errors
/// [`Error::Busy`], with the holder's pid, or [`Error::Orphaned`], if it is not free in time.
pub(crate) fn acquire(directory: &Directory) -> Result<Lock, Error> {
    acquire_while(directory, || {})
}

/// Takes the container's lock for `delete --force`, and meanwhile ends orphans that have it.
///
/// # Errors
/// Those of [`acquire`].
pub(crate) fn acquire_by_force(directory: &Directory) -> Result<Lock, Error> {
    let mut next = Instant::now() + ORPHANED;
    acquire_while(directory, || {
        if Instant::now() >= next {
            orphans::end(directory);
            next = Instant::now() + ORPHANED_STILL;
        }
    })
}

fn acquire_while(directory: &Directory, busy: impl FnMut()) -> Result<Lock, Error> {
    let failed = with_path("lock", directory.path());
    let handle = coracle_sys::duplicate(directory.handle()).map_err(failed)?;
    let lock = take(handle, (Kind::Exclusive, LIMIT), None, busy).map_err(failed)?;
    lock.ok_or_else(|| match orphans::find(directory).first() {
        Some(orphan) => Error::Orphaned { pid: orphan.pid },
        None => Error::Busy {
            holder: holder(directory),
        },
    })
}

/// Takes the lock of all networks of a state root. Creations share it while plugins attach their
/// containers. `network gc` takes it exclusively: it detaches everything that belongs to no
/// container, and would take a container that is not yet recorded for such.
///
/// # Errors
/// [`Error::NetworksBusy`] if it is not free in time.
pub(crate) fn networks(
    root: &Path,
    kind: Kind,
    interrupts: Option<&Interrupts>,
) -> Result<Lock, Error> {
    let failed = with_path("lock", root);
    let handle = crate::directory::open_directory(root).map_err(failed)?;
    let lock = take(handle, (kind, NETWORKS_LIMIT), interrupts, || {}).map_err(failed)?;
    lock.ok_or_else(|| Error::NetworksBusy {
        root: root.to_owned(),
    })
}

/// Takes the lock, and calls `busy` between tries. `None` if it is not free within the limit, or a
/// signal comes first.
fn take(
    handle: OwnedFd,
    (kind, limit): (Kind, Duration),
    interrupts: Option<&Interrupts>,
    mut busy: impl FnMut(),
) -> nix::Result<Option<Lock>> {
    let deadline = Instant::now() + limit;
    let mut wait = None;
    let mut pause = Duration::from_millis(1);
    loop {
        match flock(handle.as_fd(), kind) {
            Ok(()) => return Ok(Some(Lock { held: handle })),
            Err(Errno::EWOULDBLOCK | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if Instant::now() >= deadline || interrupts.is_some_and(Interrupts::end_waits) {
            return Ok(None);
        }
        wait.get_or_insert_with(|| coracle_sys::wait_for("another command"));
        coracle_sys::notify_if_due();
        busy();
        // Polls, since flock(2) has no time limit.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The pid that /proc/locks names for the directory; only for the message.
fn holder(directory: &Directory) -> Option<i32> {
    let inode = nix::sys::stat::fstat(directory.handle()).ok()?.st_ino;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks
        .lines()
        .find_map(|line| orphans::taker_in(line, inode))
}
