//! Making the container's cgroup in one v1 hierarchy, and directories in general.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::processes::processes_below;
use super::{files, hint};
use crate::error::property;
use crate::plan::{Absent, Denied, HierarchyPlan, Refused, Write, directory};
use crate::record::Directory;
use crate::{Error, Result};

/// How often a path is begun anew because somebody removed a parent meanwhile.
const ATTEMPTS: usize = 16;

/// Whether a cgroup was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    New,
    Old,
}

/// Makes the cgroup, writes its values and opens its `tasks`. What was made is noted in `record` at
/// once. `None` if the plan forgives that it may not be made.
pub(super) fn make(
    plan: &HierarchyPlan,
    denied: &Denied,
    record: &mut Vec<Directory>,
) -> Result<Option<OwnedFd>> {
    let top = files::open_top(&plan.mount)?;
    let mut noted = directory(plan);
    noted.made.clear();
    let made = make_path(top.as_fd(), &plan.path, &mut noted);
    let path = noted.path.clone();
    record.push(noted);
    let result = made.and_then(|age| {
        let leaf = files::open_below(top.as_fd(), &plan.path)?;
        Ok((age, leaf))
    });
    let tasks = match result {
        Ok((age, leaf)) => {
            if age == Age::Old {
                check_unused(&path)?;
            }
            if plan.controllers.iter().any(|name| name == "freezer") {
                check_running(leaf.as_fd(), &path)?;
            }
            inherit(top.as_fd(), plan)?;
            write_all(leaf.as_fd(), &path, &plan.writes, &mut |_| {})?;
            files::open_to_write(leaf.as_fd(), "tasks")
        }
        Err(errno) => Err(errno),
    };
    match tasks {
        Ok(tasks) => Ok(Some(tasks)),
        Err(errno) if files::is_denied(errno) && *denied == Denied::Skip => {
            // Whatever was made of it is of no use; the list keeps pace with the tasks files.
            if let Some(noted) = record.pop() {
                super::remove::undo_directory(&noted);
            }
            Ok(None)
        }
        Err(errno) => Err(cannot_make(path, errno, denied)),
    }
}

/// The error for a cgroup that could not be made.
pub(super) fn cannot_make(path: PathBuf, errno: Errno, denied: &Denied) -> Error {
    match denied {
        Denied::Fail {
            needed_by: Some(needed_by),
        } if files::is_denied(errno) => Error::Delegation {
            path: needed_by.clone(),
            directory: path,
            errno,
        },
        _ => Error::Make { path, errno },
    }
}

/// Makes `path` below `top` with all parents, and notes each directory that is new.
pub(super) fn make_path(top: BorrowedFd, path: &Path, noted: &mut Directory) -> nix::Result<Age> {
    // One call does where the parent is there, as it nearly always is.
    match files::make(top, path) {
        Ok(()) => {
            noted.made.push(noted.path.clone());
            return Ok(Age::New);
        }
        Err(Errno::EEXIST) => return Ok(Age::Old),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let mut result = Err(Errno::ENOENT);
    for _ in 0..ATTEMPTS {
        result = make_levels(top, path, noted);
        if result != Err(Errno::ENOENT) {
            break;
        }
    }
    result
}

fn make_levels(top: BorrowedFd, path: &Path, noted: &mut Directory) -> nix::Result<Age> {
    let mut age = Age::Old;
    for level in levels(path) {
        age = make_level(top, &level, noted)?;
    }
    Ok(age)
}

/// Makes one directory whose parent is there.
pub(super) fn make_level(top: BorrowedFd, level: &Path, noted: &mut Directory) -> nix::Result<Age> {
    match files::make(top, level) {
        Ok(()) => {
            let path = noted.mount.join(level);
            if !noted.made.contains(&path) {
                noted.made.push(path);
            }
            Ok(Age::New)
        }
        Err(Errno::EEXIST) => Ok(Age::Old),
        Err(errno) => Err(errno),
    }
}

/// `a`, `a/b`, `a/b/c`.
pub(super) fn levels(path: &Path) -> Vec<PathBuf> {
    let mut levels: Vec<PathBuf> = path
        .ancestors()
        .filter(|level| !level.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect();
    levels.reverse();
    levels
}

/// A cgroup that was there must not hold processes.
fn check_unused(path: &Path) -> Result<()> {
    match processes_below(path)?.len() {
        0 => Ok(()),
        count => Err(Error::NotEmpty {
            path: path.to_owned(),
            count,
        }),
    }
}

/// Init would never run, nor could we wait for it. A new cgroup below a frozen one is frozen, too.
fn check_running(leaf: BorrowedFd, path: &Path) -> Result<()> {
    match files::read(leaf, "freezer.state") {
        Ok(state) if state.trim() != "THAWED" => Err(Error::Frozen {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Fills the empty files of a cpuset from its parent, outermost first.
fn inherit(top: BorrowedFd, plan: &HierarchyPlan) -> Result<()> {
    plan.inherit
        .iter()
        .try_for_each(|file| inherit_file(top, plan, file))
}

fn inherit_file(top: BorrowedFd, plan: &HierarchyPlan, file: &str) -> Result<()> {
    let path = |level: &Path| plan.mount.join(level).join(file);
    let read = |directory: BorrowedFd, level: &Path| {
        let text = files::read(directory, file).map_err(|errno| Error::Read {
            path: path(level),
            errno,
        })?;
        Ok(text.trim().to_owned())
    };
    // Up to the first level that has a value, then down again.
    let mut empty = Vec::new();
    let mut value = String::new();
    for level in levels(&plan.path).into_iter().rev() {
        let directory = files::open_below(top, &level).map_err(|errno| Error::Open {
            path: plan.mount.join(&level),
            errno,
        })?;
        value = read(directory.as_fd(), &level)?;
        if !value.is_empty() {
            break;
        }
        empty.push((directory, level));
    }
    if value.is_empty() {
        value = read(top, Path::new(""))?;
    }
    for (directory, level) in empty.iter().rev() {
        files::write(directory.as_fd(), file, &value).map_err(|errno| Error::Write {
            source_path: property("linux.cgroupsPath"),
            path: path(level),
            value: value.clone(),
            errno,
            hint: String::new(),
        })?;
    }
    Ok(())
}

/// Writes the values in order, then those again that another one stood in the way of. `note` hears
/// of each file right before it is written.
pub(super) fn write_all(
    directory: BorrowedFd,
    path: &Path,
    writes: &[Write],
    note: &mut dyn FnMut(&Write),
) -> Result<()> {
    let mut again = Vec::new();
    let mut open = None;
    for write in writes {
        match (write_one(directory, write, &mut open, note), write.refused) {
            (Ok(()), _) => {}
            (Err((write, Errno::EINVAL | Errno::EBUSY)), Refused::Again) => again.push(write),
            (Err((_, Errno::EPERM | Errno::EACCES)), Refused::Skip) => {}
            (Err((write, errno)), _) => return Err(hint::refused(directory, path, write, errno)),
        }
    }
    for write in again {
        write_one(directory, write, &mut open, note)
            .map_err(|(write, errno)| hint::refused(directory, path, write, errno))?;
    }
    Ok(())
}

/// A refusal comes with the write that was refused.
type Attempt<'a> = std::result::Result<(), (&'a Write, Errno)>;
/// The file that was written last: device rules are a dozen lines for one file.
type Open<'a> = Option<(&'a str, OwnedFd)>;

/// Writes one value into the first of its files that is there.
fn write_one<'a>(
    directory: BorrowedFd,
    write: &'a Write,
    open: &mut Open<'a>,
    note: &mut dyn FnMut(&Write),
) -> Attempt<'a> {
    let mut write = write;
    loop {
        note(write);
        match (write_open(directory, write, open), &write.absent) {
            (Ok(()), _) | (Err(Errno::ENOENT), Absent::Skip) => return Ok(()),
            (Err(Errno::ENOENT), Absent::Instead(other)) => write = other,
            (Err(errno), _) => return Err((write, errno)),
        }
    }
}

fn write_open<'a>(directory: BorrowedFd, write: &'a Write, open: &mut Open<'a>) -> nix::Result<()> {
    let file = match open.take() {
        Some((name, file)) if name == write.name => file,
        _ => files::open_to_write(directory, &write.name)?,
    };
    let result = files::write_value(&file, &write.text());
    *open = Some((&write.name, file));
    result
}
