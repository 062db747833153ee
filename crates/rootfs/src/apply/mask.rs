//! The last phase in init: read-only and masked paths, and the read-only root.

use super::fresh::empty_directory;
use super::inherited::Inherited;
use super::source::{self, Failure};
use super::target;
use crate::plan::explain::Check;
use crate::plan::{Covered, Plan, Step};
use coracle_sys::{
    Call, Cause, Depth, Fault, MountAttributes, OpenTreeFlags, mount_attribute, mount_setattr,
    move_mount, open_in_root,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Masks paths, makes paths read-only, and makes the root read-only if configured. For init, after
/// the sysctls were written. The descriptors of `inherited` are still open afterwards. Does not
/// allocate.
///
/// # Errors
/// The step that failed, for example at a path that exists but cannot be covered.
pub fn finish(plan: &Plan, inherited: &mut Inherited) -> Result<(), Fault> {
    for (number, step) in plan.phase(plan.ends.console, plan.steps.len()) {
        let done = match step {
            Step::ReadOnlyPath(path) => read_only(inherited, path),
            Step::Mask(path) => mask(plan, inherited, path),
            Step::ReadOnlyMount { kept, .. } => inherited
                .base(Some(*kept))
                .and_then(|mount| make_read_only(mount, Depth::Single)),
            Step::RootPropagation(changes) => inherited.root().and_then(|root| {
                let mut changes = changes.iter();
                changes.try_for_each(|change| source::apply(root, change, &[]))
            }),
            Step::ReadOnlyRoot => inherited
                .root()
                .and_then(|root| make_read_only(root, Depth::Single)),
            _ => Ok(()),
        };
        done.map_err(Cause::at(number))?;
        coracle_sys::note_step(number);
    }
    Ok(())
}

/// Opens the path below its base; `None` if it does not exist.
fn find(inherited: &Inherited, path: &Covered) -> Result<Option<OwnedFd>, Failure> {
    match open_in_root(
        inherited.base(path.base)?,
        &path.path,
        OFlag::O_PATH,
        Mode::empty(),
    ) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(Cause::Call(Call::Openat2, errno)),
    }
}

/// Attaches `mount` over the path.
fn cover(
    inherited: &Inherited,
    path: &Covered,
    place: BorrowedFd<'_>,
    mount: BorrowedFd<'_>,
) -> Result<(), Failure> {
    move_mount(mount, place, c"").map_err(Call::MoveMount.failed())?;
    match path.exchangeable {
        true => is_seen(inherited, path, mount),
        false => Ok(()),
    }
}

/// Checks that the path, resolved from the root, now leads to `mount`: a part of the path may have
/// been exchanged meanwhile, or another mount may cover a kept one.
fn is_seen(inherited: &Inherited, path: &Covered, mount: BorrowedFd<'_>) -> Result<(), Failure> {
    match open_in_root(inherited.root()?, &path.shown, OFlag::O_PATH, Mode::empty()) {
        Ok(again) => target::same_mount(again.as_fd(), mount),
        // All of /proc or /sys is masked, so nothing below it is visible.
        Err(Errno::ENOENT | Errno::ENOTDIR) if path.base.is_some() => Ok(()),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Err(Check::Swapped.into()),
        Err(errno) => Err(Cause::Call(Call::Openat2, errno)),
    }
}

/// Makes a path read-only, with all mounts below it; other flags stay. If the path is a mount
/// point, its mount is changed in place: it may be a kept one, through which later masks are
/// applied, and they would not be visible below a bind mount over it. Any other path gets a
/// recursive bind mount of itself.
fn read_only(inherited: &Inherited, path: &Covered) -> Result<(), Failure> {
    let Some(place) = find(inherited, path)? else {
        return Ok(());
    };
    if path.may_be_mount {
        match make_read_only(place.as_fd(), Depth::Recursive) {
            Ok(()) => return is_seen(inherited, path, place.as_fd()),
            // The path is not a mount point.
            Err(Cause::Call(_, Errno::EINVAL)) => {}
            Err(failure) => return Err(failure),
        }
    }
    let tree = source::clone_mount(place.as_fd(), OpenTreeFlags::RECURSIVE)?;
    make_read_only(tree.as_fd(), Depth::Recursive)?;
    cover(inherited, path, place.as_fd(), tree.as_fd())
}

fn make_read_only(mount: BorrowedFd<'_>, depth: Depth) -> Result<(), Failure> {
    let set = mount_attribute::RDONLY;
    let attributes = MountAttributes {
        set,
        ..MountAttributes::default()
    };
    mount_setattr(mount, &attributes, depth).map_err(Call::MountSetattr.failed())
}

fn mask(plan: &Plan, inherited: &mut Inherited, path: &Covered) -> Result<(), Failure> {
    let Some(place) = find(inherited, path)? else {
        return Ok(());
    };
    // The type is checked first, since a failed attempt to mount costs an RCU grace period in the
    // kernel.
    let stat = fstat(&place).map_err(Call::Stat.failed())?;
    let directory = source::is(&stat, SFlag::S_IFDIR);
    let known = if directory {
        &inherited.empty
    } else {
        &inherited.null
    };
    if let Some(attached) = known {
        // One tmpfs masks all directories: each further one gets a clone of the first mount.
        let clone = source::clone_mount(attached.as_fd(), OpenTreeFlags::empty())?;
        return cover(inherited, path, place.as_fd(), clone.as_fd());
    }
    let first = if directory {
        empty_directory()?
    } else {
        let null = plan.null_device.and_then(|index| inherited.take(index));
        null.ok_or(Check::NotOpened)?
    };
    cover(inherited, path, place.as_fd(), first.as_fd())?;
    if directory {
        inherited.empty = Some(first);
    } else {
        inherited.null = Some(first);
    }
    Ok(())
}
