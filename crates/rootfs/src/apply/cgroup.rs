//! Makes a `type: cgroup` mount on v1 and hybrid hosts: a tmpfs with the hierarchies in it.

use super::fresh::{new_mount, shared};
use super::inherited::Inherited;
use super::source::{self, Failure};
use super::target::{self, Make};
use crate::plan::{Cgroup, CgroupEntry, CgroupFill, Change, Plan};
use coracle_sys::{Call, Cause, Remark, mount_attribute, move_mount};
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use std::os::fd::{AsFd, BorrowedFd};

pub(super) fn attach(
    plan: &Plan,
    inherited: &mut Inherited,
    cgroup: &Cgroup,
) -> Result<(), Failure> {
    let base = inherited.base(cgroup.target.base)?;
    let found = target::resolve(base, &cgroup.target, Make::Directory)?;
    let top = new_mount(
        c"tmpfs",
        shared(&cgroup.parameters),
        cgroup.attributes,
        &mut inherited.refused,
    )?;
    // Before Linux 6.15 nothing can be attached to a detached mount, so the tmpfs is attached
    // first. It is filled through its descriptor, so that the image cannot interfere.
    inherited.attach(&cgroup.target, found.place.as_fd(), top.as_fd())?;
    for entry in &cgroup.entries {
        fill(plan, inherited, top.as_fd(), entry)?;
    }
    for (name, target) in &cgroup.links {
        symlinkat(target.as_c_str(), &top, name.as_c_str()).map_err(Call::Symlink.failed())?;
    }
    if cgroup.read_only {
        let change = Change {
            set: mount_attribute::RDONLY,
            ..Change::default()
        };
        source::apply(top.as_fd(), &change, &[])?;
    }
    for change in &cgroup.propagation {
        source::apply(top.as_fd(), change, &[])?;
    }
    Ok(())
}

fn fill(
    plan: &Plan,
    inherited: &mut Inherited,
    top: BorrowedFd<'_>,
    entry: &CgroupEntry,
) -> Result<(), Failure> {
    let mount = match &entry.fill {
        CgroupFill::Bind { source } => inherited.obtain(plan, *source)?,
        CgroupFill::Fresh {
            file_system,
            parameters,
            attributes,
            fallback,
        } => match new_mount(
            file_system.name(),
            shared(parameters),
            *attributes,
            &mut Remark::default(),
        ) {
            Ok(mount) => Some(mount),
            Err(Cause::Call(_, Errno::EPERM | Errno::EBUSY)) => {
                inherited.obtain(plan, *fallback)?
            }
            Err(failure) => return Err(failure),
        },
    };
    // The cgroup does not exist, or is outside of the mount.
    let Some(mount) = mount else { return Ok(()) };
    // By its name: the tmpfs was made a moment ago, and nobody else can exchange a name in it.
    let name = entry.name.as_c_str();
    let mode = Mode::from_bits_truncate(0o755);
    mkdirat(top, name, mode).map_err(Call::Mkdir.failed())?;
    move_mount(mount.as_fd(), top, name).map_err(Call::MoveMount.failed())
}
