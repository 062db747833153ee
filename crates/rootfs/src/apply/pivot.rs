//! Changes the root, and leaves the host's mounts.

use super::inherited::Inherited;
use super::source::{self, Failure};
use crate::plan::{Change, Plan, Step};
use coracle_bundle::{Namespace, PropagationKind};
use coracle_sys::{AT_FDCWD, Call, Cause, Fault, move_mount};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use std::ffi::CStr;
use std::os::fd::AsFd;

/// Makes the container's root the root of this process, and the host's mounts unreachable. For
/// init, after the createContainer hooks. The working directory is `/` afterwards. Does not
/// allocate.
///
/// # Errors
/// The step that failed.
pub fn pivot(plan: &Plan, inherited: &mut Inherited) -> Result<(), Fault> {
    for (number, step) in plan.phase(plan.ends.mounts, plan.ends.pivot) {
        let done = match step {
            Step::Pivot => enter(inherited),
            Step::Move => move_root(inherited),
            Step::Chroot => change_root(inherited),
            _ => Ok(()),
        };
        done.map_err(Cause::at(number))?;
        coracle_sys::note_step(number);
    }
    Ok(())
}

/// Makes the container's root the working directory, in which createContainer hooks start.
///
/// # Errors
/// A failure of the step that changes the root, which would fail as well.
pub fn chdir_to_root(plan: &Plan, inherited: &Inherited) -> Result<(), Fault> {
    let stand = |root| fchdir(root).map_err(Call::Fchdir.failed());
    let stood = inherited.root().and_then(stand);
    stood.map_err(Cause::at(plan.ends.mounts))
}

/// Unmounts the root with all its mounts from a mount namespace that the container joined. For
/// init, after a failure before or in [`pivot`]. A new namespace needs no clean-up: it ends with
/// init. Does not allocate.
pub fn withdraw(plan: &Plan, inherited: &Inherited) {
    if !matches!(plan.mount_namespace, Namespace::Join { .. }) {
        return;
    }
    // Errors are ignored: the first failure is reported.
    if let Ok(root) = inherited.lowest()
        && fchdir(root).is_ok()
    {
        let _ = umount2(c".", MntFlags::MNT_DETACH);
    }
}

fn enter(inherited: &Inherited) -> Result<(), Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let old = openat(AT_FDCWD, c"/", flags, Mode::empty()).map_err(Call::Open.failed())?;
    fchdir(inherited.root()?).map_err(Call::Fchdir.failed())?;
    // With both arguments `.`, the old root is mounted over the new one and needs no directory:
    // pivot_root(2).
    pivot_root(c".", c".").map_err(Call::PivotRoot.failed())?;
    // A hook may have made the old root shared again, and its unmount would propagate to the host.
    // So it is made a slave, by descriptor, since `.` is the new root, whose propagation must not
    // change.
    let slave = Change::propagation(PropagationKind::Slave, true);
    source::apply(old.as_fd(), &slave, &[])?;
    umount2(c".", MntFlags::MNT_DETACH).map_err(Call::Umount.failed())?;
    chdir(c"/").map_err(Call::Chdir.failed())
}

/// On an initramfs the old root cannot be unmounted, and a process with enough capabilities can get
/// back to it. So at least every procfs and sysfs without masks is unmounted or covered.
fn move_root(inherited: &Inherited) -> Result<(), Failure> {
    for path in &inherited.outside {
        hide(path)?;
    }
    let root = inherited.lowest()?;
    fchdir(root).map_err(Call::Fchdir.failed())?;
    move_mount(root, AT_FDCWD, c"/").map_err(Call::MoveMount.failed())?;
    change_root(inherited)
}

fn hide(path: &CStr) -> Result<(), Failure> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // In a user namespace, mounts of the host are locked and cannot be unmounted: cover it
        // instead.
        Err(Errno::EINVAL | Errno::EPERM) => {
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(
                Some(c"tmpfs"),
                path,
                Some(c"tmpfs"),
                flags,
                Some(c"size=4k,nr_inodes=2"),
            )
            .map_err(Call::Mount.failed())
        }
        // Unmounted together with another one.
        Err(Errno::ENOENT) => Ok(()),
        answer => answer.map_err(Call::Umount.failed()),
    }
}

fn change_root(inherited: &Inherited) -> Result<(), Failure> {
    fchdir(inherited.root()?).map_err(Call::Fchdir.failed())?;
    chroot(c".").map_err(Call::Chroot.failed())?;
    chdir(c"/").map_err(Call::Chdir.failed())
}
