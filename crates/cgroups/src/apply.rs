//! Carries the plan out, and everything later in the container's life that is done by its cgroup.

mod device;
mod directory;
mod files;
mod freeze;
mod hint;
mod init;
mod kill;
mod leaf;
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
pub use kill::{kill, release};
pub use leaf::descend;
pub use processes::{company, follow, processes};
pub use remove::{remove, remove_foreseen, undo};
pub use runtime::{
    Created, Joining, at_init, create, enclose, enter, find, foresee, oom_killed, open, open_procs,
};
pub use statistics::statistics;
pub use systemd::{Place, place};
pub use update::{Undo, survey, update};
pub use watch::{Happening, Watch, watch};
