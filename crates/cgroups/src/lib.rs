//! The container's control groups: where they are, what is written into them, and what can be done
//! to a whole container by them. config-linux.md § Control groups, § IntelRdt; cgroups(7).
//!
//! [`plan()`] turns `linux.cgroupsPath`, `linux.resources` and `linux.intelRdt` into directories,
//! values and a device program. [`create`] makes them before the container's init is there; init is
//! cloned into the v2 cgroup, or writes itself into the v1 ones by [`join`]. What was made is in
//! the [`Record`], and [`open`] (for exec), [`freeze`], [`thaw`], [`kill`], [`processes`] and
//! [`remove`] need nothing else, nor do [`survey`] and [`update`], [`statistics`] and [`watch`].
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
//!   which makes units around processes, before that process goes on.
//! - A failed [`create`] leaves no directory; a directory that was there before is never removed.
//! - No path leads out of a hierarchy's mount: `..` ends at its top, and the mount must be a cgroup
//!   file system.
//! - The device list begins with deny-all, whatever the config has.
//! - No pid is written to `cgroup.procs`, but of an init whose cgroup is a systemd slice by name.
//! - Every wait has an end, and whatever was frozen on the way runs again.
//! - An update is carried out as a whole or taken back.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "tests are tables"))]

mod apply;
mod error;
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
pub use plan::{
    Absent, Change, Denied, DeviceUpdate, Driver, Enable, Files, HierarchyPlan, Manager, Missing,
    Options, Plan, Program, Property, Refused, ResctrlPlan, Rootless, Survey, SystemdPlan,
    UnifiedPlan, UnitKind, UnitPlan, UpdatePlan, Write, changes_devices, needs, plan, plan_update,
    sub_cgroup,
};
pub use record::{Directory, Group, Mode, Record, Unit};
pub use statistics::Statistics;
pub use value::{Bandwidth, Device, Value};
