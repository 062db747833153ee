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
/// The size of one read: more than most files of a cgroup. Longer ones, such as lists of processes,
/// take several reads.
const CHUNK: usize = 4096;

/// Opens a hierarchy's mount point and checks its file system: without a mount, directories could
/// also be made in the tmpfs around it.
pub(super) fn open_top(mount: &Path) -> Result<OwnedFd> {
    let top = open_directory(mount)?;
    let magic = file_system_magic(top.as_fd()).map_err(|errno| Error::Open {
        path: mount.to_owned(),
        errno,
    })?;
    if magic == CGROUP_MAGIC || magic == CGROUP2_MAGIC {
        Ok(top)
    } else {
        Err(Error::NotCgroup {
            path: mount.to_owned(),
        })
    }
}

/// Opens the directory of a cgroup or a hierarchy.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    open_path(path).map_err(|errno| Error::Open {
        path: path.to_owned(),
        errno,
    })
}

/// Opens a directory by its absolute path.
pub(super) fn open_path(path: &Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, DIRECTORY, Mode::empty())
}

/// Opens a directory below `parent`.
pub(super) fn open_below(parent: BorrowedFd, path: &Path) -> nix::Result<OwnedFd> {
    openat(parent, path, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
}

/// Makes a directory below `parent`, with mode 0755 reduced by the umask.
pub(super) fn make(parent: BorrowedFd, path: &Path) -> nix::Result<()> {
    mkdirat(parent, path, Mode::from_bits_truncate(0o755))
}

/// Opens a file for writing.
pub(super) fn open_to_write(directory: BorrowedFd, file: impl AsRef<Path>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(directory, file.as_ref(), flags, Mode::empty())
}

/// Opens a file for writing, in the directory with this absolute path.
pub(super) fn open_path_to_write(directory: &Path, file: &str) -> nix::Result<OwnedFd> {
    open_to_write(AT_FDCWD, directory.join(file))
}

/// Opens a file for reading, in the directory with this absolute path.
pub(super) fn open_path_to_read(directory: &Path, file: &str) -> nix::Result<OwnedFd> {
    open_to_read(AT_FDCWD, directory.join(file))
}

/// Opens a file for reading.
pub(super) fn open_to_read(directory: BorrowedFd, file: impl AsRef<Path>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(directory, file.as_ref(), flags, Mode::empty())
}

/// Writes a value by one write(2): the files of cgroups and of resctrl take it whole, or refuse it
/// (`E2BIG` if it is longer than a page, or than the limit of the file).
pub(super) fn write(directory: BorrowedFd, file: impl AsRef<Path>, value: &str) -> nix::Result<()> {
    write_value(&open_to_write(directory, file)?, value)
}

/// Like [`write`], to an open file.
pub(super) fn write_value(file: &OwnedFd, value: &str) -> nix::Result<()> {
    nix::unistd::write(file, value.as_bytes()).map(drop)
}

/// Reads a whole file.
pub(super) fn read(directory: BorrowedFd, file: impl AsRef<Path>) -> nix::Result<String> {
    let file = open_to_read(directory, file)?;
    read_open(&file)
}

/// Reads a whole open file from its beginning.
pub(super) fn read_open(file: &OwnedFd) -> nix::Result<String> {
    let mut content = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        let offset = i64::try_from(content.len()).unwrap_or(i64::MAX);
        let count = nix::sys::uio::pread(file, &mut chunk, offset)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(String::from_utf8_lossy(&content).into_owned());
        };
        content.extend_from_slice(read);
        // seq_file returns a short read only if the next record does not fit. No record in these
        // files is as long as half a piece, so a read below that is the last one.
        if count < CHUNK / 2 {
            return Ok(String::from_utf8_lossy(&content).into_owned());
        }
    }
}

/// Whether the line `key value` of a file such as cgroup.events has a value other than 0.
pub(super) fn is_set(content: &str, key: &str) -> bool {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
    content
        .lines()
        .find_map(value)
        .is_some_and(|value| value.trim() != "0")
}

/// Names of the child cgroups.
pub(super) fn children(directory: BorrowedFd) -> nix::Result<Vec<OsString>> {
    // A cgroup has two links and one more for each child; most have no child.
    if fstat(directory)?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    listed(directory, |kind| kind == libc::DT_DIR)
}

/// Names of the files.
pub(super) fn names(directory: BorrowedFd) -> nix::Result<Vec<OsString>> {
    listed(directory, |kind| kind != libc::DT_DIR)
}

/// Returned unchanged: names that the container chose need not be UTF-8.
fn listed(directory: BorrowedFd, wanted: fn(u8) -> bool) -> nix::Result<Vec<OsString>> {
    // Opened again, since reading would move the position of the caller's descriptor.
    let listing = openat(directory, ".", DIRECTORY, Mode::empty())?;
    let entries = coracle_sys::list_directory(listing.as_fd())?.into_iter();
    Ok(entries
        .filter(|(kind, _)| wanted(*kind))
        .map(|(_, name)| name)
        .collect())
}

/// Whether the errno means that the cgroup has been or is being removed.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

/// Whether the errno means that the caller may not make cgroups here.
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
