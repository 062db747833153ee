//! Making the container's cgroup in one v1 hierarchy.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;

use super::directory::{Age, cannot_make, levels, make_path};
use super::files;
use super::processes::processes_below;
use super::rmdir::undo_directory;
use super::write::write_all;
use crate::error::property;
use crate::plan::{Denied, HierarchyPlan, Write, directory};
use crate::record::Directory;
use crate::{Error, Result};

/// Makes the cgroup, writes its values and opens its `tasks`. New directories are recorded in
/// `record` at once. `None` if the caller may not make the cgroup and the plan allows to do without
/// it.
///
/// The directory and its files are reached by their paths: there is one for each hierarchy, and
/// nobody but the host's administrator can rename what is above it. That a hierarchy is mounted was
/// read from mountinfo; `tasks` exists in a cgroup only, so a directory that was made in something
/// else is found out, and taken back.
pub(super) fn make(
    plan: &HierarchyPlan,
    denied: &Denied,
    record: &mut Vec<Directory>,
) -> Result<Option<OwnedFd>> {
    let mut recorded = directory(plan);
    recorded.made.clear();
    let made = make_directory(plan, &mut recorded);
    let path = recorded.path.clone();
    record.push(recorded);
    let tasks = match made? {
        Ok(age) => {
            fill(plan, &path, age)?;
            files::open_path_to_write(&path, "tasks")
        }
        Err(errno) => Err(errno),
    };
    match tasks {
        Ok(tasks) => Ok(Some(tasks)),
        Err(errno) if files::is_denied(errno) && *denied == Denied::Skip => {
            // Remove what was made. The record must have one entry for each tasks file.
            if let Some(recorded) = record.pop() {
                undo_directory(&recorded);
            }
            Ok(None)
        }
        Err(errno) => Err(cannot_make(path, errno, denied)),
    }
}

/// Makes the directory, and its parents if they are missing.
fn make_directory(plan: &HierarchyPlan, recorded: &mut Directory) -> Result<nix::Result<Age>> {
    match files::make(AT_FDCWD, &recorded.path) {
        Ok(()) => {
            recorded.made.push(recorded.path.clone());
            Ok(Ok(Age::New))
        }
        Err(Errno::EEXIST) => Ok(Ok(Age::Old)),
        Err(Errno::ENOENT) => {
            let top = files::open_top(&plan.mount)?;
            Ok(make_path(top.as_fd(), &plan.path, recorded))
        }
        Err(errno) => Ok(Err(errno)),
    }
}

/// Checks the cgroup and writes its values.
fn fill(plan: &HierarchyPlan, path: &Path, age: Age) -> Result<()> {
    if age == Age::Old {
        check_unused(path)?;
    }
    if plan.controllers.iter().any(|name| name == "freezer") && may_be_frozen(plan, age) {
        check_running(path)?;
    }
    for file in &plan.inherit {
        inherit(plan, file, age)?;
    }
    let needed = |write: &&Write| age == Age::Old || !write.is_initial();
    let mut writes = plan.writes.iter().filter(needed).peekable();
    if writes.peek().is_none() {
        return Ok(());
    }
    let own = files::open_directory(path)?;
    write_all(own.as_fd(), path, writes, &mut |_| {})
}

/// An existing cgroup must have no processes.
fn check_unused(path: &Path) -> Result<()> {
    match processes_below(path)?.len() {
        0 => Ok(()),
        count => Err(Error::NotEmpty {
            path: path.to_owned(),
            count,
        }),
    }
}

/// A new cgroup is frozen only if its parent is, and the root of the hierarchy cannot be.
fn may_be_frozen(plan: &HierarchyPlan, age: Age) -> bool {
    let is_below_root = plan.root == Path::new("/") && plan.path.components().count() == 1;
    age == Age::Old || !is_below_root
}

/// In a frozen cgroup init would never run, and the runtime would wait for ever.
fn check_running(path: &Path) -> Result<()> {
    match files::read(AT_FDCWD, path.join("freezer.state")) {
        Ok(state) if state.trim() != "THAWED" => Err(Error::Frozen {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Fills an empty file of a cpuset from its parent, outermost first.
fn inherit(plan: &HierarchyPlan, file: &str, age: Age) -> Result<()> {
    let path = |level: &Path| plan.mount.join(level).join(file);
    let read = |level: &Path| {
        let path = path(level);
        let text = files::read(AT_FDCWD, &path).map_err(|errno| Error::Read { path, errno })?;
        Ok(text.trim().to_owned())
    };
    // Go up to the first level that has a value, then down again.
    let mut empty = Vec::new();
    let mut value = String::new();
    for level in levels(&plan.path).into_iter().rev() {
        // A new cpuset is empty, or has its parent's values already (`cgroup.clone_children`).
        if age == Age::Old || !empty.is_empty() {
            value = read(&level)?;
        }
        if !value.is_empty() {
            break;
        }
        empty.push(level);
    }
    if value.is_empty() {
        value = read(Path::new(""))?;
    }
    for level in empty.iter().rev() {
        files::write(AT_FDCWD, path(level), &value).map_err(|errno| Error::Write {
            source_path: property("linux.cgroupsPath"),
            path: path(level),
            value: value.clone(),
            errno,
            hint: String::new(),
        })?;
    }
    Ok(())
}
