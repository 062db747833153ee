//! Create and exec: the runtime's side of joining.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use coracle_sys::{
    Depth, MountAttributes, OpenTreeFlags, mount_attribute, mount_setattr, open_tree,
};
use nix::errno::Errno;
use nix::sys::stat::{Mode as Permissions, umask};
use nix::unistd::Pid;

use super::directory::levels;
use super::processes::cgroup_of;
use super::systemd::{self, UnitAction};
use super::{files, init_cgroup, remove, resctrl, v1, v2};
use crate::plan::{Driver, Files, Plan, SystemdPlan, unified_directory};
use crate::record::{Directory, Mode, Unit};
use crate::table::{MEMORY_EVENTS, Version};
use crate::{Error, Record, Result};

/// A container's cgroups, open for one process to join. The default value joins none.
#[derive(Debug, Default)]
pub struct Joining {
    /// Which they are. With an action for systemd the unit, and a v2 cgroup of it, may still be
    /// somebody else's for a new container, until [`Joining::put`].
    pub record: Record,
    /// The v2 cgroup for `CLONE_INTO_CGROUP`; on a hybrid host the one beside the v1 hierarchies.
    pub into: Option<OwnedFd>,
    /// The v2 cgroup that init is in now, if that is another one: for a second try after EBUSY. A
    /// service manager in the container moves itself down and hands controllers to children, and
    /// such a cgroup takes no processes.
    pub fallback: Option<OwnedFd>,
    /// For [`crate::join`] in the child.
    pub tasks: Vec<OwnedFd>,
    /// For [`crate::enter_init_cgroup`] in the child.
    pub init_cgroup: Option<OwnedFd>,
    /// After the clone: in any case for a new container, else where the kernel lets us not clone
    /// into the cgroup.
    pub unit_action: Option<UnitAction>,
}

impl Joining {
    /// What can be undone of a new container's cgroups at this moment.
    #[must_use]
    pub fn made(&self) -> Record {
        match self.unit_action {
            None => self.record.clone(),
            Some(_) => self.record.without_unit(),
        }
    }

    /// Puts `pid` where it belongs: a child of ours that waits, and that was not cloned into the v2
    /// cgroup. Where we write it there ourselves, that waits some 10 ms for the kernel.
    ///
    /// # Errors
    /// The kernel's, with the cgroup, or systemd's. A unit that was started for the process is gone
    /// then, and so is the process.
    pub fn put(&mut self, pid: Pid) -> Result<()> {
        match (&self.unit_action, &self.into) {
            (Some(action), _) => self.init_cgroup = systemd::join_unit(action, pid)?,
            (None, Some(into)) => enter(&self.record, into.as_fd(), pid)?,
            (None, None) => {}
        }
        Ok(())
    }

    /// Has the process join the v2 cgroup by itself, by [`crate::join`], instead of being cloned
    /// into it. That waits some 10 ms for the kernel.
    ///
    /// For a second try when a child has died of SIGKILL at its clone, which the kernel does
    /// if the two cgroups were killed by `cgroup.kill` a different number of times (seen on Linux
    /// 6.18 and 7.2).
    ///
    /// # Errors
    /// The kernel's on opening `cgroup.procs`.
    pub fn join_alone(&mut self) -> Result<()> {
        (self.into, self.fallback) = (None, None);
        let Some(unified) = &self.record.unified else {
            return Ok(());
        };
        let directory = open_directory(&unified.path)?;
        let file = files::open_to_write(directory.as_fd(), "cgroup.procs");
        self.tasks.push(file.map_err(|errno| Error::Open {
            path: unified.path.join("cgroup.procs"),
            errno,
        })?);
        Ok(())
    }

    /// Closes what the process has inherited.
    pub fn close(&mut self) {
        (self.into, self.fallback) = (None, None);
        self.tasks.clear();
    }
}

/// What the state file must know before the first side effect: every directory that will be made. A
/// runtime that is killed in between leaves nothing that [`crate::remove_planned`] doesn't find.
/// What is there already belongs to others; that they come in between, and make the same, cannot
/// be foreseen.
#[must_use]
pub fn planned_record(plan: &Plan) -> Record {
    let mut record = plan.record();
    for directory in record.hierarchies.iter_mut().chain(&mut record.unified) {
        directory.made = missing(directory);
    }
    record.resctrl.retain(|group| is_missing(&group.path));
    if let (Some(unified), Some(init_cgroup)) = (&record.unified, &record.init_cgroup) {
        record.init_cgroup_made = is_missing(&unified.path.join(init_cgroup));
    }
    if record.unit.is_some() {
        // systemd makes the parents of its own cgroup, and takes them away.
        if let Some(unified) = &mut record.unified {
            unified.made.retain(|path| *path == unified.path);
        }
        let own = record.hierarchy("name=systemd").or(record.unified.as_ref());
        if own.is_some_and(|own| !own.made.contains(&own.path)) {
            record.unit = None;
        }
    }
    record
}

/// The cgroups of `plan` that are there, as if we had made them: of a container whose record cannot
/// be read. `None` if there are none.
#[must_use]
pub fn find(plan: &Plan) -> Option<Record> {
    let mut record = plan.record();
    record
        .hierarchies
        .retain(|directory| directory.path.is_dir());
    record.unified = record.unified.filter(|directory| directory.path.is_dir());
    record.resctrl.retain(|group| group.path.is_dir());
    record.has_cgroups().then_some(record)
}

/// The levels of a path that are to be made, outermost first.
fn missing(directory: &Directory) -> Vec<PathBuf> {
    let below = directory.path.strip_prefix(&directory.mount);
    let levels = levels(below.unwrap_or(Path::new("")));
    let paths = levels.iter().map(|level| directory.mount.join(level));
    paths.filter(|path| is_missing(path)).collect()
}

fn is_missing(path: &Path) -> bool {
    path.try_exists().is_ok_and(|exists| !exists)
}

/// Makes the cgroups of `plan` and writes limits and device filter into them, before anybody joins.
///
/// # Errors
/// Any step that fails; whatever was made is removed again.
pub fn create(plan: &Plan) -> Result<Joining> {
    let mut created = Joining::default();
    // Engines look into the directories as other users.
    let mask = umask(Permissions::S_IWGRP | Permissions::S_IWOTH);
    let result = build(plan, &mut created);
    umask(mask);
    match result {
        Ok(()) => Ok(created),
        Err(error) => {
            drop((created.into, created.tasks, created.init_cgroup));
            // The failure itself is what matters.
            let _ = remove::undo_until(&created.record.without_unit(), Instant::now());
            Err(error)
        }
    }
}

fn build(plan: &Plan, created: &mut Joining) -> Result<()> {
    match &plan.driver {
        Driver::None => {}
        Driver::Files(files) => build_files(files, created)?,
        Driver::Systemd(plan) => build_unit(plan, created)?,
    }
    if let Some(resctrl) = &plan.resctrl {
        let tasks = resctrl::make(resctrl, &mut created.record.resctrl)?;
        created.tasks.extend(tasks);
    }
    Ok(())
}

fn build_files(files: &Files, created: &mut Joining) -> Result<()> {
    created.record.mode = files.mode;
    for hierarchy in &files.hierarchies {
        let recorded = &mut created.record.hierarchies;
        created
            .tasks
            .extend(v1::make(hierarchy, &files.denied, recorded)?);
    }
    if let Some(unified) = &files.unified {
        let recorded = &mut created.record.unified;
        created.into = v2::make(unified, &files.denied, recorded)?;
        if let Some(into) = &created.into {
            created.record.init_cgroup = files.init_cgroup();
            let made = &mut created.record.init_cgroup_made;
            created.init_cgroup = init_cgroup::make(unified, into.as_fd(), made)?;
        }
    }
    if !created.record.has_cgroups() {
        created.record.mode = Mode::None;
    }
    Ok(())
}

/// What can be made before there is a process: cgroups of v1, which init joins by itself. systemd
/// takes those that it uses for its own.
fn build_unit(plan: &SystemdPlan, created: &mut Joining) -> Result<()> {
    systemd::check_free(&plan.files)?;
    let record = &mut created.record;
    record.mode = plan.files.mode;
    record.unit = Some(plan.unit.record.clone());
    for hierarchy in &plan.files.hierarchies {
        let recorded = &mut record.hierarchies;
        created
            .tasks
            .extend(v1::make(hierarchy, &plan.files.denied, recorded)?);
    }
    record.unified = plan.files.unified.as_ref().map(unified_directory);
    record.init_cgroup = plan.files.init_cgroup();
    created.unit_action = Some(UnitAction::Start(Box::new(plan.clone())));
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
        let file = files::open_path_to_write(path, "tasks");
        tasks.push(file.map_err(|errno| Error::Open {
            path: path.join("tasks"),
            errno,
        })?);
    }
    let (into, fallback) = match &record.unified {
        None => (None, None),
        Some(unified) => {
            // Beside v1 hardly anything is handed down, so EBUSY is not worth the look.
            let moved = match record.mode {
                Mode::V2 => current(unified, init),
                _ => None,
            };
            (Some(open_directory(&unified.path)?), moved)
        }
    };
    Ok(Joining {
        record: record.clone(),
        into,
        fallback,
        tasks,
        init_cgroup: None,
        unit_action: record.unit.as_ref().and_then(|unit| attach(unit, record)),
    })
}

/// The record with the cgroup below into which init was put, for [`open`] alone: a process in the
/// container's own one would keep the container from handing controllers down. It may have removed
/// that one since, and then the record stays as it is.
#[must_use]
pub fn at_init(record: &Record) -> Record {
    let mut record = record.clone();
    if let (Some(init_cgroup), Some(unified)) = (&record.init_cgroup, &mut record.unified) {
        let path = unified.path.join(init_cgroup);
        if path.is_dir() {
            unified.path = path;
        }
    }
    record
}

/// A copy of a cgroup's open directory out of which no path leads, for a process that others may
/// trace (CVE-2016-9962): the root of a read-only mount of its own. `None` if there can be none.
///
/// Without the right to mount, the directory itself: the container has a user namespace below ours
/// then, whose processes can trace none that has not executed inside.
#[must_use]
pub fn enclose(directory: BorrowedFd) -> Option<OwnedFd> {
    let flags = OpenTreeFlags::CLONE | OpenTreeFlags::EMPTY_PATH;
    let read_only = MountAttributes {
        set: mount_attribute::RDONLY,
        ..MountAttributes::default()
    };
    match open_tree(directory, c"", flags) {
        Ok(mount) => match mount_setattr(mount.as_fd(), &read_only, Depth::Single) {
            Ok(()) => Some(mount),
            Err(_) => None,
        },
        Err(Errno::EPERM) => directory.try_clone_to_owned().ok(),
        Err(_) => None,
    }
}

fn enter(record: &Record, directory: BorrowedFd, pid: Pid) -> Result<()> {
    let written = files::write(directory, "cgroup.procs", &pid.to_string());
    written.map_err(|errno| Error::Enter {
        path: record
            .unified
            .as_ref()
            .map_or_else(PathBuf::new, |unified| unified.path.clone()),
        errno,
    })
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    files::open_path(path).map_err(|errno| Error::Open {
        path: path.to_owned(),
        errno,
    })
}

/// For who may not move processes himself: systemd knows its units' cgroups by their paths below.
fn attach(unit: &Unit, record: &Record) -> Option<UnitAction> {
    let unified = record
        .unified
        .as_ref()
        .filter(|_| record.mode == Mode::V2)?;
    // A sub-cgroup is below the directory that was made.
    let below = unified.path.strip_prefix(unified.made.last()?).ok()?;
    let below = below.to_str()?;
    Some(UnitAction::Attach {
        unit: unit.clone(),
        below: match below {
            "" => String::new(),
            below => format!("/{below}"),
        },
    })
}

/// The v2 cgroup that `init` is in, unless it is the container's own. Only a second choice, so
/// nothing about it is an error.
fn current(unified: &Directory, init: Pid) -> Option<OwnedFd> {
    let path = cgroup_of(unified, init)?;
    // Never out of the container's own: its init may have been moved by somebody on the host.
    let own = unified.made.last().unwrap_or(&unified.path);
    if path == unified.path || !path.starts_with(own) {
        return None;
    }
    files::open_path(&path).ok()
}

/// Whether the kernel has killed a process of the container for want of memory. A cgroup that is
/// gone, or a machine without the counter (Linux 4.13), counts as none.
#[must_use]
pub fn oom_killed(record: &Record) -> bool {
    let counted = |path: &Path, file: &str| -> nix::Result<bool> {
        let directory = files::open_path(path)?;
        let content = files::read(directory.as_fd(), file)?;
        Ok(files::is_set(&content, "oom_kill"))
    };
    let answer = match (record.hierarchy("memory"), &record.unified) {
        (Some(memory), _) => counted(&memory.path, MEMORY_EVENTS.name(Version::V1)),
        (None, Some(unified)) => counted(&unified.path, MEMORY_EVENTS.name(Version::V2)),
        (None, None) => Err(Errno::ENOENT),
    };
    answer.unwrap_or(false)
}
