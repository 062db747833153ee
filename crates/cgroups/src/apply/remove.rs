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
    let result = remove_until(record, Maker::We, Instant::now() + LIMIT);
    result.and(resctrl::remove(&record.resctrl, |group| group.remove))
}

/// [`remove`] by the record of [`crate::foresee`], of a create that was killed before the one of
/// [`crate::create`] was stored. What is in use, or has cgroups below, stays and is no error:
/// somebody else made it in between.
///
/// # Errors
/// The kernel's, but for a cgroup in use.
pub fn remove_foreseen(record: &Record) -> Result<()> {
    let result = remove_until(record, Maker::Anybody, Instant::now() + LIMIT);
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
    let result = remove_until(record, Maker::We, end);
    result.and(resctrl::remove(&record.resctrl, |group| group.made))
}

/// One directory that the container goes without, gone as far as can be.
pub(super) fn undo_directory(directory: &Directory) {
    let _ = remove_directory(directory, (Watch::Sleep, Maker::We), Instant::now());
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

/// Who made what is to be removed.
#[derive(Clone, Copy)]
enum Maker {
    /// What is in it or below is the container's.
    We,
    /// Perhaps others. Of ours there can only be an init that dies with its runtime.
    Anybody,
}

fn remove_until(record: &Record, maker: Maker, end: Instant) -> Result<()> {
    if let Some(unit) = &record.unit {
        // While the unit is there its cgroup is systemd's, not ours to remove.
        systemd::stop(unit, record, end);
    }
    // v2 first: its events tell when the last process is gone, and then it is so in v1, too.
    let mut result = Ok(());
    if let Some(unified) = &record.unified {
        let how = (Watch::Events, maker);
        if let (true, Some(leaf)) = (record.leaf_made, &record.leaf) {
            result = result.and(remove_path(&unified.path.join(leaf), how, end));
        }
        result = result.and(remove_directory(unified, how, end));
    }
    for hierarchy in &record.hierarchies {
        result = result.and(remove_directory(hierarchy, (Watch::Sleep, maker), end));
    }
    for directory in record.hierarchies.iter().chain(&record.unified) {
        remove_parents(directory);
    }
    result
}

/// Removes the container's own cgroup if we made it.
fn remove_directory(directory: &Directory, how: (Watch, Maker), end: Instant) -> Result<()> {
    match directory.made.contains(&directory.path) {
        true => remove_path(&directory.path, how, end),
        false => Ok(()),
    }
}

fn remove_path(path: &Path, (watch, maker): (Watch, Maker), end: Instant) -> Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        let removed = match maker {
            Maker::We => remove_tree(path),
            Maker::Anybody => remove_one(nix::fcntl::AT_FDCWD, path),
        };
        let Err(errno) = removed else {
            return Ok(());
        };
        let is_busy = matches!(errno, Errno::EBUSY | Errno::ENOTEMPTY);
        if !is_busy || Instant::now() >= end {
            if let (true, Maker::Anybody) = (is_busy, maker) {
                return Ok(());
            }
            let left = processes_below(path).unwrap_or_default();
            return Err(Error::Remove {
                path: path.to_owned(),
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
