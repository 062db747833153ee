//! tmpcopyup: copies the directory that a tmpfs covers into it.

use super::source::{self, Failure};
use super::trail::Trail;
use crate::plan::explain::Check;
use coracle_sys::{
    Call, Cause, directory_entries, get_directory_entries, getxattr, listxattr, read_link, setxattr,
};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, mkdirat, mknodat,
};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Gid, Uid, Whence, fchown, fchownat, lseek, read, symlinkat, write};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Copies the contents of the directory `from` into the directory `to`, with modes, owners and
/// extended attributes; links stay links. Also copies the extended attributes of `from` itself. The
/// mode and owner of `to` were set by the mount's options. `trail` records the file at which a
/// failure occurred. `to` must not be visible to other processes.
pub(super) fn contents(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    trail: &mut Trail,
) -> Result<(), Failure> {
    let top = Level::open(from, c".", to, c".")?;
    let (from, to) = tree(top, trail)?;
    attributes(from.as_fd(), to.as_fd())
}

/// A directory that is being copied.
struct Level {
    from: OwnedFd,
    to: OwnedFd,
    /// The position to continue reading at.
    next: i64,
}

impl Level {
    fn open(
        from: BorrowedFd<'_>,
        name: &CStr,
        to: BorrowedFd<'_>,
        made: &CStr,
    ) -> Result<Self, Failure> {
        Ok(Self {
            from: open_directory(from, name)?,
            to: open_directory(to, made)?,
            next: 0,
        })
    }
}

/// How many levels are kept open: a tree may be deeper than the limit on descriptors.
const HELD: usize = 32;

/// The directories above the current one. The first few levels are kept open. Of deeper ones only
/// the identity is kept, in a memory file since the heap may not be used, and they are opened again
/// as `..` of the level below. If the directory was moved meanwhile, `..` is another one, so the
/// identity is compared.
struct Levels {
    held: [Option<Level>; HELD],
    depth: usize,
    file: Option<OwnedFd>,
}

const RECORD: usize = 24;

impl Levels {
    fn push(&mut self, level: Level) -> Result<(), Failure> {
        if let Some(slot) = self.held.get_mut(self.depth) {
            *slot = Some(level);
        } else {
            let stat = fstat(&level.from).map_err(Call::Stat.failed())?;
            let mut record = [0; RECORD];
            let parts = [stat.st_dev, stat.st_ino, level.next.cast_unsigned()];
            for (place, part) in record.chunks_exact_mut(8).zip(parts) {
                place.copy_from_slice(&part.to_ne_bytes());
            }
            if self.file.is_none() {
                let file = memfd_create(c"levels", MFdFlags::MFD_CLOEXEC);
                self.file = Some(file.map_err(Call::Open.failed())?);
            }
            let place = self.place();
            match pwrite(self.file()?, &record, place).map_err(Call::Write.failed())? {
                RECORD => {}
                _ => return Err(Check::Inconsistent.into()),
            }
        }
        self.depth += 1;
        Ok(())
    }

    /// Returns to the directory above `below`; `None` if that is the top.
    fn pop(&mut self, below: &Level) -> Result<Option<Level>, Failure> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Ok(None);
        };
        self.depth = depth;
        if let Some(slot) = self.held.get_mut(depth) {
            return Ok(slot.take());
        }
        let mut record = [0; RECORD];
        match pread(self.file()?, &mut record, self.place()) {
            Ok(RECORD) => {}
            Ok(_) => return Err(Check::Inconsistent.into()),
            Err(errno) => return Err(Cause::Call(Call::Read, errno)),
        }
        let mut parts = record
            .chunks_exact(8)
            .map(|part| part.try_into().map_or(0, u64::from_ne_bytes));
        let mut part = || parts.next().unwrap_or_default();
        let (device, inode, next) = (part(), part(), part().cast_signed());
        let mut level = Level::open(below.from.as_fd(), c"..", below.to.as_fd(), c"..")?;
        let stat = fstat(&level.from).map_err(Call::Stat.failed())?;
        if (stat.st_dev, stat.st_ino) != (device, inode) {
            return Err(Check::Swapped.into());
        }
        level.next = next;
        Ok(Some(level))
    }

    fn file(&self) -> Result<&OwnedFd, Failure> {
        self.file.as_ref().ok_or(Check::NotOpened.into())
    }

    fn place(&self) -> i64 {
        let records = self.depth.saturating_sub(HELD).saturating_mul(RECORD);
        i64::try_from(records).unwrap_or(i64::MAX)
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(Call::Open.failed())
}

/// Copies the contents of a directory, and returns its descriptors.
fn tree(top: Level, trail: &mut Trail) -> Result<(OwnedFd, OwnedFd), Failure> {
    let mut above = Levels {
        held: [const { None }; HELD],
        depth: 0,
        file: None,
    };
    let mut at = top;
    loop {
        while let Some(child) = up_to_directory(&mut at, trail)? {
            let parent = std::mem::replace(&mut at, child);
            above.push(parent).inspect_err(|_| trail.fail_at(c"."))?;
        }
        let parent = above.pop(&at).inspect_err(|_| trail.fail_at(c".."))?;
        let Some(parent) = parent else {
            return Ok((at.from, at.to));
        };
        let stat = fstat(&at.from).map_err(Call::Stat.failed());
        stat.and_then(|stat| like(&stat, &at.from, &at.to))
            .inspect_err(|_| trail.fail_at(c"."))?;
        trail.pop();
        at = parent;
        lseek(&at.from, at.next, Whence::SeekSet).map_err(Call::Getdents.failed())?;
    }
}

/// Copies entries up to the next directory, which is made and returned, or to the end.
fn up_to_directory(at: &mut Level, trail: &mut Trail) -> Result<Option<Level>, Failure> {
    let mut buffer = [0; 2048];
    loop {
        let filled = get_directory_entries(at.from.as_fd(), &mut buffer)
            .map_err(Call::Getdents.failed())
            .inspect_err(|_| trail.fail_at(c"."))?;
        if filled == 0 {
            return Ok(None);
        }
        for entry in directory_entries(buffer.get(..filled).unwrap_or_default()) {
            let copied = inode(&at.from, &at.to, entry.name);
            let directory = copied.inspect_err(|_| trail.fail_at(entry.name))?;
            if directory.is_some() {
                at.next = entry.next;
                trail.push(entry.name);
                return Ok(directory);
            }
        }
    }
}

/// Copies one inode. The image may have any type there, so the type is checked before it is opened
/// for reading. A directory is only made, and returned.
fn inode(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<Option<Level>, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = match openat(from, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(None),
        answer => answer.map_err(Call::Open.failed())?,
    };
    let stat = fstat(&found).map_err(Call::Stat.failed())?;
    if source::is(&stat, SFlag::S_IFDIR) {
        mkdirat(to, name, Mode::S_IRWXU).map_err(Call::Mkdir.failed())?;
        return Level::open(from.as_fd(), name, to.as_fd(), name).map(Some);
    }
    if source::is(&stat, SFlag::S_IFREG) {
        file(from, to, name, &stat)?;
    } else if source::is(&stat, SFlag::S_IFLNK) {
        link(&found, to, name, &stat)?;
    } else {
        special(to, name, &stat)?;
    }
    Ok(None)
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Failure> {
    // O_NONBLOCK, since the file may have been replaced by a FIFO.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let from = openat(from, name, flags, Mode::empty()).map_err(Call::Open.failed())?;
    let now = fstat(&from).map_err(Call::Stat.failed())?;
    if (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Check::Swapped.into());
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let to = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let to = to.map_err(Call::Open.failed())?;
    let mut buffer = [0; 16384];
    loop {
        let length = read(&from, &mut buffer).map_err(Call::Read.failed())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return like(stat, &from, &to);
        }
        while !rest.is_empty() {
            let written = write(&to, rest).map_err(Call::Write.failed())?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

/// Sets owner, then mode: a change of the owner clears set-uid bits.
fn like(stat: &FileStat, from: &OwnedFd, to: &OwnedFd) -> Result<(), Failure> {
    let (uid, gid) = owner(stat);
    fchown(to, Some(uid), Some(gid)).map_err(Call::Chown.failed())?;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    fchmod(to, mode).map_err(Call::Chmod.failed())?;
    attributes(from.as_fd(), to.as_fd())
}

fn owner(stat: &FileStat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

/// Copies extended attributes, except those that tmpfs does not support or that init may not set.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Failure> {
    let mut names = [0; 1024];
    let mut value = [0; 4096];
    let length = match listxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::EOPNOTSUPP | Errno::ERANGE) => return Ok(()),
        Err(errno) => return Err(Cause::Call(Call::Xattr, errno)),
    };
    let names = names.get(..length).unwrap_or_default();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let Ok(length) = getxattr(from, name, &mut value) else {
            continue;
        };
        match setxattr(to, name, value.get(..length).unwrap_or_default()) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES | Errno::EINVAL) => {}
            Err(errno) => return Err(Cause::Call(Call::Xattr, errno)),
        }
    }
    Ok(())
}

fn link(found: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Failure> {
    let mut text = [0; 4096];
    // The last byte stays zero, as the terminating NUL.
    let room = text.get_mut(..4095).unwrap_or_default();
    read_link(found.as_fd(), room).map_err(Call::Readlink.failed())?;
    let text = CStr::from_bytes_until_nul(&text).map_err(|_| Check::Inconsistent)?;
    symlinkat(text, to, name).map_err(Call::Symlink.failed())?;
    let (uid, gid) = owner(stat);
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(Call::Chown.failed())
}

/// Copies FIFOs and devices. Sockets are useless without their server, and making devices may not
/// be permitted.
fn special(to: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Failure> {
    if source::is(stat, SFlag::S_IFSOCK) {
        return Ok(());
    }
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    match mknodat(to, name, kind, mode, stat.st_rdev) {
        Err(Errno::EPERM) => return Ok(()),
        answer => answer.map_err(Call::Mknod.failed())?,
    }
    let (uid, gid) = owner(stat);
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(Call::Chown.failed())?;
    // The tmpfs is not visible to other processes yet, so the name is still the node that was just
    // made.
    fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).map_err(Call::Chmod.failed())
}
