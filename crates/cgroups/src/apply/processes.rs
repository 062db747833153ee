//! The processes in a cgroup and in those below it.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use coracle_sys::ProcFs;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::Pid;

use super::files;
use super::walk::walk;
use crate::record::Directory;
use crate::{Error, Record, Result};

/// The container's processes, as pids in the runtime's pid namespace, including those in cgroups
/// below its own; sorted. Empty for a container without a cgroup.
///
/// # Errors
/// The kernel's on reading; a cgroup that is gone has no processes.
pub fn processes(record: &Record) -> Result<Vec<i32>> {
    match listing(record) {
        Some(directory) => processes_below(&directory.path),
        None => Ok(Vec::new()),
    }
}

/// The record with the cgroups that `init` is in now, in place of those that are gone: a program on
/// the host has moved init and removed them. These cgroups are not the container's own, so nothing
/// in them may be killed or removed. `None` if no cgroup is gone.
#[must_use]
pub fn follow(record: &Record, init: Pid) -> Option<Record> {
    // A cgroup that init is in is there. With one hierarchy or two it is as quick to look for each.
    let now = match record.hierarchies.len() > 2 {
        true => own_cgroups(init).unwrap_or_default(),
        false => String::new(),
    };
    let is_there = |directory: &Directory| {
        cgroup_in(&now, directory).is_some_and(|path| path == directory.path)
            || directory.path.try_exists().unwrap_or(true)
    };
    let mut all = record.all();
    if all.all(is_there) {
        return None;
    }
    let mut followed = record.clone();
    let mut is_changed = false;
    for directory in followed.hierarchies.iter_mut().chain(&mut followed.unified) {
        if is_there(directory) {
            continue;
        }
        let Some(path) = cgroup_of(directory, init).filter(|path| path.is_dir()) else {
            continue;
        };
        directory.path = path;
        directory.made.clear();
        is_changed = true;
    }
    // A unit ends with its last process.
    followed.unit = None;
    is_changed.then_some(followed)
}

/// The processes in each cgroup of `followed` that differs from the one in `record`, and in those
/// below it; sorted.
///
/// # Errors
/// Those of [`processes`].
pub fn processes_in_moved(record: &Record, followed: &Record) -> Result<Vec<i32>> {
    let each = |record: &Record| -> Vec<PathBuf> {
        let all = record.all();
        all.map(|directory| directory.path.clone()).collect()
    };
    let mut found = Vec::new();
    for (own, now) in each(record).into_iter().zip(each(followed)) {
        if own != now {
            found.extend(processes_below(&now)?);
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The cgroup whose processes are the container's. On v1 the freezer's, so that exactly the frozen
/// processes are signalled; a service manager in the container does not use that hierarchy.
pub(super) fn listing(record: &Record) -> Option<&Directory> {
    let named = ["freezer", "pids", "devices"].iter();
    named
        .filter_map(|controller| record.hierarchy(controller))
        .next()
        .or(record.hierarchies.first())
        .or(record.unified.as_ref())
}

/// The cgroup of `pid` in the hierarchy of `directory`, below its mount; `None` if the process is
/// gone or its cgroup is outside the mount.
pub(super) fn cgroup_of(directory: &Directory, pid: Pid) -> Option<PathBuf> {
    let name = ProcFs::path_of(pid, "cgroup");
    let file = ProcFs::private().ok()?.open(&name, OFlag::O_RDONLY).ok()?;
    cgroup_in(&files::read_open(&file).ok()?, directory)
}

/// The content of `/proc/PID/cgroup`.
fn own_cgroups(pid: Pid) -> nix::Result<String> {
    let file = coracle_sys::open(format!("/proc/{pid}/cgroup").as_str(), OFlag::O_RDONLY)?;
    files::read_open(&file)
}

/// The cgroup that `/proc/PID/cgroup` names in the hierarchy of `directory`, below its mount.
fn cgroup_in(content: &str, directory: &Directory) -> Option<PathBuf> {
    let path = content.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_it = match directory.controllers.first() {
            None => controllers.is_empty(),
            Some(first) => controllers.split(',').any(|name| name == first),
        };
        is_it.then_some(path)
    })?;
    let inside = Path::new(path).strip_prefix(&directory.root).ok()?;
    Some(directory.mount.join(inside))
}

/// Processes in the cgroup at `path` and below.
pub(super) fn processes_below(path: &Path) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut enter = |directory: BorrowedFd| {
        match files::read(directory, "cgroup.procs") {
            Ok(list) => found.extend(list.lines().filter_map(|line| line.parse::<i32>().ok())),
            // A threaded cgroup has no processes of its own, only threads.
            Err(Errno::EOPNOTSUPP) => {
                let threads = files::read(directory, "cgroup.threads")?;
                found.extend(threads.lines().filter_map(process_of));
            }
            Err(errno) => return Err(errno),
        }
        Ok(())
    };
    let top = files::open_path(path);
    let result = top.and_then(|top| walk(top, &mut enter, &mut |_, _| Ok(())));
    match result {
        Ok(()) => {}
        Err(errno) if files::is_gone(errno) => {}
        Err(errno) => return Err(Error::read(path, "cgroup.procs")(errno)),
    }
    // 0 stands for a process outside the runtime's pid namespace. The file need not be sorted.
    found.retain(|pid| *pid > 0);
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The process of a thread; `None` if it is gone.
fn process_of(thread: &str) -> Option<i32> {
    let name = ProcFs::path_of(thread, "status");
    let file = ProcFs::mounted().ok()?.open(&name, OFlag::O_RDONLY).ok()?;
    let status = files::read_open(&file).ok()?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    process.trim().parse().ok()
}
