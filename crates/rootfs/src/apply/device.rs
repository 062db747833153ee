//! Makes device nodes, and links in /dev.

use super::fresh;
use super::inherited::Inherited;
use super::source::{self, Failure};
use super::target;
use crate::plan::explain::Check;
use crate::plan::{Device, HowMade, Link, LinkRule, Node, Plan, Spare};
use coracle_bundle::DeviceKind;
use coracle_sys::{
    Call, Cause, OpenTreeFlags, Remark, move_mount, open_in_root, open_tree, read_link,
};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The directory that the last node was made in. It is resolved once and used through its
/// descriptor, so that an image gains nothing by exchanging /dev for a link (CVE-2026-41579).
#[derive(Default)]
pub(super) struct Nodes<'a> {
    directory: Option<(&'a CStr, Directory)>,
}

struct Directory {
    file: OwnedFd,
    /// Whether it is in the tmpfs that the plan has made at /dev, where nobody else can exchange a
    /// node.
    made: bool,
}

impl<'a> Nodes<'a> {
    fn enter(
        &mut self,
        dev: Option<usize>,
        inherited: &Inherited,
        path: &'a CStr,
    ) -> Result<&Directory, Failure> {
        let known = self.directory.take().filter(|(known, _)| *known == path);
        let directory = match known {
            Some((_, directory)) => directory,
            None => open(dev, inherited, path)?,
        };
        Ok(&self.directory.insert((path, directory)).1)
    }

    pub(super) fn device(
        &mut self,
        plan: &Plan,
        inherited: &mut Inherited,
        device: &'a Device,
    ) -> Result<(), Failure> {
        let directory = self.enter(plan.dev, inherited, &device.directory)?;
        let source = match device.how {
            HowMade::Bind { source } => source,
            HowMade::Mknod { fallback } => match (make(directory, device), fallback) {
                // In a container of another runtime, for example: the existing node serves as well.
                (Err(Cause::Call(Call::Mknod, Errno::EPERM)), Some(source)) => source,
                (answer, _) => return answer,
            },
        };
        let tree = inherited.obtain(plan, source)?;
        let tree = tree.ok_or(Check::NoNode)?;
        inherited.enter()?;
        bind(directory.file.as_fd(), device, tree.as_fd())
    }

    pub(super) fn link(
        &mut self,
        plan: &Plan,
        inherited: &Inherited,
        link: &'a Link,
    ) -> Result<(), Failure> {
        if let LinkRule::IfThere(path) = link.rule {
            match open_in_root(inherited.root()?, path, OFlag::O_PATH, Mode::empty()) {
                Err(Errno::ENOENT) => return Ok(()),
                answer => drop(answer.map_err(Call::Openat2.failed())?),
            }
        }
        let directory = self.enter(plan.dev, inherited, c"/dev")?.file.as_fd();
        match symlinkat(link.target, directory, link.name) {
            Err(Errno::EEXIST) if link.rule == LinkRule::Replace => replace(directory, link),
            Err(Errno::EEXIST) => Ok(()),
            answer => answer.map_err(Call::Symlink.failed()),
        }
    }
}

/// Opens the directory, and makes it if it is missing.
fn open(dev: Option<usize>, inherited: &Inherited, path: &CStr) -> Result<Directory, Failure> {
    let file = target::directory(inherited.root()?, path)?;
    let made = match dev {
        Some(_) => target::same_mount(file.as_fd(), inherited.base(dev)?).is_ok(),
        None => false,
    };
    let file = match made {
        true => file,
        false => target::outside_procfs(file)?,
    };
    Ok(Directory { file, made })
}

fn replace(directory: BorrowedFd<'_>, link: &Link) -> Result<(), Failure> {
    if is_link_to(directory, link.name, link.target) {
        return Ok(());
    }
    unlinkat(directory, link.name, UnlinkatFlags::NoRemoveDir).map_err(Call::Unlink.failed())?;
    symlinkat(link.target, directory, link.name).map_err(Call::Symlink.failed())
}

/// Whether `name` is a symbolic link to this target.
pub(super) fn is_link_to(directory: BorrowedFd<'_>, name: &CStr, text: &CStr) -> bool {
    // A link that does not fit is longer than every target, so it differs.
    let mut buffer = [0; 4096];
    let length =
        target::inode(directory, name).and_then(|link| read_link(link.as_fd(), &mut buffer));
    length.is_ok_and(|length| buffer.get(..length) == Some(text.to_bytes()))
}

fn make(directory: &Directory, device: &Device) -> Result<(), Failure> {
    let file = directory.file.as_fd();
    match create(file, device) {
        Ok(()) if directory.made && (device.uid, device.gid) == (0, 0) => Ok(()),
        Ok(()) => verify(file, device),
        Err(Errno::EEXIST) => keep_or_remake(file, device),
        Err(errno) => Err(Cause::Call(Call::Mknod, errno)),
    }
}

fn create(directory: BorrowedFd<'_>, device: &Device) -> Result<(), Errno> {
    let kind = kind_of(device.node);
    let mode = Mode::from_bits_truncate(device.mode);
    mknodat(
        directory,
        device.name.as_c_str(),
        kind,
        mode,
        number(device.node),
    )
}

/// A node on a tmpfs that nothing else is on, as a detached mount. For a process of the host's
/// root.
pub(super) fn on_its_own(spare: Spare) -> Result<OwnedFd, Failure> {
    let Spare {
        node,
        mode,
        uid,
        gid,
    } = spare;
    let file_system = fresh::new_mount(c"tmpfs", std::iter::empty(), 0, &mut Remark::default())?;
    let (directory, name) = (file_system.as_fd(), c"node");
    let permissions = Mode::from_bits_truncate(mode);
    mknodat(directory, name, kind_of(node), permissions, number(node))
        .map_err(Call::Mknod.failed())?;
    let follow = FchmodatFlags::FollowSymlink;
    // The umask is the caller's.
    fchmodat(directory, name, permissions, follow).map_err(Call::Chmod.failed())?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let nothing = AtFlags::empty();
    fchownat(directory, name, Some(uid), Some(gid), nothing).map_err(Call::Chown.failed())?;
    open_tree(directory, name, OpenTreeFlags::CLONE).map_err(Call::OpenTree.failed())
}

fn kind_of(node: Node) -> SFlag {
    match node.kind {
        DeviceKind::Char => SFlag::S_IFCHR,
        DeviceKind::Block => SFlag::S_IFBLK,
        DeviceKind::Fifo => SFlag::S_IFIFO,
    }
}

fn number(node: Node) -> libc::dev_t {
    match node.kind {
        DeviceKind::Fifo => 0,
        DeviceKind::Char | DeviceKind::Block => libc::makedev(node.major, node.minor),
    }
}

/// Checks the node that was made: a hostile process with the same directory could have replaced it.
fn verify(directory: BorrowedFd<'_>, device: &Device) -> Result<(), Failure> {
    if (device.uid, device.gid) == (0, 0) {
        let stat = look(directory, &device.name).map_err(Call::Stat.failed())?;
        return same_node(&stat, device);
    }
    let node = target::inode(directory, &device.name).map_err(Call::Open.failed())?;
    let stat = fstat(&node).map_err(Call::Stat.failed())?;
    same_node(&stat, device)?;
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    fchownat(&node, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).map_err(Call::Chown.failed())
}

fn same_node(stat: &FileStat, device: &Device) -> Result<(), Failure> {
    if source::is_node(stat, device.node) {
        return Ok(());
    }
    Err(Check::OtherDeviceMade.into())
}

fn look(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileStat, Errno> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The image has a file of this name. The same device is kept or made again, to have the configured
/// mode and owner; anything else is an error (config-linux.md § Devices).
fn keep_or_remake(directory: BorrowedFd<'_>, device: &Device) -> Result<(), Failure> {
    let stat = look(directory, &device.name).map_err(Call::Stat.failed())?;
    if !source::is_node(&stat, device.node) {
        return Err(Check::OtherDevice.into());
    }
    let permissions = stat.st_mode & 0o7777;
    if (permissions, stat.st_uid, stat.st_gid) == (device.mode, device.uid, device.gid) {
        return Ok(());
    }
    // chmod(2) would follow a link that was put in its place, so a node with another mode is made
    // again.
    match unlinkat(
        directory,
        device.name.as_c_str(),
        UnlinkatFlags::NoRemoveDir,
    ) {
        Err(Errno::EROFS | Errno::EBUSY) => return Ok(()),
        answer => answer.map_err(Call::Unlink.failed())?,
    }
    create(directory, device).map_err(Call::Mknod.failed())?;
    verify(directory, device)
}

/// Binds the host's node on a file of this name, which is made if it is missing.
fn bind(directory: BorrowedFd<'_>, device: &Device, tree: BorrowedFd<'_>) -> Result<(), Failure> {
    let name = device.name.as_c_str();
    let place = match target::inode(directory, name) {
        Ok(place) => {
            let stat = fstat(&place).map_err(Call::Stat.failed())?;
            // A file made as the target by an earlier container of this image.
            let left_over = source::is(&stat, SFlag::S_IFREG) && stat.st_size == 0;
            if !left_over && !source::is_node(&stat, device.node) {
                return Err(Check::OtherDevice.into());
            }
            place
        }
        Err(Errno::ENOENT) => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(0o644);
            openat(directory, name, flags, mode).map_err(Call::Open.failed())?
        }
        Err(errno) => return Err(Cause::Call(Call::Open, errno)),
    };
    move_mount(tree, place.as_fd(), c"").map_err(Call::MoveMount.failed())?;
    let again = target::inode(directory, name).map_err(Call::Open.failed())?;
    target::same_mount(again.as_fd(), tree)
}
