//! Making the container's cgroup in one v1 hierarchy.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::directory::{Age, cannot_make, levels, make_path};
use super::files;
use super::processes::processes_below;
use super::rmdir::undo_directory;
use super::write::write_all;
use crate::error::property;
use crate::plan::{Denied, HierarchyPlan, directory};
use crate::record::Directory;
use crate::{Error, Result};

/// Makes the cgroup, writes its values and opens its `tasks`. New directories are recorded in
/// `record` at once. `None` if the caller may not make the cgroup and the plan allows to do without
/// it.
pub(super) fn make(
    plan: &HierarchyPlan,
    denied: &Denied,
    record: &mut Vec<Directory>,
) -> Result<Option<OwnedFd>> {
    let top = files::open_top(&plan.mount)?;
    let mut recorded = directory(plan);
    recorded.made.clear();
    let made = make_path(top.as_fd(), &plan.path, &mut recorded);
    let path = recorded.path.clone();
    record.push(recorded);
    let result = made.and_then(|age| {
        let own = files::open_below(top.as_fd(), &plan.path)?;
        Ok((age, own))
    });
    let tasks = match result {
        Ok((age, own)) => {
            if age == Age::Old {
                check_unused(&path)?;
            }
            if plan.controllers.iter().any(|name| name == "freezer") {
                check_running(own.as_fd(), &path)?;
            }
            inherit(top.as_fd(), plan)?;
            write_all(own.as_fd(), &path, &plan.writes, &mut |_| {})?;
            files::open_to_write(own.as_fd(), "tasks")
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

/// In a frozen cgroup init would never run, and the runtime would wait for ever. A new cgroup below
/// a frozen one is frozen too.
fn check_running(own: BorrowedFd, path: &Path) -> Result<()> {
    match files::read(own, "freezer.state") {
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
    // Go up to the first level that has a value, then down again.
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
