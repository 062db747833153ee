//! Create and exec: the runtime's side of joining.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use coracle_sys::ProcFs;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode as Permissions, umask};
use nix::unistd::Pid;

use super::{files, remove, resctrl, v1, v2};
use crate::plan::{Driver, Files, Plan};
use crate::record::{Directory, Mode};
use crate::{Error, Record, Result};

/// The container's cgroups, made, limited, and open for its init.
#[derive(Debug)]
pub struct Created {
    /// For the state file, and for everything later.
    pub record: Record,
    /// The v2 cgroup for `CLONE_INTO_CGROUP`; on a hybrid host the one beside the v1 hierarchies.
    pub into: Option<OwnedFd>,
    /// For [`crate::join`] in the child.
    pub tasks: Vec<OwnedFd>,
}

/// The container's cgroups, open for one more process. The default value joins none.
#[derive(Debug, Default)]
pub struct Joining {
    /// The v2 cgroup for `CLONE_INTO_CGROUP`.
    pub into: Option<OwnedFd>,
    /// The v2 cgroup that init is in now, if that is another one: for a second try after EBUSY. A
    /// service manager in the container moves itself down and hands controllers to children, and
    /// such a cgroup takes no processes.
    pub fallback: Option<OwnedFd>,
    /// For [`crate::join`] in the child.
    pub tasks: Vec<OwnedFd>,
}

/// Makes the cgroups of `plan` and writes limits and device filter into them, before anybody joins.
///
/// # Errors
/// Any step that fails; whatever was made is removed again.
pub fn create(plan: &Plan) -> Result<Created> {
    let mut created = Created {
        record: Record::default(),
        into: None,
        tasks: Vec::new(),
    };
    // Engines look into the directories as other users.
    let mask = umask(Permissions::S_IWGRP | Permissions::S_IWOTH);
    let result = build(plan, &mut created);
    umask(mask);
    match result {
        Ok(()) => Ok(created),
        Err(error) => {
            drop((created.into, created.tasks));
            // The failure itself is what matters.
            let _ = remove::undo_until(&created.record, Instant::now());
            Err(error)
        }
    }
}

fn build(plan: &Plan, created: &mut Created) -> Result<()> {
    if let Driver::Files(files) = &plan.driver {
        build_files(files, created)?;
    }
    if let Some(resctrl) = &plan.resctrl {
        let tasks = resctrl::make(resctrl, &mut created.record.resctrl)?;
        created.tasks.extend(tasks);
    }
    Ok(())
}

fn build_files(files: &Files, created: &mut Created) -> Result<()> {
    created.record.mode = files.mode;
    for hierarchy in &files.hierarchies {
        let noted = &mut created.record.hierarchies;
        created
            .tasks
            .extend(v1::make(hierarchy, &files.denied, noted)?);
    }
    if let Some(unified) = &files.unified {
        let noted = &mut created.record.unified;
        created.into = v2::make(unified, &files.denied, noted)?;
    }
    if created.record.hierarchies.is_empty() && created.record.unified.is_none() {
        created.record.mode = Mode::None;
    }
    Ok(())
}

/// Opens the cgroups of a running container for one more process. `init` is the container's.
///
/// # Errors
/// A cgroup that cannot be opened, named; `ENOENT` if the container is gone.
pub fn open(record: &Record, init: Pid) -> Result<Joining> {
    let mut tasks = Vec::with_capacity(record.hierarchies.len() + record.resctrl.len());
    let hierarchies = record.hierarchies.iter().map(|directory| &directory.path);
    for path in hierarchies.chain(record.resctrl.iter().map(|group| &group.path)) {
        let directory = open_directory(path)?;
        let file = files::open_to_write(directory.as_fd(), "tasks");
        tasks.push(file.map_err(|errno| Error::Open {
            path: path.join("tasks"),
            errno,
        })?);
    }
    let (into, fallback) = match &record.unified {
        None => (None, None),
        Some(unified) => {
            // Beside v1 nothing is handed down, so there is no EBUSY.
            let moved = match record.mode {
                Mode::V2 => current(unified, init),
                _ => None,
            };
            (Some(open_directory(&unified.path)?), moved)
        }
    };
    Ok(Joining {
        into,
        fallback,
        tasks,
    })
}

/// Opens `cgroup.procs` of the v2 cgroup: one more file for [`crate::join`], which then waits some
/// 10 ms. For a second try without `CLONE_INTO_CGROUP` when a child has died of SIGKILL at birth,
/// which is what the kernel does if the two cgroups were killed by `cgroup.kill` a different number
/// of times (seen on Linux 6.18 and 7.2). `None` without a v2 cgroup.
///
/// # Errors
/// The kernel's on opening.
pub fn open_procs(record: &Record) -> Result<Option<OwnedFd>> {
    let Some(unified) = &record.unified else {
        return Ok(None);
    };
    let directory = open_directory(&unified.path)?;
    let file = files::open_to_write(directory.as_fd(), "cgroup.procs");
    file.map(Some).map_err(|errno| Error::Open {
        path: unified.path.join("cgroup.procs"),
        errno,
    })
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    files::open_path(path).map_err(|errno| Error::Open {
        path: path.to_owned(),
        errno,
    })
}

/// The v2 cgroup that `init` is in, unless it is the container's own. Only a second choice, so
/// nothing about it is an error.
fn current(unified: &Directory, init: Pid) -> Option<OwnedFd> {
    let path = current_path(unified, init)?;
    // Never out of the container's own: its init may have been moved by somebody on the host.
    if path == unified.path || !path.starts_with(&unified.path) {
        return None;
    }
    files::open_path(&path).ok()
}

fn current_path(unified: &Directory, init: Pid) -> Option<PathBuf> {
    let name = CString::new(format!("{init}/cgroup")).ok()?;
    let file = ProcFs::private().ok()?.open(&name, OFlag::O_RDONLY).ok()?;
    let content = files::read_open(&file).ok()?;
    let own = content.lines().find_map(|line| line.strip_prefix("0::"))?;
    let inside = Path::new(own).strip_prefix(&unified.root).ok()?;
    Some(unified.mount.join(inside))
}

/// Whether the kernel has killed a process of the container for want of memory. A cgroup that is
/// gone, or a machine without the counter (Linux 4.13), says no.
#[must_use]
pub fn oom_killed(record: &Record) -> bool {
    let counted = |path: &Path, file: &str| -> nix::Result<bool> {
        let directory = files::open_path(path)?;
        let content = files::read(directory.as_fd(), file)?;
        Ok(files::is_set(&content, "oom_kill"))
    };
    let answer = match (record.hierarchy("memory"), &record.unified) {
        (Some(memory), _) => counted(&memory.path, "memory.oom_control"),
        (None, Some(unified)) => counted(&unified.path, "memory.events"),
        (None, None) => Err(Errno::ENOENT),
    };
    answer.unwrap_or(false)
}
