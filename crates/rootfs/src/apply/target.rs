//! Where a mount goes: resolved below the root's descriptor, made where it is missing.

use super::fault;
use super::source::{self, Failure};
use crate::plan::{Target, Want};
use coracle_sys::{
    Call, PROC_MAGIC, file_system_magic, mount_id, move_mount, open_in_root, read_link,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A resolved target.
pub(super) struct Found {
    pub(super) place: OwnedFd,
    /// It was missing, and is ours.
    pub(super) made: bool,
}

/// What to make of a missing target.
#[derive(Clone, Copy)]
pub(super) enum Make<'a> {
    Directory,
    /// The same as this.
    Like(BorrowedFd<'a>),
}

/// As many links in a path as the kernel follows.
const LINKS: u32 = 40;
/// PATH_MAX, with the final NUL.
const LENGTH: usize = 4096;

/// Resolves the target below `base`, and makes what is missing: directories 0755, files 0644.
pub(super) fn resolve(
    base: BorrowedFd<'_>,
    target: &Target,
    make: Make<'_>,
) -> Result<Found, Failure> {
    let found = match open_in_root(base, &target.path, flags(target.want), Mode::empty()) {
        Ok(place) => Found { place, made: false },
        Err(Errno::ENOENT) => Found { place: create(base, &target.path, make)?, made: true },
        Err(Errno::ENOTDIR | Errno::ELOOP) if target.want == Want::OrdinaryDirectory => {
            return Err((Call::Check, fault::NOT_ORDINARY));
        }
        Err(errno) => return Err((Call::Openat2, errno)),
    };
    if target.guarded {
        let magic = file_system_magic(found.place.as_fd());
        if magic.map_err(|errno| (Call::Statfs, errno))? == PROC_MAGIC {
            return Err((Call::Check, fault::IN_PROC));
        }
    }
    Ok(found)
}

/// Attaches a detached mount on the resolved place, and looks the target up again: whoever exchanged a
/// part of the path in between must not make us go on with another directory there (CVE-2021-30465).
pub(super) fn attach(
    base: BorrowedFd<'_>,
    target: &Target,
    place: BorrowedFd<'_>,
    mount: BorrowedFd<'_>,
) -> Result<(), Failure> {
    move_mount(mount, place, c"").map_err(|errno| (Call::MoveMount, errno))?;
    let again = open_in_root(base, &target.path, flags(target.want), Mode::empty());
    same_mount(again.map_err(|errno| (Call::Openat2, errno))?.as_fd(), mount)
}

/// The first descriptor is on the mount that the second one is on.
pub(super) fn same_mount(place: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> Result<(), Failure> {
    let number = |fd| mount_id(fd).map_err(|errno| (Call::Stat, errno));
    if number(place)? == number(mount)? {
        return Ok(());
    }
    Err((Call::Check, fault::SWAPPED))
}

fn flags(want: Want) -> OFlag {
    match want {
        Want::Any => OFlag::O_PATH,
        Want::NoFollow => OFlag::O_PATH | OFlag::O_NOFOLLOW,
        Want::OrdinaryDirectory => OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY,
    }
}

/// The directory at `path` below the root, made where it is missing.
pub(super) fn directory(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Failure> {
    match open_in_root(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => create(root, path, Make::Directory),
        answer => answer.map_err(|errno| (Call::Openat2, errno)),
    }
}

/// The parent directory of an absolute path, made where it is missing, and the last name in it.
pub(super) fn parent<'a>(
    root: BorrowedFd<'_>,
    path: &'a CStr,
) -> Result<(OwnedFd, &'a CStr), Failure> {
    let (above, name) = split(path)?;
    Ok((directory(root, above.text()?)?, name))
}

fn create(root: BorrowedFd<'_>, path: &CStr, make: Make<'_>) -> Result<OwnedFd, Failure> {
    let (above, name) = split(path)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    // As a rule just the last part is missing.
    match open_in_root(root, above.text()?, flags, Mode::empty()) {
        Ok(parent) => match make_in(parent.as_fd(), name, make) {
            // A dangling link.
            Err((_, Errno::EEXIST)) => walk(root, path, make),
            answer => answer,
        },
        Err(Errno::ENOENT) => walk(root, path, make),
        Err(errno) => Err((Call::Openat2, errno)),
    }
}

/// Makes one inode, and opens that.
fn make_in(parent: BorrowedFd<'_>, name: &CStr, make: Make<'_>) -> Result<OwnedFd, Failure> {
    let directory = match make {
        Make::Directory => true,
        Make::Like(model) => {
            let stat = fstat(model).map_err(|errno| (Call::Stat, errno))?;
            source::is(&stat, SFlag::S_IFDIR)
        }
    };
    if directory {
        let mode = Mode::from_bits_truncate(0o755);
        mkdirat(parent, name, mode).map_err(|errno| (Call::Mkdir, errno))?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        return openat(parent, name, flags, Mode::empty()).map_err(|errno| (Call::Open, errno));
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    openat(parent, name, flags, mode).map_err(|errno| (Call::Open, errno))
}

/// Walks the path part by part, following the image's links within the root, dangling ones too, and
/// makes each part that is missing. Each part is resolved from the root once more, so that whoever
/// exchanges directories meanwhile can only make us work elsewhere within the root.
fn walk(root: BorrowedFd<'_>, path: &CStr, make: Make<'_>) -> Result<OwnedFd, Failure> {
    let mut done = StackPath::new();
    let mut rest = StackPath::new();
    rest.push(path.to_bytes())?;
    // Each link and each lost race costs one.
    let mut tries = LINKS;
    loop {
        let (part, more) = rest.take_first();
        match part.bytes() {
            b"" if !more => {
                let found = open_in_root(root, done.text()?, OFlag::O_PATH, Mode::empty());
                return found.map_err(|errno| (Call::Openat2, errno));
            }
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            name => done.push(name)?,
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let inode = match open_in_root(root, done.text()?, flags, Mode::empty()) {
            Ok(inode) => inode,
            Err(Errno::ENOENT) => {
                let make = if more { Make::Directory } else { make };
                match make_last(root, &done, make) {
                    Ok(made) if !more => return Ok(made),
                    Ok(_) => continue,
                    // Somebody was faster: look at what it is.
                    Err((_, Errno::EEXIST)) if tries > 0 => {
                        tries -= 1;
                        done.pop();
                        rest.push_front(part.bytes())?;
                        continue;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Err(errno) => return Err((Call::Openat2, errno)),
        };
        let stat = fstat(&inode).map_err(|errno| (Call::Stat, errno))?;
        if !source::is(&stat, SFlag::S_IFLNK) {
            if more {
                continue;
            }
            return Ok(inode);
        }
        tries = tries.checked_sub(1).ok_or((Call::Openat2, Errno::ELOOP))?;
        follow(inode.as_fd(), &mut done, &mut rest)?;
    }
}

/// Puts what a link says before the rest of the path.
fn follow(
    link: BorrowedFd<'_>,
    done: &mut StackPath,
    rest: &mut StackPath,
) -> Result<(), Failure> {
    let mut text = [0; LENGTH];
    let length = read_link(link, &mut text).map_err(|errno| (Call::Readlink, errno))?;
    let text = text.get(..length).unwrap_or_default();
    if text.first() == Some(&b'/') {
        done.clear();
    } else {
        done.pop();
    }
    rest.push_front(text)
}

fn make_last(
    root: BorrowedFd<'_>,
    done: &StackPath,
    make: Make<'_>,
) -> Result<OwnedFd, Failure> {
    let (above, name) = split(done.text()?)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let parent = open_in_root(root, above.text()?, flags, Mode::empty());
    make_in(parent.map_err(|errno| (Call::Openat2, errno))?.as_fd(), name, make)
}

/// The path of the directory, and the last name.
fn split(path: &CStr) -> Result<(StackPath, &CStr), Failure> {
    let bytes = path.to_bytes_with_nul();
    let at = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = bytes.get(at..).and_then(|name| CStr::from_bytes_with_nul(name).ok());
    let name = name.filter(|name| !name.is_empty()).ok_or((Call::Check, Errno::EINVAL))?;
    let mut above = StackPath::new();
    above.push(bytes.get(..at).unwrap_or_default())?;
    Ok((above, name))
}

/// A path on the stack, each part with a `/` before it; the empty path is the root.
struct StackPath {
    bytes: [u8; LENGTH],
    length: usize,
}

impl StackPath {
    fn new() -> Self {
        Self { bytes: [0; LENGTH], length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// With the final NUL, which is always there: `push` leaves room.
    fn text(&self) -> Result<&CStr, Failure> {
        if self.length == 0 {
            return Ok(c"/");
        }
        let text = self.bytes.get(..=self.length).unwrap_or_default();
        CStr::from_bytes_with_nul(text).map_err(|_| (Call::Check, Errno::EINVAL))
    }

    fn push(&mut self, more: &[u8]) -> Result<(), Failure> {
        let slash = usize::from(more.first() != Some(&b'/'));
        let start = self.length + slash;
        let end = start + more.len();
        let too_long = (Call::Check, Errno::ENAMETOOLONG);
        if end >= LENGTH {
            return Err(too_long);
        }
        if let Some(byte) = self.bytes.get_mut(self.length) {
            *byte = b'/';
        }
        self.bytes.get_mut(start..end).ok_or(too_long)?.copy_from_slice(more);
        self.end_at(end);
        Ok(())
    }

    fn push_front(&mut self, first: &[u8]) -> Result<(), Failure> {
        let mut whole = Self::new();
        whole.push(first)?;
        whole.push(self.bytes())?;
        *self = whole;
        Ok(())
    }

    fn clear(&mut self) {
        self.end_at(0);
    }

    /// Drops the last part.
    fn pop(&mut self) {
        let at = self.bytes().iter().rposition(|byte| *byte == b'/');
        self.end_at(at.unwrap_or(0));
    }

    /// Takes the first part off; whether anything is left after it.
    fn take_first(&mut self) -> (StackPath, bool) {
        let mut part = Self::new();
        let bytes = self.bytes();
        let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
        let tail = bytes.get(start..).unwrap_or_default();
        let length = tail.iter().position(|byte| *byte == b'/').unwrap_or(tail.len());
        let (first, rest) = tail.split_at_checked(length).unwrap_or_default();
        let more = rest.iter().any(|byte| *byte != b'/');
        if let Some(place) = part.bytes.get_mut(..length) {
            place.copy_from_slice(first);
            part.end_at(length);
        }
        let from = start + length;
        let end = self.length;
        self.bytes.copy_within(from..end, 0);
        self.end_at(end - from);
        (part, more)
    }

    fn end_at(&mut self, length: usize) {
        self.length = length;
        if let Some(byte) = self.bytes.get_mut(length) {
            *byte = 0;
        }
    }
}
