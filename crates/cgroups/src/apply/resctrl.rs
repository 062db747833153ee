//! Making and removing groups of the resctrl file system. x86/resctrl.rst.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::files;
use crate::plan::{Missing, ResctrlPlan};
use crate::record::Group;
use crate::{Error, Result};

/// Makes the groups and opens their `tasks`, the control group's first: a process must join it
/// before its monitoring group. Each new group is recorded in `record` at once.
pub(super) fn make(plan: &ResctrlPlan, record: &mut Vec<Group>) -> Result<Vec<OwnedFd>> {
    let mut tasks = vec![make_control(plan, record)?];
    if let Some(path) = &plan.monitoring {
        make_directory(path, "make monitoring group")?;
        record.push(Group {
            path: path.clone(),
            made: true,
            remove: true,
        });
        tasks.push(open_tasks(path)?);
    }
    Ok(tasks)
}

fn make_control(plan: &ResctrlPlan, record: &mut Vec<Group>) -> Result<OwnedFd> {
    let path = &plan.group;
    let mut note = |made| {
        record.push(Group {
            path: path.clone(),
            made,
            remove: made && plan.remove,
        });
    };
    let there = match files::open_path(path) {
        Ok(_) => true,
        Err(errno @ Errno::ENOENT) if plan.missing == Missing::Fail => {
            return Err(failed("use group without a schema", path, errno));
        }
        Err(Errno::ENOENT) => false,
        Err(errno) => return Err(failed("open", path, errno)),
    };
    if there {
        note(false);
        compare(path, &plan.schemata)?;
        return open_tasks(path);
    }
    make_directory(path, "make group")?;
    note(true);
    write_schemata(path, &plan.schemata)?;
    open_tasks(path)
}

fn write_schemata(path: &Path, schemata: &str) -> Result<()> {
    if schemata.is_empty() {
        return Ok(());
    }
    let written = files::open_path(path)
        .and_then(|directory| files::write(directory.as_fd(), "schemata", schemata));
    written.map_err(|errno| failed("write schemata of", path, errno))
}

/// Writes new lines into a group's `schemata`; returns the previous lines.
pub(super) fn update(path: &Path, schemata: &str) -> Result<String> {
    let before = files::open_path(path)
        .and_then(|directory| files::read(directory.as_fd(), "schemata"))
        .map_err(|errno| failed("read schemata of", path, errno))?;
    write_schemata(path, schemata)?;
    Ok(before)
}

/// An existing group may be shared, so its schemata are not changed: they must already be the
/// config's.
fn compare(path: &Path, schemata: &str) -> Result<()> {
    if schemata.is_empty() {
        return Ok(());
    }
    let read = files::open_path(path)
        .and_then(|directory| files::read(directory.as_fd(), "schemata"))
        .map_err(|errno| failed("read schemata of", path, errno))?;
    match schemata.lines().find(|line| !holds(&read, line)) {
        None => Ok(()),
        Some(line) => Err(Error::config(
            "linux.intelRdt",
            format!(
                "group {} exists, but its schemata do not have `{line}`",
                path.display()
            ),
        )),
    }
}

/// Whether each `domain=value` of `line`, such as `L3:0=f;1=f0`, stands in `schemata`.
fn holds(schemata: &str, line: &str) -> bool {
    let Some((resource, wanted)) = line.split_once(':') else {
        return line.trim().is_empty();
    };
    let same = |other: &&str| other.trim() == resource.trim();
    let present = schemata
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| same(name));
    let Some((_, present)) = present else {
        return false;
    };
    let present: Vec<(&str, &str)> = domains(present).collect();
    domains(wanted).all(|domain| present.contains(&domain))
}

/// `0=00f; 1=f0` as (0, f) and (1, f0): the kernel pads numbers with zeros.
fn domains(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(';').filter_map(|domain| {
        let (id, value) = domain.split_once('=')?;
        Some((significant(id), significant(value)))
    })
}

fn significant(number: &str) -> &str {
    let number = number.trim();
    let bare = number.trim_start_matches('0');
    if bare.is_empty() { "0" } else { bare }
}

fn make_directory(path: &Path, what: &'static str) -> Result<()> {
    match files::make(nix::fcntl::AT_FDCWD, path) {
        Ok(()) => Ok(()),
        Err(errno) => Err(failed(what, path, errno)),
    }
}

fn open_tasks(path: &Path) -> Result<OwnedFd> {
    files::open_path(path)
        .and_then(|directory| files::open_to_write(directory.as_fd(), "tasks"))
        .map_err(|errno| failed("open tasks of", path, errno))
}

fn failed(what: &'static str, path: &Path, errno: Errno) -> Error {
    let hint = match errno {
        Errno::ENOSPC => ": the processor has no free class or monitor left".to_owned(),
        _ => status(path).map_or_else(String::new, |status| format!(": {status}")),
    };
    Error::Resctrl {
        what,
        path: path.to_owned(),
        errno,
        hint,
    }
}

/// The kernel's reason for its last refusal: `info/last_cmd_status` at the mount point.
fn status(path: &Path) -> Option<String> {
    let info = path.ancestors().find_map(|above| {
        let info = above.join("info");
        files::open_path(&info).ok()
    })?;
    let status = last_status(info.as_fd())?;
    (status != "ok" && !status.is_empty()).then_some(status)
}

fn last_status(info: BorrowedFd) -> Option<String> {
    let status = files::read(info, "last_cmd_status").ok()?;
    Some(status.trim().replace('\n', "; "))
}

/// Removes the groups for which `ours` holds, the monitoring group before the control group.
pub(super) fn remove(groups: &[Group], ours: fn(&&Group) -> bool) -> Result<()> {
    let mut result = Ok(());
    for group in groups.iter().rev().filter(ours) {
        match unlinkat(nix::fcntl::AT_FDCWD, &group.path, UnlinkatFlags::RemoveDir) {
            Ok(()) => {}
            Err(errno) if files::is_gone(errno) => {}
            Err(errno) => result = result.and(Err(failed("remove group", &group.path, errno))),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemata_are_compared_by_value() {
        let present = "    MB:0=100;1=100\n    L3:0=fffff;1=000f0\n";
        for line in [
            "L3:0=fffff",
            "L3:1=f0;0=fffff",
            "L3:0=0fffff",
            "MB: 0 = 100",
            "",
        ] {
            assert!(holds(present, line), "{line}");
        }
        for line in ["L3:0=f", "L3:2=f", "L2:0=f", "MB:0=10", "nonsense"] {
            assert!(!holds(present, line), "{line}");
        }
    }
}
