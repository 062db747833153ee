//! Clones a source to a detached tree, and sets its flags.

use crate::plan::explain::Check;
use crate::plan::{Change, Node, Source, SourceCheck};
use coracle_bundle::DeviceKind;
use coracle_sys::{
    AT_FDCWD, Call, Cause, Depth, MQUEUE_MAGIC, MountAttributes, OpenTreeFlags, PROC_MAGIC,
    file_system_magic, inode_at, mount_setattr, open_beneath, open_in_root, open_tree, read_link,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::getpid;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The inode number of the root of a procfs.
const PROC_ROOT_INODE: u64 = 1;

/// Why a step failed.
pub(super) type Failure = Cause;

/// Opens a source on the host by its path, as a detached tree that is checked and has all changes
/// made. Heap-free.
pub(super) fn clone(source: &Source, id_maps: &[OwnedFd]) -> Result<OwnedFd, Failure> {
    let tree = match find_and_clone(source, &source.path) {
        Ok(tree) => tree,
        Err(failure) => match &source.alternative {
            None => return Err(failure),
            // If both fail, the first path's failure is reported, since that is in the config.
            Some(path) => find_and_clone(source, path).map_err(|_| failure)?,
        },
    };
    change(tree.as_fd(), source, id_maps)?;
    Ok(tree)
}

/// Opens a source that is in the root in the same way. Links of the image are resolved in the root.
pub(super) fn clone_inside(
    root: BorrowedFd<'_>,
    path: &CStr,
    source: &Source,
    id_maps: &[OwnedFd],
) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_PATH | last_link(source);
    let place = open_in_root(root, path, flags, Mode::empty());
    let place = place.map_err(Call::Openat2.failed())?;
    check(place.as_fd(), source.check)?;
    clone_place(place.as_fd(), source, id_maps)
}

/// Clones a source that is open and checked, in the caller's mount namespace, in the same way.
pub(super) fn clone_place(
    place: BorrowedFd<'_>,
    source: &Source,
    id_maps: &[OwnedFd],
) -> Result<OwnedFd, Failure> {
    let tree = clone_mount(place, below(source))?;
    change(tree.as_fd(), source, id_maps)?;
    Ok(tree)
}

fn change(tree: BorrowedFd<'_>, source: &Source, id_maps: &[OwnedFd]) -> Result<(), Failure> {
    for change in &source.changes {
        apply(tree, change, id_maps)?;
    }
    Ok(())
}

fn below(source: &Source) -> OpenTreeFlags {
    match source.recursive {
        true => OpenTreeFlags::RECURSIVE,
        false => OpenTreeFlags::empty(),
    }
}

/// A detached clone of the mount at this place, with `RECURSIVE` also of those below.
pub(super) fn clone_mount(place: BorrowedFd<'_>, below: OpenTreeFlags) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::EMPTY_PATH | OpenTreeFlags::CLONE | below;
    open_tree(place, c"", flags).map_err(Call::OpenTree.failed())
}

fn last_link(source: &Source) -> OFlag {
    match source.no_follow {
        true => OFlag::O_NOFOLLOW,
        false => OFlag::empty(),
    }
}

fn find_and_clone(source: &Source, path: &CStr) -> Result<OwnedFd, Failure> {
    if !source.by_config {
        let tree = open_tree(AT_FDCWD, path, OpenTreeFlags::CLONE | below(source));
        let tree = tree.map_err(Call::OpenTree.failed())?;
        check(tree.as_fd(), source.check)?;
        return Ok(tree);
    }
    let place = find(source, path)?;
    clone_mount(place.as_fd(), below(source))
}

/// Opens and checks a source on the host, to clone it later. Heap-free.
pub(super) fn place(source: &Source) -> Result<OwnedFd, Failure> {
    match (find(source, &source.path), &source.alternative) {
        (Err(failure), Some(path)) => find(source, path).map_err(|_| failure),
        (found, _) => found,
    }
}

/// Opens the path without following magic links, however it leads into procfs: they would lead out
/// of every tree, for example to the runtime's descriptors.
fn find(source: &Source, path: &CStr) -> Result<OwnedFd, Failure> {
    let resolve = match source.by_config {
        true => ResolveFlag::RESOLVE_NO_MAGICLINKS,
        false => ResolveFlag::empty(),
    };
    let flags = OFlag::O_PATH | last_link(source);
    let found = open_beneath(AT_FDCWD, path, flags, Mode::empty(), resolve);
    let found = found.map_err(Call::Openat2.failed())?;
    check(found.as_fd(), source.check)?;
    Ok(found)
}

/// Checks that the source exists and is of the right kind. For the runtime, before anything is
/// made. It also triggers automounts, which opening with O_PATH does not.
pub(super) fn look(source: &Source) -> Result<(), Failure> {
    let look = |path: &CStr| {
        let found = inode_at(path, last_link(source)).map_err(Call::OpenTree.failed())?;
        let kind = SFlag::from_bits_truncate(found.mode) & SFlag::S_IFMT;
        match source.check {
            SourceCheck::Root if kind != SFlag::S_IFDIR => Err(Check::NotDirectory.into()),
            SourceCheck::Node(node) if !is_node_of(kind, found.device, node) => {
                Err(Check::OtherNode.into())
            }
            SourceCheck::Root | SourceCheck::Procfs => find(source, path).map(drop),
            _ => Ok(()),
        }
    };
    match (look(&source.path), &source.alternative) {
        (Err(failure), Some(path)) => look(path).map_err(|_| failure),
        (looked, _) => looked,
    }
}

fn check(tree: BorrowedFd<'_>, wanted: SourceCheck) -> Result<(), Failure> {
    if wanted == SourceCheck::None {
        return Ok(());
    }
    let stat = fstat(tree).map_err(Call::Stat.failed())?;
    match wanted {
        SourceCheck::None => Ok(()),
        SourceCheck::Root if !is(&stat, SFlag::S_IFDIR) => Err(Check::NotDirectory.into()),
        SourceCheck::Root => {
            // A link or `..` can lead to the host's root directory under another name.
            let host = nix::sys::stat::stat(c"/").map_err(Call::Stat.failed())?;
            if (stat.st_dev, stat.st_ino) == (host.st_dev, host.st_ino) {
                return Err(Check::HostRoot.into());
            }
            Ok(())
        }
        SourceCheck::Procfs => {
            let magic = file_system_magic(tree).map_err(Call::Statfs.failed())?;
            if magic == PROC_MAGIC && stat.st_ino == PROC_ROOT_INODE {
                return Ok(());
            }
            Err(Check::NotProcfs.into())
        }
        SourceCheck::OwnProcfs => {
            check(tree, SourceCheck::Procfs)?;
            check_own_procfs(tree)
        }
        SourceCheck::Queues => {
            let magic = file_system_magic(tree).map_err(Call::Statfs.failed())?;
            match magic {
                MQUEUE_MAGIC => Ok(()),
                _ => Err(Check::NotQueues.into()),
            }
        }
        SourceCheck::Node(node) if is_node(&stat, node) => Ok(()),
        SourceCheck::Node(_) => Err(Check::OtherNode.into()),
    }
}

/// Checks that the procfs is of this process's pid namespace: its `self` must be this process's
/// pid. In a procfs of an ancestor namespace that is another number, unless the two happen to be
/// equal, as they can be for the first process of each.
fn check_own_procfs(procfs: BorrowedFd<'_>) -> Result<(), Failure> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let link = openat(procfs, c"self", flags, Mode::empty());
    let link = link.map_err(Call::Open.failed())?;
    let mut digits = [0; 20];
    let length = read_link(link.as_fd(), &mut digits).map_err(Call::Readlink.failed())?;
    let digits = digits.get(..length).unwrap_or_default();
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok());
    match number == Some(getpid().as_raw()) {
        true => Ok(()),
        false => Err(Check::OtherPids.into()),
    }
}

/// Makes a change by mount_setattr(2). If the kernel has locked one of the flags of
/// `clear_unlocked` (EPERM), tries once more without those; the flags of `clear` must be cleared.
pub(super) fn apply(
    mount: BorrowedFd<'_>,
    change: &Change,
    id_maps: &[OwnedFd],
) -> Result<(), Failure> {
    if change.clear_unlocked != 0 {
        let all = Change {
            clear: change.clear | change.clear_unlocked,
            ..*change
        };
        match apply_once(mount, &all, id_maps) {
            Err(Cause::Call(_, Errno::EPERM)) => {}
            answer => return answer,
        }
    }
    apply_once(mount, change, id_maps)
}

fn apply_once(mount: BorrowedFd<'_>, change: &Change, id_maps: &[OwnedFd]) -> Result<(), Failure> {
    let user_namespace = match change.id_map {
        None => None,
        Some(index) => Some(id_maps.get(index).ok_or(Check::NotOpened)?.as_fd()),
    };
    let attributes = MountAttributes {
        set: change.set,
        clear: change.clear,
        propagation: change.propagation,
        user_namespace,
    };
    let depth = if change.recursive {
        Depth::Recursive
    } else {
        Depth::Single
    };
    mount_setattr(mount, &attributes, depth).map_err(Call::MountSetattr.failed())
}

/// Whether the inode is of this type.
pub(super) fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// Whether the inode is this device.
pub(super) fn is_node(stat: &FileStat, node: Node) -> bool {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    is_node_of(kind, stat.st_rdev, node)
}

fn is_node_of(kind: SFlag, number: libc::dev_t, node: Node) -> bool {
    let same_number = number == libc::makedev(node.major, node.minor);
    match node.kind {
        DeviceKind::Char => kind == SFlag::S_IFCHR && same_number,
        DeviceKind::Block => kind == SFlag::S_IFBLK && same_number,
        DeviceKind::Fifo => kind == SFlag::S_IFIFO,
    }
}
