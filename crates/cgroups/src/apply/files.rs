//! Files and directories of a cgroup file system, by descriptor of the directory.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::{CGROUP_MAGIC, CGROUP2_MAGIC, file_system_magic};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};

use crate::{Error, Result};

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);
/// More than any file of a cgroup but the lists of processes and statistics, which are read on.
const CHUNK: usize = 4096;

/// Opens a hierarchy's mount point, and sees that it is one: a directory of the tmpfs that
/// hierarchies are mounted on would take our directories just as well.
pub(super) fn open_top(mount: &Path) -> Result<OwnedFd> {
    let failed = |errno| Error::Open {
        path: mount.to_owned(),
        errno,
    };
    let top = open_path(mount).map_err(failed)?;
    let magic = file_system_magic(top.as_fd()).map_err(failed)?;
    if magic == CGROUP_MAGIC || magic == CGROUP2_MAGIC {
        Ok(top)
    } else {
        Err(Error::NotCgroup {
            path: mount.to_owned(),
        })
    }
}

/// Opens a directory by its absolute path.
pub(super) fn open_path(path: &Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, DIRECTORY, Mode::empty())
}

/// Opens a directory below `parent`.
pub(super) fn open_below(parent: BorrowedFd, path: &Path) -> nix::Result<OwnedFd> {
    openat(parent, path, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
}

/// Makes a directory below `parent`, with the rights that the caller's umask leaves.
pub(super) fn make(parent: BorrowedFd, path: &Path) -> nix::Result<()> {
    mkdirat(parent, path, Mode::from_bits_truncate(0o755))
}

/// Opens a file to write to.
pub(super) fn open_to_write(directory: BorrowedFd, file: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(directory, file, flags, Mode::empty())
}

/// Opens the file in the directory with this absolute path to write to.
pub(super) fn open_path_to_write(directory: &Path, file: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(AT_FDCWD, &directory.join(file), flags, Mode::empty())
}

/// Opens a file to read.
pub(super) fn open_to_read(directory: BorrowedFd, file: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(directory, file, flags, Mode::empty())
}

/// Writes a value at once: the kernel takes each write(2) for a whole value.
pub(super) fn write(directory: BorrowedFd, file: &str, value: &str) -> nix::Result<()> {
    write_value(&open_to_write(directory, file)?, value)
}

/// The same with the file open.
pub(super) fn write_value(file: &OwnedFd, value: &str) -> nix::Result<()> {
    let written = nix::unistd::write(file, value.as_bytes())?;
    if written == value.len() {
        Ok(())
    } else {
        Err(Errno::EIO)
    }
}

/// All of a file.
pub(super) fn read(directory: BorrowedFd, file: &str) -> nix::Result<String> {
    let file = open_to_read(directory, file)?;
    read_open(&file)
}

/// All of an open file from its beginning.
pub(super) fn read_open(file: &OwnedFd) -> nix::Result<String> {
    let mut content = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        let offset = i64::try_from(content.len()).map_err(|_| Errno::EOVERFLOW)?;
        let count = nix::sys::uio::pread(file, &mut chunk, offset)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(String::from_utf8_lossy(&content).into_owned());
        };
        content.extend_from_slice(read);
        // seq_file ends a piece early only where the next record has no room in it, and no record
        // of a cgroup's files that has several fills half a piece.
        if count < CHUNK / 2 {
            return Ok(String::from_utf8_lossy(&content).into_owned());
        }
    }
}

/// Whether the line `key value` of a file such as cgroup.events has another value than 0.
pub(super) fn is_set(content: &str, key: &str) -> bool {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
    content
        .lines()
        .find_map(value)
        .is_some_and(|value| value.trim() != "0")
}

/// Names of the cgroups right below.
pub(super) fn children(directory: BorrowedFd) -> nix::Result<Vec<OsString>> {
    // Two links and one for each child: nearly always the answer.
    if fstat(directory)?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    listed(directory, |kind| kind == libc::DT_DIR)
}

/// Names of the files.
pub(super) fn names(directory: BorrowedFd) -> nix::Result<Vec<OsString>> {
    listed(directory, |kind| kind != libc::DT_DIR)
}

/// As they are: a container's names need not be text.
fn listed(directory: BorrowedFd, wanted: fn(u8) -> bool) -> nix::Result<Vec<OsString>> {
    // Opened again: the position of reading belongs to the caller's descriptor.
    let listing = openat(directory, ".", DIRECTORY, Mode::empty())?;
    let entries = coracle_sys::list_directory(listing.as_fd())?.into_iter();
    Ok(entries
        .filter(|(kind, _)| wanted(*kind))
        .map(|(_, name)| name)
        .collect())
}

/// The cgroup is gone, or is going while we look.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

/// The caller may not make cgroups here.
pub(super) fn is_denied(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::EACCES | Errno::EROFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_flat_file() {
        let events = "populated 1\nfrozen 0\n";
        assert!(is_set(events, "populated"));
        assert!(!is_set(events, "frozen"));
        assert!(!is_set(events, "populate"));
        assert!(!is_set("", "frozen"));
    }
}
