//! Extended attributes by descriptor: xattr(7). The calls refuse `O_PATH` descriptors.

use crate::Result;
use crate::kernel::{done, size};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `ssize_t flistxattr(int fd, char *list, size_t size)`, listxattr(2).
///
/// Fills `list` with the names, each followed by a NUL, and returns their total length. With an
/// empty `list` only the length is returned.
///
/// # Errors
///
/// The kernel's: `ERANGE` if the list is too small, `EOPNOTSUPP`.
pub fn listxattr(file: BorrowedFd<'_>, list: &mut [u8]) -> Result<usize> {
    // SAFETY: the file is open for the borrow; the kernel writes at most `len` bytes.
    size(unsafe {
        libc::syscall(
            libc::SYS_flistxattr,
            file.as_raw_fd(),
            list.as_mut_ptr(),
            list.len(),
        )
    })
}

/// `ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)`, getxattr(2).
///
/// Fills `value` and returns its length. With an empty `value` only the length is returned.
///
/// # Errors
///
/// The kernel's: `ENODATA` if there is no attribute of that name, `ERANGE` if the value is longer.
pub fn getxattr(file: BorrowedFd<'_>, name: &CStr, value: &mut [u8]) -> Result<usize> {
    // SAFETY: the file is open for the borrow, the name ends in NUL and is only read; the kernel
    // writes at most `len` bytes.
    size(unsafe {
        libc::syscall(
            libc::SYS_fgetxattr,
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr(),
            value.len(),
        )
    })
}

/// `int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)`,
/// setxattr(2): creates or replaces the attribute.
///
/// # Errors
///
/// The kernel's: `EPERM`, `EOPNOTSUPP`, `ENOSPC`.
pub fn setxattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: the file is open for the borrow, the name ends in NUL; the kernel reads `len` bytes
    // of the value.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsetxattr,
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_ptr(),
            value.len(),
            0,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::os::fd::AsFd;

    #[test]
    fn an_attribute_is_written_listed_and_read() {
        let path = std::env::temp_dir().join(format!("coracle-sys-xattr-{}", std::process::id()));
        let file = std::fs::File::create(&path).expect("a file");
        std::fs::remove_file(&path).expect("its name goes");
        match setxattr(file.as_fd(), c"user.coracle", b"value") {
            Err(Errno::EOPNOTSUPP) => return, // A tmpfs before Linux 6.6.
            answer => assert_eq!(answer, Ok(())),
        }
        let mut buffer = [0; 256];
        let length = listxattr(file.as_fd(), &mut buffer).expect("a list");
        let names: Vec<_> = buffer[..length]
            .split_inclusive(|byte| *byte == 0)
            .collect();
        assert!(names.contains(&&b"user.coracle\0"[..]));
        assert_eq!(getxattr(file.as_fd(), c"user.coracle", &mut []), Ok(5));
        assert_eq!(getxattr(file.as_fd(), c"user.coracle", &mut buffer), Ok(5));
        assert_eq!(&buffer[..5], b"value");
        let absent = getxattr(file.as_fd(), c"user.absent", &mut buffer);
        assert_eq!(absent, Err(Errno::ENODATA));
    }
}
