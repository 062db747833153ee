//! The container's control groups: their paths, limits and device filter, and operations on the
//! whole container by them. config-linux.md § Control groups, § IntelRdt; cgroups(7).
//!
//! [`plan()`] turns `linux.cgroupsPath`, `linux.resources` and `linux.intelRdt` into directories,
//! values and a device program. [`create`] makes them before the container's init exists; init is
//! cloned into the v2 cgroup, and joins the v1 ones by [`join`]. The [`Record`] has what was made,
//! and is all that [`open`] (for exec), [`freeze`], [`thaw`], [`kill`], [`processes`], [`remove`],
//! [`survey`], [`update`], [`statistics`] and [`watch`] need.
//!
//! ```no_run
//! use coracle_bundle::Config;
//! use coracle_cgroups::{Manager, Options, Rootless};
//! use coracle_host::Host;
//!
//! fn life(config: &Config, host: &Host) -> coracle_cgroups::Result<()> {
//!     let options = Options { id: "web1", manager: Manager::Cgroupfs, rootless: Rootless::Auto };
//!     let plan = coracle_cgroups::plan(config, host, &options)?;
//!     let created = coracle_cgroups::create(&plan)?;
//!     // … clone3 into created.into; in the child: coracle_cgroups::join(&created.tasks)
//!     coracle_cgroups::kill(&created.record, libc::SIGKILL)?;
//!     coracle_cgroups::remove(&created.record)
//! }
//! ```
//!
//! # Invariants
//! - Limits and the device filter are in force before any process is in the cgroup; with systemd,
//!   which makes units only for existing processes, before that process continues.
//! - A failed [`create`] leaves no directory, and an existing directory is never removed.
//! - No path leaves a hierarchy's mount: `..` stops at its root, and the mount must be a cgroup
//!   file system.
//! - The device list always begins with deny-all.
//! - A pid is written to `cgroup.procs` only where init cannot be cloned into its cgroup.
//! - Every wait has a limit, and a container that was frozen for an operation is thawed again.
//! - An update is applied as a whole or undone.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "tests are tables"))]

mod apply;
mod error;
mod lack;
mod plan;
mod record;
mod statistics;
mod table;
mod value;

pub use apply::{
    CgroupEvent, Joining, Undo, UnitAction, Watch, at_init, create, enclose, enter_init_cgroup,
    find, follow, freeze, freezer, is_frozen, join, kill, oom_killed, open, planned_record,
    processes, processes_in_moved, release, remove, remove_planned, statistics, survey, thaw, undo,
    update, watch,
};
pub use error::{Error, Result, UnitProblem};
pub use lack::Lack;
pub use plan::{
    Absent, CPU_WEIGHTS, Change, Denied, DeviceUpdate, Driver, Enable, Files, HierarchyPlan,
    InitCgroup, Manager, Missing, Options, Plan, Program, Property, Refused, ResctrlPlan, Rootless,
    Survey, SystemdPlan, UnifiedPlan, UnitKind, UnitPlan, UpdatePlan, Write, changes_devices,
    needs, plan, plan_update, sub_cgroup,
};
pub use record::{Directory, Group, Record, Unit};
pub use statistics::Statistics;
pub use value::{Bandwidth, Device, Value};
