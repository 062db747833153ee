//! Reading directories without the C library's `DIR`, which allocates.

use crate::Result;
use crate::kernel::size;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    /// The inode number; for a mount point, that of the directory below the mount.
    pub inode: u64,
    /// `DT_DIR`, `DT_REG`, …; `DT_UNKNOWN` (0) where the file system does not say.
    pub kind: u8,
    /// The position of the next entry, for lseek(2) on the directory. Its meaning is the file
    /// system's own.
    pub next: i64,
    /// The name, never `.` or `..`.
    pub name: &'a CStr,
}

/// The entries in a buffer, from [`directory_entries`].
#[derive(Clone, Debug)]
pub struct DirectoryEntries<'a> {
    rest: &'a [u8],
}

/// `ssize_t getdents64(int fd, void *buf, size_t size)`, getdents64(2).
///
/// Fills the buffer with the next raw entries and returns how many bytes they take, 0 at the end of
/// the directory. [`directory_entries`] parses them.
///
/// # Errors
///
/// The kernel's: `EINVAL` if the buffer is too small for one entry (280 bytes are always enough),
/// `ENOTDIR`.
pub fn get_directory_entries(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the directory is open for the borrow; the kernel writes at most `len` bytes into the
    // buffer, at any alignment.
    size(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })
}

/// The entries of a directory from its current position, each with its kind (`DT_DIR`, `DT_REG`,
/// …).
///
/// Allocates. A close(2) that fails is ignored; the standard library and nix end the process then.
///
/// # Errors
///
/// The kernel's.
pub fn list_directory(directory: BorrowedFd<'_>) -> Result<Vec<(u8, OsString)>> {
    let mut entries = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let length = get_directory_entries(directory, &mut buffer)?;
        let Some(filled) = buffer.get(..length).filter(|filled| !filled.is_empty()) else {
            return Ok(entries);
        };
        entries.extend(directory_entries(filled).map(|entry| {
            let name = OsStr::from_bytes(entry.name.to_bytes()).to_owned();
            (entry.kind, name)
        }));
    }
}

/// Parses the bytes that [`get_directory_entries`] returned; `.` and `..` are left out.
#[must_use]
pub fn directory_entries(filled: &[u8]) -> DirectoryEntries<'_> {
    DirectoryEntries { rest: filled }
}

impl<'a> Iterator for DirectoryEntries<'a> {
    type Item = DirectoryEntry<'a>;

    fn next(&mut self) -> Option<DirectoryEntry<'a>> {
        loop {
            let (entry, rest) = take(self.rest)?;
            self.rest = rest;
            if entry.name != c"." && entry.name != c".." {
                return Some(entry);
            }
        }
    }
}

/// The first `struct linux_dirent64`: inode (8 bytes), offset (8), length (2), kind (1), name.
fn take(bytes: &[u8]) -> Option<(DirectoryEntry<'_>, &[u8])> {
    let inode = u64::from_ne_bytes(*bytes.first_chunk()?);
    let next = i64::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    let length = u16::from_ne_bytes(*bytes.get(16..)?.first_chunk()?);
    let (record, rest) = bytes.split_at_checked(usize::from(length))?;
    let kind = *record.get(18)?;
    let name = CStr::from_bytes_until_nul(record.get(19..)?).ok()?;
    let entry = DirectoryEntry {
        inode,
        kind,
        next,
        name,
    };
    Some((entry, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::fd::AsFd;
    use std::os::unix::fs::DirEntryExt;

    #[test]
    fn entries_are_those_of_the_standard_library() {
        let directory = std::fs::File::open("/etc").expect("a directory");
        let mut found = BTreeMap::new();
        // Small, so that it takes more than one round.
        let mut buffer = [0; 600];
        loop {
            let length = get_directory_entries(directory.as_fd(), &mut buffer).expect("entries");
            if length == 0 {
                break;
            }
            for entry in directory_entries(&buffer[..length]) {
                found.insert(entry.name.to_string_lossy().into_owned(), entry.inode);
            }
        }
        let expected: BTreeMap<_, _> = std::fs::read_dir("/etc")
            .expect("a directory")
            .map(|entry| entry.expect("an entry"))
            .map(|entry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    entry.ino(),
                )
            })
            .collect();
        assert_eq!(found, expected);
        let again = std::fs::File::open("/etc").expect("a directory");
        let mut listed = list_directory(again.as_fd()).expect("entries");
        listed.sort_by(|one, other| one.1.cmp(&other.1));
        let names: Vec<_> = listed
            .iter()
            .map(|(_, name)| name.to_string_lossy())
            .collect();
        assert_eq!(names, expected.keys().cloned().collect::<Vec<_>>());
    }

    #[test]
    fn a_torn_buffer_ends() {
        let mut record = [0_u8; 24];
        record[16] = 24;
        record[18] = libc::DT_DIR;
        record[19] = b'd';
        fn names(bytes: &[u8]) -> Vec<&CStr> {
            directory_entries(bytes).map(|entry| entry.name).collect()
        }
        assert_eq!(names(&record), [c"d"]);
        assert!(names(&record[..23]).is_empty());
        record[16] = 3;
        assert!(names(&record).is_empty());
        assert!(names(&[0; 24]).is_empty());
    }
}
