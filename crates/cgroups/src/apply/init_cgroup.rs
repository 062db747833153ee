//! Init's cgroup below the container's own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Call, Fault};
use nix::errno::Errno;

use super::{files, v2};
use crate::plan::{InitCgroup, UnifiedPlan};
use crate::{Error, Result};

/// Makes init's cgroup, if the plan has one, below `directory`, the container's own cgroup, and
/// opens its `cgroup.procs`. Sets `made` as soon as it is made.
pub(super) fn make(
    plan: &UnifiedPlan,
    directory: BorrowedFd,
    made: &mut bool,
) -> Result<Option<OwnedFd>> {
    let Some(InitCgroup { name, .. }) = &plan.init_cgroup else {
        return Ok(None);
    };
    let path = plan.mount.join(&plan.path).join(name);
    match files::make(directory, Path::new(name)) {
        Ok(()) => *made = true,
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(Error::Make { path, errno }),
    }
    let init_cgroup = files::open_below(directory, Path::new(name))
        .map_err(Error::open(&path, "cgroup.procs"))?;
    if let Some(uid) = plan.owner {
        v2::delegate(init_cgroup.as_fd(), &path, uid)?;
    }
    files::open_to_write(init_cgroup.as_fd(), "cgroup.procs")
        .map(Some)
        .map_err(Error::open(&path, "cgroup.procs"))
}

/// Moves init into its own cgroup, by a file that the runtime opened: before it makes its cgroup
/// namespace if [`crate::Plan::init_cgroup_is_root`], else after. Takes some 10 ms, the kernel's
/// grace period. Does not allocate. `step` is [`crate::Record::init_cgroup_step`].
///
/// # Errors
/// That of the write; [`crate::Record::explain`] makes the message.
pub fn enter_init_cgroup(init_cgroup: &OwnedFd, step: usize) -> std::result::Result<(), Fault> {
    nix::unistd::write(init_cgroup, b"0").map_err(Call::Write.at(step))?;
    Ok(())
}
