//! Removing the container's cgroups.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::freeze::await_event_until;
use super::processes::processes_below;
use super::walk::walk;
use super::{files, resctrl, systemd};
use crate::record::Directory;
use crate::{Error, Record, Result};

/// How long processes that were killed may take to leave.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest sleep between two tries on v1, whose files tell no one of a change.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Removes the directories that were made for the container, with all that it made in them. What
/// is gone already is success. It kills nobody, but waits up to 10 s for the killed to leave.
///
/// # Errors
/// A cgroup that stays busy, with a process that is left in it.
pub fn remove(record: &Record) -> Result<()> {
    let result = remove_until(record, Instant::now() + LIMIT);
    result.and(resctrl::remove(&record.resctrl, |group| group.remove))
}

/// [`remove`] for a create that failed after [`crate::create`]: a resctrl group that the config
/// names goes, too, if it was made in this very create.
///
/// # Errors
/// As for [`remove`].
pub fn undo(record: &Record) -> Result<()> {
    undo_until(record, Instant::now() + LIMIT)
}

/// The same without waiting, for a cgroup that nobody has joined yet.
pub(super) fn undo_until(record: &Record, end: Instant) -> Result<()> {
    let result = remove_until(record, end);
    result.and(resctrl::remove(&record.resctrl, |group| group.made))
}

/// One directory that the container goes without, gone as far as can be.
pub(super) fn undo_directory(directory: &Directory) {
    let _ = remove_directory(directory, Watch::Sleep, Instant::now());
    remove_parents(directory);
}

/// How the end of the last process is noticed.
#[derive(Clone, Copy)]
enum Watch {
    /// By cgroup.events.
    Events,
    /// Not at all.
    Sleep,
}

fn remove_until(record: &Record, end: Instant) -> Result<()> {
    if let Some(unit) = &record.unit {
        // While the unit is there its cgroup is systemd's, not ours to remove.
        systemd::stop(unit, record, end);
    }
    // v2 first: its events tell when the last process is gone, and then it is so in v1, too.
    let mut result = Ok(());
    if let Some(unified) = &record.unified {
        result = result.and(remove_directory(unified, Watch::Events, end));
    }
    for hierarchy in &record.hierarchies {
        result = result.and(remove_directory(hierarchy, Watch::Sleep, end));
    }
    for directory in record.hierarchies.iter().chain(&record.unified) {
        remove_parents(directory);
    }
    result
}

/// Removes the container's own cgroup if we made it.
fn remove_directory(directory: &Directory, watch: Watch, end: Instant) -> Result<()> {
    let path = &directory.path;
    if !directory.made.contains(path) {
        return Ok(());
    }
    let mut pause = Duration::from_millis(1);
    loop {
        let errno = match remove_tree(path) {
            Ok(()) => return Ok(()),
            Err(errno) => errno,
        };
        if errno != Errno::EBUSY || Instant::now() >= end {
            let left = processes_below(path).unwrap_or_default();
            return Err(Error::Remove {
                path: path.clone(),
                errno,
                pid: left.first().copied(),
            });
        }
        if let Watch::Events = watch {
            // Whatever comes of it, the next try tells.
            let _ = await_event_until(path, "populated", false, end);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Removes one cgroup; if it has children, those first.
fn remove_tree(path: &Path) -> nix::Result<()> {
    match remove_one(nix::fcntl::AT_FDCWD, path) {
        Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
        other => return other,
    }
    let top = match files::open_path(path) {
        Ok(top) => top,
        Err(errno) if files::is_gone(errno) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut leave = |parent: BorrowedFd, name: &OsStr| remove_one(parent, Path::new(name));
    walk(top, &mut |_| Ok(()), &mut leave)?;
    remove_one(nix::fcntl::AT_FDCWD, path)
}

fn remove_one(directory: BorrowedFd, path: &Path) -> nix::Result<()> {
    match unlinkat(directory, path, UnlinkatFlags::RemoveDir) {
        Err(errno) if files::is_gone(errno) => Ok(()),
        other => other,
    }
}

/// Removes the parents that we made, innermost first, as long as nobody else uses them.
fn remove_parents(directory: &Directory) {
    let parents = directory.made.iter().rev();
    for parent in parents.filter(|path| **path != directory.path) {
        if remove_one(nix::fcntl::AT_FDCWD, parent).is_err() {
            return;
        }
    }
}
