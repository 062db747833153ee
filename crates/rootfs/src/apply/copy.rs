//! tmpcopyup: what a tmpfs covers is copied into it first.

use super::source::{self, Failure};
use crate::plan::CopyUp;
use coracle_sys::{
    Call, directory_entries, get_directory_entries, getxattr, listxattr, read_link, setxattr,
};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, mkdirat, mknodat,
};
use nix::unistd::{Gid, Uid, fchown, fchownat, read, symlinkat, write};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How deep a tree may be: each level takes a descriptor or two and some stack.
const DEPTH: u32 = 64;

/// Copies all that is in the directory `from` into the directory `to`, with modes, owners, extended
/// attributes and links as links; and the attributes and perhaps the owner of `from` itself, whose
/// mode the file system was made with unless the config gives another.
pub(super) fn contents(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    copy_up: CopyUp,
) -> Result<(), Failure> {
    let from = open_directory(from, c".")?;
    let to = open_directory(to, c".")?;
    directory(&from, &to, DEPTH)?;
    if copy_up == CopyUp::ContentsAndOwner {
        let stat = fstat(&from).map_err(|errno| (Call::Stat, errno))?;
        let (uid, gid) = owner(&stat);
        fchown(&to, Some(uid), Some(gid)).map_err(|errno| (Call::Chown, errno))?;
    }
    attributes(from.as_fd(), to.as_fd())
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(|errno| (Call::Open, errno))
}

fn directory(from: &OwnedFd, to: &OwnedFd, depth: u32) -> Result<(), Failure> {
    let mut buffer = [0; 2048];
    loop {
        let filled = get_directory_entries(from.as_fd(), &mut buffer)
            .map_err(|errno| (Call::Getdents, errno))?;
        if filled == 0 {
            return Ok(());
        }
        for entry in directory_entries(buffer.get(..filled).unwrap_or_default()) {
            inode(from, to, entry.name, depth)?;
        }
    }
}

/// The image may have any kind of inode there: its type is known before it is opened for reading.
fn inode(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> Result<(), Failure> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = match openat(from, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        answer => answer.map_err(|errno| (Call::Open, errno))?,
    };
    let stat = fstat(&found).map_err(|errno| (Call::Stat, errno))?;
    if source::is(&stat, SFlag::S_IFDIR) {
        let depth = depth.checked_sub(1).ok_or((Call::Check, Errno::ELOOP))?;
        let from = open_directory(from.as_fd(), name)?;
        mkdirat(to, name, Mode::S_IRWXU).map_err(|errno| (Call::Mkdir, errno))?;
        let to = open_directory(to.as_fd(), name)?;
        directory(&from, &to, depth)?;
        like(&stat, &from, &to)
    } else if source::is(&stat, SFlag::S_IFREG) {
        file(from, to, name, &stat)
    } else if source::is(&stat, SFlag::S_IFLNK) {
        link(&found, to, name, &stat)
    } else {
        special(to, name, &stat)
    }
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Failure> {
    // Not to be held up if it has become a fifo since.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let from = openat(from, name, flags, Mode::empty()).map_err(|errno| (Call::Open, errno))?;
    let now = fstat(&from).map_err(|errno| (Call::Stat, errno))?;
    if (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err((Call::Check, super::fault::SWAPPED));
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let to = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let to = to.map_err(|errno| (Call::Open, errno))?;
    let mut buffer = [0; 16384];
    loop {
        let length = read(&from, &mut buffer).map_err(|errno| (Call::Read, errno))?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return like(stat, &from, &to);
        }
        while !rest.is_empty() {
            let written = write(&to, rest).map_err(|errno| (Call::Write, errno))?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

/// Owner first: a change of it takes set-uid bits away.
fn like(stat: &FileStat, from: &OwnedFd, to: &OwnedFd) -> Result<(), Failure> {
    let (uid, gid) = owner(stat);
    fchown(to, Some(uid), Some(gid)).map_err(|errno| (Call::Chown, errno))?;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    fchmod(to, mode).map_err(|errno| (Call::Chmod, errno))?;
    attributes(from.as_fd(), to.as_fd())
}

fn owner(stat: &FileStat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

/// Extended attributes that tmpfs does not have, or that we may not set, are left out.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Failure> {
    let mut names = [0; 1024];
    let mut value = [0; 4096];
    let length = match listxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::EOPNOTSUPP | Errno::ERANGE) => return Ok(()),
        Err(errno) => return Err((Call::Xattr, errno)),
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
            Err(errno) => return Err((Call::Xattr, errno)),
        }
    }
    Ok(())
}

fn link(found: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Failure> {
    let mut text = [0; 4096];
    // The last byte stays the final NUL.
    let room = text.get_mut(..4095).unwrap_or_default();
    read_link(found.as_fd(), room).map_err(|errno| (Call::Readlink, errno))?;
    let text = CStr::from_bytes_until_nul(&text).map_err(|_| (Call::Check, Errno::EINVAL))?;
    symlinkat(text, to, name).map_err(|errno| (Call::Symlink, errno))?;
    let (uid, gid) = owner(stat);
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| (Call::Chown, errno))
}

/// Fifos and devices; sockets mean nothing without their server, and devices may be forbidden.
fn special(to: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Failure> {
    if source::is(stat, SFlag::S_IFSOCK) {
        return Ok(());
    }
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    match mknodat(to, name, kind, mode, stat.st_rdev) {
        Err(Errno::EPERM) => return Ok(()),
        answer => answer.map_err(|errno| (Call::Mknod, errno))?,
    }
    let (uid, gid) = owner(stat);
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| (Call::Chown, errno))?;
    // Nobody else sees this tmpfs yet: the name is what we have just made.
    fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).map_err(|errno| (Call::Chmod, errno))
}
