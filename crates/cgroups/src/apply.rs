//! Carrying out a plan, and all later operations on a container's cgroups.

mod device;
mod directory;
mod files;
mod freeze;
mod init;
mod init_cgroup;
mod kill;
mod partition;
mod processes;
mod remove;
mod resctrl;
mod rmdir;
mod runtime;
mod statistics;
mod systemd;
mod update;
mod v1;
mod v2;
mod walk;
mod watch;
mod write;

pub use freeze::{freeze, freezer, is_frozen, thaw};
pub use init::join;
pub use init_cgroup::enter_init_cgroup;
pub use kill::{kill, release};
pub use processes::{follow, processes, processes_in_moved};
pub use remove::{remove, remove_planned, undo};
pub use runtime::{Joining, at_init, create, enclose, find, oom_killed, open, planned_record};
pub use statistics::statistics;
pub use systemd::UnitAction;
pub use update::{Undo, survey, update};
pub use watch::{CgroupEvent, Watch, watch};
