//! Removing cgroups that processes may still be leaving.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::files;
use super::freeze::await_event_until;
use super::processes::processes_below;
use super::walk::walk;
use crate::record::Directory;
use crate::{Error, Result};

/// The longest pause between two tries on v1, whose files cannot be polled for changes.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How to wait for the last process to leave.
#[derive(Clone, Copy)]
pub(super) enum Watch {
    /// By polling cgroup.events.
    Events,
    /// By sleeping.
    Sleep,
}

/// Who made the cgroup that is to be removed.
#[derive(Clone, Copy)]
pub(super) enum Maker {
    /// Coracle: everything in it and below is the container's.
    We,
    /// Possibly another program. Of coracle's processes only an init can be in it, which dies with
    /// the runtime.
    Anybody,
}

/// Removes a directory that the container does without, as far as possible.
pub(super) fn undo_directory(directory: &Directory) {
    let _ = remove_directory(directory, (Watch::Sleep, Maker::We), Instant::now());
    remove_parents(directory);
}

/// Removes the container's own cgroup if coracle made it.
pub(super) fn remove_directory(
    directory: &Directory,
    how: (Watch, Maker),
    end: Instant,
) -> Result<()> {
    match directory.made.contains(&directory.path) {
        true => remove_path(&directory.path, how, end),
        false => Ok(()),
    }
}

pub(super) fn remove_path(path: &Path, (watch, maker): (Watch, Maker), end: Instant) -> Result<()> {
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
            // A failure is ignored: the next try shows whether the cgroup is empty.
            let _ = await_event_until(path, "populated", false, end);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Removes a cgroup with all below it, children first.
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

/// Removes the parents that coracle made, innermost first, up to one that is in use.
pub(super) fn remove_parents(directory: &Directory) {
    let parents = directory.made.iter().rev();
    for parent in parents.filter(|path| **path != directory.path) {
        if remove_one(nix::fcntl::AT_FDCWD, parent).is_err() {
            return;
        }
    }
}
