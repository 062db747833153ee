//! The runtime's part of joining, for `create` and `exec`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use coracle_host::CgroupMode;
use coracle_program::Interrupts;
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
use crate::record::{Directory, Unit};
use crate::table::{MEMORY_EVENTS, Version};
use crate::{Error, Record, Result};

/// The open cgroups of a container, for one process to join. The default value has none.
#[derive(Debug, Default)]
pub struct Joining {
    /// The cgroups. For a new container with a `unit_action`, the unit and its v2 cgroup may still
    /// belong to another program until [`Joining::put`].
    pub record: Record,
    /// The v2 cgroup for `CLONE_INTO_CGROUP`, on a hybrid host too.
    pub into: Option<OwnedFd>,
    /// The v2 cgroup that init is in now, if it differs: for a second try after EBUSY. A service
    /// manager in the container moves itself to a child cgroup and enables controllers for the
    /// children, and then the kernel lets no process into the parent.
    pub fallback: Option<OwnedFd>,
    /// The files that the child needs for [`crate::join`].
    pub tasks: Vec<OwnedFd>,
    /// The file that the child needs for [`crate::enter_init_cgroup`].
    pub init_cgroup: Option<OwnedFd>,
    /// What systemd must do after the clone: for a new container always, for `exec` only if the
    /// kernel refuses the clone into the cgroup.
    pub unit_action: Option<UnitAction>,
}

impl Joining {
    /// The cgroups of a new container that coracle has made so far, for undo.
    #[must_use]
    pub fn made(&self) -> Record {
        match self.unit_action {
            None => self.record.clone(),
            Some(_) => self.record.without_unit(),
        }
    }

    /// Moves `pid`, a waiting child of the runtime that was not cloned into the v2 cgroup, into its
    /// cgroup. A write to `cgroup.procs` takes some 10 ms, the kernel's grace period.
    ///
    /// # Errors
    /// The kernel's, with the cgroup, or systemd's; a signal that arrives before systemd answers.
    /// If systemd was to start a unit, the process is then killed, and a unit that was started for
    /// it is stopped.
    pub fn put(&mut self, pid: Pid, interrupts: Option<&Interrupts>) -> Result<()> {
        match (&self.unit_action, &self.into) {
            (Some(action), _) => {
                self.init_cgroup = systemd::join_unit(action, pid, interrupts)?;
            }
            (None, Some(into)) => enter(&self.record, into.as_fd(), pid)?,
            (None, None) => {}
        }
        Ok(())
    }

    /// Lets the process join the v2 cgroup by [`crate::join`] instead of being cloned into it. This
    /// takes some 10 ms, the kernel's grace period.
    ///
    /// For a second try after a child was killed at the clone. The kernel does this if
    /// `cgroup.kill` was written to the two cgroups a different number of times (seen on Linux 6.18
    /// and 7.2).
    ///
    /// # Errors
    /// The kernel's on opening `cgroup.procs`.
    pub fn join_alone(&mut self) -> Result<()> {
        (self.into, self.fallback) = (None, None);
        let Some(unified) = &self.record.unified else {
            return Ok(());
        };
        let directory = files::open_directory(&unified.path)?;
        let file = files::open_to_write(directory.as_fd(), "cgroup.procs");
        self.tasks
            .push(file.map_err(Error::open(&unified.path, "cgroup.procs"))?);
        Ok(())
    }

    /// Closes the descriptors that the process has inherited.
    pub fn close(&mut self) {
        // Opened one after the other, they close by one call.
        self.tasks.extend(self.into.take());
        self.tasks.extend(self.fallback.take());
        coracle_sys::close_all(&mut self.tasks);
    }
}

/// The record to be stored before the first side effect: every directory that will be made. If the
/// runtime is killed after that, [`crate::remove_planned`] finds all that it made. Directories that
/// already exist belong to others. Another program could still make one of the missing directories
/// meanwhile.
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
        // systemd makes the parents of a unit's cgroup, and removes them.
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

/// The cgroups of `plan` that exist, recorded as if coracle had made them, for a container whose
/// record cannot be read. `None` if there are none.
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

/// The levels of the path that do not exist yet, outermost first.
fn missing(directory: &Directory) -> Vec<PathBuf> {
    let below = directory.path.strip_prefix(&directory.mount);
    let levels = levels(below.unwrap_or(Path::new("")));
    let paths = levels.iter().map(|level| directory.mount.join(level));
    paths.filter(|path| is_missing(path)).collect()
}

fn is_missing(path: &Path) -> bool {
    path.try_exists().is_ok_and(|exists| !exists)
}

/// Makes the cgroups of `plan` and sets their limits and device filter before a process joins.
///
/// # Errors
/// The first step that fails; what was made before it is removed.
pub fn create(plan: &Plan) -> Result<Joining> {
    let mut created = Joining::default();
    // Engines read the directories as other users.
    let mask = umask(Permissions::S_IWGRP | Permissions::S_IWOTH);
    let result = build(plan, &mut created);
    umask(mask);
    match result {
        Ok(()) => Ok(created),
        Err(error) => {
            drop((created.into, created.tasks, created.init_cgroup));
            // A failure of the undo is ignored: the first error is reported.
            let _ = remove::undo_until(&created.record.without_unit(), Instant::now(), None);
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
        created.record.mode = CgroupMode::None;
    }
    Ok(())
}

/// Makes what can be made before the process exists: the v1 cgroups, which init joins itself. For
/// those that systemd uses, the directory becomes the unit's.
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

/// Opens the cgroups of a running container for one more process. `init` is the pid of the
/// container's init.
///
/// # Errors
/// A cgroup that cannot be opened, named; `ENOENT` if the container is gone.
pub fn open(record: &Record, init: Pid) -> Result<Joining> {
    let mut tasks = Vec::with_capacity(record.hierarchies.len() + record.resctrl.len());
    let hierarchies = record.hierarchies.iter().map(|directory| &directory.path);
    for path in hierarchies.chain(record.resctrl.iter().map(|group| &group.path)) {
        let file = files::open_path_to_write(path, "tasks");
        tasks.push(file.map_err(Error::open(path, "tasks"))?);
    }
    let (into, fallback) = match &record.unified {
        None => (None, None),
        Some(unified) => {
            // On a hybrid host controllers are hardly ever enabled for children of the v2 cgroup,
            // so EBUSY does not occur.
            let moved = match record.mode {
                CgroupMode::V2 => current(unified, init),
                _ => None,
            };
            (Some(files::open_directory(&unified.path)?), moved)
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

/// The record with init's cgroup in place of the container's own, only for [`open`]: a process in
/// the container's own cgroup would prevent the container from enabling controllers for child
/// cgroups. If the container has removed init's cgroup, the record is unchanged.
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

/// A copy of a cgroup's open directory from which no other directory can be reached, for a process
/// that the container may trace (CVE-2016-9962): the root of a read-only mount of its own. `None`
/// if it cannot be made.
///
/// Without the right to mount, a duplicate of the descriptor: the container then has a user
/// namespace of its own, whose processes cannot trace one that has not yet executed a program
/// inside.
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

/// The action for a caller that may not move processes itself: systemd moves one into a path below
/// a unit's cgroup.
fn attach(unit: &Unit, record: &Record) -> Option<UnitAction> {
    let unified = record
        .unified
        .as_ref()
        .filter(|_| record.mode == CgroupMode::V2)?;
    // With `exec --cgroup`, the path is below the directory that was made.
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

/// The v2 cgroup that `init` is in, unless it is the container's own. It is only a fallback, so no
/// failure here is an error.
fn current(unified: &Directory, init: Pid) -> Option<OwnedFd> {
    let path = cgroup_of(unified, init)?;
    // Only inside the container's own cgroup: a program on the host may have moved init elsewhere.
    let own = unified.made.last().unwrap_or(&unified.path);
    if path == unified.path || !path.starts_with(own) {
        return None;
    }
    files::open_path(&path).ok()
}

/// Whether the kernel's OOM killer has killed a process of the container. `false` if the cgroup is
/// gone or the kernel has no counter (before Linux 4.13).
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
        (None, None) => Ok(false),
    };
    answer.unwrap_or(false)
}
