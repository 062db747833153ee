//! The first phase in init: attaches the root and the mounts, and makes devices.

use super::device::{Nodes, is_link_to};
use super::inherited::{Inherited, SourceState};
use super::source::{self, Failure};
use super::target::{self, Make};
use super::{cgroup, fresh};
use crate::plan::explain::Check;
use crate::plan::{Bind, Change, Plan, Remount, Step, Target};
use coracle_bundle::PropagationKind;
use coracle_sys::{AT_FDCWD, Call, Cause, Fault, OpenTreeFlags, mount_attribute, move_mount};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, umask};
use nix::unistd::{fchdir, symlinkat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Attaches the root and the mounts, and makes devices and links. For init, in its new namespaces
/// and with its ids mapped. Closes every descriptor that leads to the host. Does not allocate.
///
/// # Errors
/// The step that failed: see [`Plan::explain`].
pub fn mounts(plan: &Plan, inherited: &mut Inherited) -> Result<(), Fault> {
    if plan.root.is_none() {
        return Ok(());
    }
    // The modes of files that are made must not depend on the caller's umask.
    let mask = umask(Mode::empty());
    if let Some(provided) = &mut inherited.provided {
        provided.close_writer();
    }
    let mut nodes = Nodes::default();
    for (number, step) in plan.phase(0, plan.ends.mounts) {
        carry_out(plan, inherited, &mut nodes, step).map_err(Cause::at(number))?;
        coracle_sys::note_step(number);
    }
    if let Some(index) = plan.null_device {
        keep_null_device(plan, inherited, index)?;
    }
    if plan.has_own_namespace()
        && let Some(root) = &plan.root
    {
        show_root(inherited).map_err(Cause::at(root.step))?;
    }
    // Closes the descriptors without freeing the memory.
    inherited.provided = None;
    inherited.id_maps.clear();
    umask(mask);
    Ok(())
}

/// Opens the null device for masks now: in the last phase the host's cannot be reached.
fn keep_null_device(plan: &Plan, inherited: &mut Inherited, index: usize) -> Result<(), Fault> {
    let step = plan.sources.get(index).map_or(0, |source| source.step);
    let node = inherited.obtain(plan, index);
    let node = node.map_err(Cause::at(step))?;
    if let Some(node) = node {
        inherited.put_aside(index, node);
    }
    Ok(())
}

fn carry_out<'a>(
    plan: &Plan,
    inherited: &mut Inherited,
    nodes: &mut Nodes<'a>,
    step: &'a Step,
) -> Result<(), Failure> {
    match step {
        Step::Propagation(change) => {
            let flags = MsFlags::from_bits_truncate(change.propagation) | MsFlags::MS_REC;
            mount(None::<&CStr>, c"/", None::<&CStr>, flags, None::<&CStr>)
                .map_err(Call::Mount.failed())
        }
        Step::Root => attach_root(plan, inherited),
        Step::Bind(bind) => attach_bind(plan, inherited, bind),
        Step::Fresh(fresh) => fresh::attach(plan, inherited, fresh),
        Step::Cgroup(cgroup) => cgroup::attach(plan, inherited, cgroup),
        Step::Remount(remount) => change_flags(inherited, remount),
        Step::Device(device) => nodes.device(plan, inherited, device),
        Step::Link(link) => nodes.link(plan, inherited, link),
        // Steps of other phases.
        _ => Ok(()),
    }
}

/// Attaches the root. In a new mount namespace it is hidden first, so that sources are resolved as
/// if nothing had been mounted yet.
fn attach_root(plan: &Plan, inherited: &mut Inherited) -> Result<(), Failure> {
    let missing = Check::NotOpened;
    let root = plan.root.as_ref().ok_or(missing)?;
    let index = root.source.ok_or(missing)?;
    if plan.has_own_namespace() {
        let (place, tree) = inherited.obtain_root(plan, index)?;
        inherited.cover = Some(hide(place.as_fd(), tree.as_fd())?);
        inherited.root = Some(tree);
        return Ok(());
    }
    let tree = inherited.obtain(plan, index)?.ok_or(missing)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let place = openat(AT_FDCWD, root.path_c.as_c_str(), flags, Mode::empty());
    place
        .and_then(|place| move_mount(tree.as_fd(), place.as_fd(), c""))
        .map_err(Call::MoveMount.failed())?;
    if plan.host_mount().is_some() {
        // Attached to a shared parent it has become shared, and later mounts in it would propagate.
        let source = plan.sources.get(index).ok_or(missing)?;
        for change in &source.changes {
            source::apply(tree.as_fd(), change, &[])?;
        }
    }
    inherited.root = Some(tree);
    Ok(())
}

/// Attaches the root where no path leads: in a small filesystem over the root's own path, which a
/// clone of that filesystem covers. If it were mounted over `/`, paths of sources could lead into
/// it: each `..` at `/` crosses into the mount there, and links of the image could lead from there
/// to any file of the host. Both mounts are unbindable, so that a recursive bind of a directory
/// above leaves them out, and no source can be in them. Returns the cover.
fn hide(place: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let attach = |mount, place| {
        let attached = move_mount(mount, place, c"");
        attached.map_err(Call::MoveMount.failed())
    };
    let clone = |mount| source::clone_mount(mount, OpenTreeFlags::RECURSIVE);
    let (hidden, inner) = match with_directory() {
        // In a user namespace in which root is not mapped, no directory can be made: use one of the
        // image.
        Err(Cause::Call(Call::Mkdir, Errno::EOVERFLOW | Errno::EACCES)) => {
            let image = clone(place)?;
            let inner = any_directory(image.as_fd())?;
            (image, inner)
        }
        made => made?,
    };
    attach(hidden.as_fd(), place)?;
    let cover = clone(hidden.as_fd())?;
    let unbindable = Change::propagation(PropagationKind::Unbindable, false);
    for mount in [&hidden, &cover] {
        source::apply(mount.as_fd(), &unbindable, &[])?;
    }
    attach(root, inner.as_fd())?;
    attach(cover.as_fd(), hidden.as_fd())?;
    Ok(cover)
}

/// Makes a filesystem with a directory in it. Nothing else is ever made in it, so it needs no
/// limits.
fn with_directory() -> Result<(OwnedFd, OwnedFd), Failure> {
    let mount = fresh::tmpfs(&[], 0)?;
    mkdirat(&mount, c"root", Mode::S_IRWXU).map_err(Call::Mkdir.failed())?;
    let inner = target::real_directory(mount.as_fd(), c"root");
    let inner = inner.map_err(Call::Open.failed())?;
    Ok((mount, inner))
}

/// Opens a directory of the image. Most images have one of these; without any, mounts would fail as
/// well.
fn any_directory(image: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let names = [c"proc", c"dev", c"sys", c"tmp", c"etc", c"usr", c"bin"];
    let mut found = names.iter().map(|name| target::real_directory(image, name));
    let first = found.find_map(Result::ok);
    Ok(first.ok_or(Check::NoDirectory)?)
}

/// Moves the root back to its own path, where hooks expect it.
fn show_root(inherited: &mut Inherited) -> Result<(), Failure> {
    let cover = inherited.cover.take();
    let cover = cover.ok_or(Check::NotOpened)?;
    move_mount(inherited.lowest()?, cover.as_fd(), c"").map_err(Call::MoveMount.failed())
}

impl Inherited {
    /// Attaches a detached mount on the resolved place. One on the root becomes the root: later
    /// paths are resolved from its descriptor, and cannot lead below it.
    pub(super) fn attach(
        &mut self,
        target: &Target,
        place: BorrowedFd<'_>,
        mount: BorrowedFd<'_>,
    ) -> Result<(), Failure> {
        self.enter()?;
        if target.path.as_c_str() != c"/" || target.base.is_some() {
            return target::attach(self.base(target.base)?, target, place, mount);
        }
        move_mount(mount, place, c"").map_err(Call::MoveMount.failed())?;
        let top = mount.try_clone_to_owned();
        let top = top.map_err(|error| (Call::Dup, coracle_text::io_errno(&error)))?;
        let covered = self.root.replace(top);
        if self.lowest.is_none() {
            self.lowest = covered;
        }
        Ok(())
    }
}

fn attach_bind(plan: &Plan, inherited: &mut Inherited, bind: &Bind) -> Result<(), Failure> {
    if let Some(SourceState::Link(text)) = inherited.sources.get(bind.source) {
        return copy_link(inherited.root()?, &bind.target.path, text);
    }
    let tree = inherited.obtain(plan, bind.source)?;
    let tree = tree.ok_or(Check::NoSource)?;
    let base = inherited.base(bind.target.base)?;
    let found = target::resolve(base, &bind.target, Make::Like(tree.as_fd()))?;
    let tree = clone_with_new_id(plan, bind, found.place.as_fd(), tree)?;
    inherited.attach(&bind.target, found.place.as_fd(), tree.as_fd())?;
    inherited.keep(bind.keep, tree);
    Ok(())
}

/// Clones a mount anew. Since 6.8 Linux lists mounts by their ids, and the provider has cloned this
/// one too early for its place in that order. So the mount is attached for a moment and cloned: the
/// clone has a new id, and is in the same peer group.
fn clone_with_new_id(
    plan: &Plan,
    bind: &Bind,
    place: BorrowedFd<'_>,
    tree: OwnedFd,
) -> Result<OwnedFd, Failure> {
    let source = plan.sources.get(bind.source);
    let early = source.is_some_and(|source| source.on_host && source.inside.is_none());
    let stat = match early && plan.has_own_namespace() {
        true => fstat(&tree).map_err(Call::Stat.failed())?,
        false => return Ok(tree),
    };
    if !source::is(&stat, SFlag::S_IFDIR) {
        return Ok(tree);
    }
    move_mount(tree.as_fd(), place, c"").map_err(Call::MoveMount.failed())?;
    let clone = source::clone_mount(tree.as_fd(), OpenTreeFlags::RECURSIVE)?;
    fchdir(&tree).map_err(Call::Fchdir.failed())?;
    umount2(c".", MntFlags::MNT_DETACH).map_err(Call::Umount.failed())?;
    Ok(clone)
}

/// Makes a copy of the source, which is a symbolic link.
fn copy_link(root: BorrowedFd<'_>, path: &CStr, text: &CStr) -> Result<(), Failure> {
    let (parent, name) = target::parent(root, path)?;
    match symlinkat(text, &parent, name) {
        Err(Errno::EEXIST) if is_link_to(parent.as_fd(), name, text) => Ok(()),
        Err(Errno::EEXIST) => Err(Check::OtherLink.into()),
        answer => answer.map_err(Call::Symlink.failed()),
    }
}

fn change_flags(inherited: &Inherited, remount: &Remount) -> Result<(), Failure> {
    let base = inherited.base(remount.target.base)?;
    let flags = target::flags(remount.target.lookup);
    let place = coracle_sys::open_in_root(base, &remount.target.path, flags, Mode::empty())
        .map_err(Call::Openat2.failed())?;
    for change in &remount.changes {
        source::apply(place.as_fd(), change, &inherited.id_maps)?;
    }
    let Some(data) = &remount.data else {
        return Ok(());
    };
    // mount(2) also sets the mount's flags, so it is called with the current ones.
    let now = coracle_sys::mount_flags(place.as_fd()).map_err(Call::Statfs.failed())?;
    fchdir(&place).map_err(Call::Fchdir.failed())?;
    let flags = MsFlags::MS_REMOUNT | kept_flags(now);
    mount(
        None::<&CStr>,
        c".",
        None::<&CStr>,
        flags,
        Some(data.as_c_str()),
    )
    .map_err(Call::Mount.failed())
}

/// Of linux/statfs.h; not every C library has it.
const ST_RELATIME: u64 = 0x1000;

/// The flags of statfs(2) as flags of mount(2).
fn kept_flags(status: u64) -> MsFlags {
    let attributes = mount_attribute::FLAGS;
    let attributes = attributes.iter().map(|(_, flag, bit)| (*bit, *flag));
    let others = [
        (libc::ST_SYNCHRONOUS, libc::MS_SYNCHRONOUS),
        (libc::ST_NOATIME, libc::MS_NOATIME),
        (ST_RELATIME, libc::MS_RELATIME),
    ];
    let kept = attributes
        .chain(others)
        .filter(|(bit, _)| status & bit != 0);
    MsFlags::from_bits_retain(kept.fold(0, |flags, (_, flag)| flags | flag))
}
