//! Cloning a source into a detached tree with its flags set: by the runtime, or by init.

use super::fault;
use crate::plan::{Change, Node, Source, SourceCheck};
use coracle_bundle::DeviceKind;
use coracle_sys::{
    AT_FDCWD, Call, Depth, MountAttributes, OpenTreeFlags, PROC_MAGIC, file_system_magic,
    mount_setattr, open_beneath, open_tree,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// procfs numbers the directory at its top so.
const PROC_ROOT_INODE: u64 = 1;

/// The call that failed and the kernel's answer.
pub(super) type Failure = (Call, Errno);

/// The source as a detached tree, checked, with all its changes made. Heap-free.
pub(super) fn clone(source: &Source, id_maps: &[OwnedFd]) -> Result<OwnedFd, Failure> {
    let tree = match find(source, OpenTreeFlags::CLONE, &source.path) {
        Ok(tree) => tree,
        Err(failure) => match &source.alternative {
            None => return Err(failure),
            // The first path's failure is the one that the user knows.
            Some(path) => find(source, OpenTreeFlags::CLONE, path).map_err(|_| failure)?,
        },
    };
    for change in &source.changes {
        apply(tree.as_fd(), change, id_maps).map_err(|errno| (Call::MountSetattr, errno))?;
    }
    Ok(tree)
}

/// Whether the source is there and of the right kind, without cloning it.
pub(super) fn look(source: &Source) -> Result<(), Failure> {
    let found = find(source, OpenTreeFlags::empty(), &source.path);
    match (found, &source.alternative) {
        (Ok(_), _) => Ok(()),
        (Err(failure), None) => Err(failure),
        (Err(failure), Some(path)) => find(source, OpenTreeFlags::empty(), path)
            .map(drop)
            .map_err(|_| failure),
    }
}

fn find(source: &Source, how: OpenTreeFlags, path: &CStr) -> Result<OwnedFd, Failure> {
    let mut flags = how;
    if source.recursive && how.contains(OpenTreeFlags::CLONE) {
        flags |= OpenTreeFlags::RECURSIVE;
    }
    let tree = if path.to_bytes().starts_with(b"/proc/") {
        // Its magic links lead out of any tree: into the runtime's own descriptors, for one.
        let resolve = ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let last = if source.no_follow {
            OFlag::O_NOFOLLOW
        } else {
            OFlag::empty()
        };
        let found = open_beneath(AT_FDCWD, path, OFlag::O_PATH | last, Mode::empty(), resolve)
            .map_err(|errno| (Call::Openat2, errno))?;
        open_tree(found.as_fd(), c"", flags | OpenTreeFlags::EMPTY_PATH)
    } else {
        // By path, since only so an automount is triggered.
        if source.no_follow {
            flags |= OpenTreeFlags::NOFOLLOW;
        }
        open_tree(AT_FDCWD, path, flags)
    };
    let tree = tree.map_err(|errno| (Call::OpenTree, errno))?;
    check(tree.as_fd(), source.check)?;
    Ok(tree)
}

fn check(tree: BorrowedFd<'_>, wanted: SourceCheck) -> Result<(), Failure> {
    if wanted == SourceCheck::None {
        return Ok(());
    }
    let stat = fstat(tree).map_err(|errno| (Call::Stat, errno))?;
    match wanted {
        SourceCheck::None => Ok(()),
        SourceCheck::Root if !is(&stat, SFlag::S_IFDIR) => Err((Call::Check, fault::NOT_ORDINARY)),
        SourceCheck::Root => {
            // By another name it is still the host's root directory.
            let host = nix::sys::stat::stat(c"/").map_err(|errno| (Call::Stat, errno))?;
            if (stat.st_dev, stat.st_ino) == (host.st_dev, host.st_ino) {
                return Err((Call::Check, fault::HOST_ROOT));
            }
            Ok(())
        }
        SourceCheck::Procfs => {
            let magic = file_system_magic(tree).map_err(|errno| (Call::Statfs, errno))?;
            if magic == PROC_MAGIC && stat.st_ino == PROC_ROOT_INODE {
                return Ok(());
            }
            Err((Call::Check, fault::OTHER_NODE))
        }
        SourceCheck::Node(node) if is_node(&stat, node) => Ok(()),
        SourceCheck::Node(_) => Err((Call::Check, fault::OTHER_NODE)),
    }
}

/// One mount_setattr(2).
pub(super) fn apply(
    mount: BorrowedFd<'_>,
    change: &Change,
    id_maps: &[OwnedFd],
) -> Result<(), Errno> {
    let user_namespace = match change.id_map {
        None => None,
        Some(index) => Some(id_maps.get(index).ok_or(fault::NO_SLOT)?.as_fd()),
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
    mount_setattr(mount, &attributes, depth)
}

/// Whether the inode is of this type.
pub(super) fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// Whether the inode is this device.
pub(super) fn is_node(stat: &FileStat, node: Node) -> bool {
    let same_number = stat.st_rdev == libc::makedev(node.major, node.minor);
    match node.kind {
        DeviceKind::Char => is(stat, SFlag::S_IFCHR) && same_number,
        DeviceKind::Block => is(stat, SFlag::S_IFBLK) && same_number,
        DeviceKind::Fifo => is(stat, SFlag::S_IFIFO),
    }
}
