//! Making the container's cgroup in the v2 tree. cgroup-v2.rst § Organizing Processes and Threads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchownat};

use super::directory::{self, Age, cannot_make, levels};
use super::processes::processes_below;
use super::rmdir::undo_directory;
use super::write::write_all;
use super::{device, files, partition};
use crate::error::property;
use crate::plan::{Denied, Enable, UnifiedPlan, unified_directory};
use crate::record::Directory;
use crate::{Error, Result};

/// The controllers that a threaded cgroup can have; all others need a domain.
const THREADED: [&str; 4] = ["cpu", "cpuset", "perf_event", "pids"];

/// Makes the cgroup with its limits, and opens its directory. New directories are recorded in
/// `record` at once. `None` if the caller may not make the cgroup and the plan allows to do without
/// it.
pub(super) fn make(
    plan: &UnifiedPlan,
    denied: &Denied,
    record: &mut Option<Directory>,
) -> Result<Option<OwnedFd>> {
    let top = files::open_top(&plan.mount)?;
    let mut recorded = unified_directory(plan);
    recorded.made.clear();
    let mut blocked = Vec::new();
    let path = recorded.path.clone();
    let made = make_path(top.as_fd(), plan, &mut recorded, &mut blocked);
    let made = made.and_then(|age| Ok((age, files::open_below(top.as_fd(), &plan.path)?)));
    *record = Some(recorded);
    let (age, own) = match made {
        Ok(made) => made,
        Err(_) if plan.side && plan.required.is_empty() => return forgo(record),
        Err(errno) if files::is_denied(errno) && *denied == Denied::Skip => return forgo(record),
        Err(errno) => return Err(cannot_make(path, errno, denied)),
    };
    check_unused(own.as_fd(), &path)?;
    fill(own.as_fd(), plan, &blocked, age)?;
    Ok(Some(own))
}

/// Sets limits, device filter and owner of the existing cgroup `own`. `blocked` has the controllers
/// that its parents did not enable.
pub(super) fn fill(
    own: BorrowedFd,
    plan: &UnifiedPlan,
    blocked: &[Blocked],
    age: Age,
) -> Result<()> {
    let path = plan.mount.join(&plan.path);
    check_required(own, plan, blocked)?;
    check_type(own, &path, plan)?;
    write_all(own, &path, &plan.writes, &mut |_| {})?;
    partition::check(own, &path, &plan.writes, None)?;
    if let Some(program) = &plan.devices {
        device::attach(own, &path, program, age)?;
    }
    match plan.owner {
        Some(uid) => delegate(own, &path, uid),
        None => Ok(()),
    }
}

/// Enables the required controllers for an existing cgroup, from the root down to its parent.
pub(super) fn enable_down_to(top: BorrowedFd, plan: &UnifiedPlan) -> nix::Result<Vec<Blocked>> {
    let mut blocked = Vec::new();
    if !plan.required.is_empty() {
        enable(top, &plan.mount, plan, &mut blocked)?;
        for level in levels(plan.path.parent().unwrap_or(Path::new(""))) {
            let parent = files::open_below(top, &level)?;
            enable(parent.as_fd(), &plan.mount.join(level), plan, &mut blocked)?;
        }
    }
    Ok(blocked)
}

/// Removes what was made of this cgroup; the container does without it.
fn forgo(record: &mut Option<Directory>) -> Result<Option<OwnedFd>> {
    if let Some(recorded) = record.take() {
        undo_directory(&recorded);
    }
    Ok(None)
}

/// A controller that could not be enabled in a parent.
pub(super) struct Blocked {
    controller: String,
    directory: PathBuf,
    errno: Errno,
}

/// Makes the path level by level: a cgroup has a controller only if every parent enables it.
fn make_path(
    top: BorrowedFd,
    plan: &UnifiedPlan,
    recorded: &mut Directory,
    blocked: &mut Vec<Blocked>,
) -> nix::Result<Age> {
    if plan.enable == Enable::Required && plan.required.is_empty() {
        return directory::make_path(top, &plan.path, recorded);
    }
    let mut age = Age::Old;
    let mut parent = top
        .try_clone_to_owned()
        .map_err(|error| coracle_text::io_errno(&error))?;
    let mut parent_path = plan.mount.clone();
    let levels = levels(&plan.path);
    for (index, level) in levels.iter().enumerate() {
        enable(parent.as_fd(), &parent_path, plan, blocked)?;
        age = directory::make_level(top, level, recorded)?;
        parent = files::open_below(top, level)?;
        parent_path = plan.mount.join(level);
        if index + 1 < levels.len() {
            make_threaded(parent.as_fd(), plan)?;
        }
    }
    Ok(age)
}

/// Enables controllers for the children of `directory`: all at once or, if that fails, one by one.
/// A failure is recorded and reported only if a limit needs the controller.
fn enable(
    directory: BorrowedFd,
    path: &Path,
    plan: &UnifiedPlan,
    blocked: &mut Vec<Blocked>,
) -> nix::Result<()> {
    let enabled = files::read(directory, "cgroup.subtree_control")?;
    let available = files::read(directory, "cgroup.controllers")?;
    let is_enabled = |name: &str| enabled.split_whitespace().any(|other| other == name);
    let is_required = |name: &str| plan.required.iter().any(|(other, _)| other == name);
    let missing = available
        .split_whitespace()
        .filter(|name| !is_enabled(name));
    let missing: Vec<&str> = match plan.enable {
        Enable::Available => missing.collect(),
        Enable::Required => missing.filter(|name| is_required(name)).collect(),
    };
    let required = || {
        missing
            .iter()
            .copied()
            .filter(|name| is_required(name))
            .collect()
    };
    let mut note = |names: &[&str], errno| {
        blocked.extend(names.iter().map(|name| Blocked {
            controller: (*name).to_owned(),
            directory: path.to_owned(),
            errno,
        }));
    };
    match write_subtree_control(directory, &missing) {
        Ok(()) => {}
        // The cgroup has processes or is threaded. One by one, the kernel would accept cpu and pids
        // and make the cgroup a threaded domain, below which no cgroup can have memory limits. So
        // only the required controllers are written, together.
        Err(Errno::EBUSY | Errno::EOPNOTSUPP) => {
            let required: Vec<&str> = required();
            if let Err(errno) = write_subtree_control(directory, &required) {
                note(&required, errno);
            }
        }
        Err(_) => {
            for name in &missing {
                if let Err(errno) = write_subtree_control(directory, &[name]) {
                    note(&[name], errno);
                }
            }
        }
    }
    Ok(())
}

/// Enables controllers by one write: the kernel enables all or none.
fn write_subtree_control(directory: BorrowedFd, controllers: &[&str]) -> nix::Result<()> {
    if controllers.is_empty() {
        return Ok(());
    }
    let signed: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    files::write(directory, "cgroup.subtree_control", &signed.join(" "))
}

/// A cgroup below a threaded one is invalid until it is made threaded too.
fn make_threaded(directory: BorrowedFd, plan: &UnifiedPlan) -> nix::Result<()> {
    let kind = files::read(directory, "cgroup.type")?;
    if kind.trim() == "domain invalid" && !needs_domain(plan) {
        files::write(directory, "cgroup.type", "threaded")?;
    }
    Ok(())
}

fn needs_domain(plan: &UnifiedPlan) -> bool {
    let mut required = plan.required.iter();
    required.any(|(controller, _)| !THREADED.contains(&controller.as_str()))
}

/// Checks that every limit has its controller. The error names the directory in which it could not
/// be enabled.
fn check_required(own: BorrowedFd, plan: &UnifiedPlan, blocked: &[Blocked]) -> Result<()> {
    if plan.required.is_empty() {
        return Ok(());
    }
    let path = plan.mount.join(&plan.path);
    let available =
        files::read(own, "cgroup.controllers").map_err(Error::read(&path, "cgroup.controllers"))?;
    for (controller, source) in &plan.required {
        if available.split_whitespace().any(|name| name == controller) {
            continue;
        }
        let cause = blocked
            .iter()
            .find(|blocked| blocked.controller == *controller);
        let parent = path.parent().unwrap_or(&path);
        return Err(Error::Enable {
            path: property(source),
            controller: controller.clone(),
            directory: cause.map_or(parent, |cause| &cause.directory).to_owned(),
            errno: cause.map(|cause| cause.errno),
        });
    }
    Ok(())
}

/// Checks that the type of the cgroup allows a process and the requested limits.
fn check_type(own: BorrowedFd, path: &Path, plan: &UnifiedPlan) -> Result<()> {
    let failed = |errno| Error::Make {
        path: path.to_owned(),
        errno,
    };
    let kind = files::read(own, "cgroup.type").map_err(failed)?;
    match kind.trim() {
        kind @ ("domain invalid" | "threaded") if needs_domain(plan) => Err(Error::Threaded {
            path: path.to_owned(),
            kind: kind.to_owned(),
        }),
        "domain invalid" => files::write(own, "cgroup.type", "threaded").map_err(failed),
        _ => Ok(()),
    }
}

/// An existing cgroup must have no processes and must not be frozen: init would never run, and the
/// runtime would wait for ever. A new cgroup below a frozen one is frozen too.
pub(super) fn check_unused(own: BorrowedFd, path: &Path) -> Result<()> {
    let events = events(own, path)?;
    if files::is_set(&events, "populated") {
        let count = processes_below(path)?.len();
        if count > 0 {
            let path = path.to_owned();
            return Err(Error::NotEmpty { path, count });
        }
    }
    check_frozen(&events, path)
}

/// Checks that a parent is not frozen.
pub(super) fn check_running(own: BorrowedFd, path: &Path) -> Result<()> {
    check_frozen(&events(own, path)?, path)
}

fn events(own: BorrowedFd, path: &Path) -> Result<String> {
    match files::read(own, "cgroup.events") {
        Err(errno) if files::is_gone(errno) => Ok(String::new()),
        other => other.map_err(Error::read(path, "cgroup.events")),
    }
}

fn check_frozen(events: &str, path: &Path) -> Result<()> {
    match files::is_set(events, "frozen") {
        true => Err(Error::Frozen {
            path: path.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Makes `uid` the owner of the cgroup: of the directory and of the files that the kernel lists as
/// safe to delegate.
pub(super) fn delegate(own: BorrowedFd, path: &Path, uid: u32) -> Result<()> {
    let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    for file in std::iter::once(".").chain(listed.lines()) {
        let owner = Some(Uid::from_raw(uid));
        match fchownat(own, file, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                let path = path.join(file);
                return Err(Error::Own { path, uid, errno });
            }
        }
    }
    Ok(())
}
