//! Resolving paths, and looking up what a descriptor refers to.

use crate::Result;
use crate::kernel::{done, size};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// procfs, `PROC_SUPER_MAGIC`. These constants are listed in statfs(2) and linux/magic.h.
pub const PROC_MAGIC: i64 = 0x9fa0;
/// devpts.
pub const DEVPTS_MAGIC: i64 = 0x1cd1;
/// A cgroup v1 hierarchy.
pub const CGROUP_MAGIC: i64 = 0x0027_e0eb;
/// The cgroup v2 hierarchy.
pub const CGROUP2_MAGIC: i64 = 0x6367_7270;
/// POSIX message queues.
pub const MQUEUE_MAGIC: i64 = 0x1980_0202;
/// Namespaces.
pub const NSFS_MAGIC: i64 = 0x6e73_6673;

/// A rename or mount anywhere on the machine can make a resolution fail with `EAGAIN`. A hostile
/// container could rename for ever, so the number of tries is bounded.
const TRIES: u32 = 128;

/// `int openat2(int dirfd, const char *path, struct open_how *how, size_t size)`, openat2(2),
/// since Linux 5.6, with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`.
///
/// Resolves `path` as if `root` were the root directory: absolute links and `..` stay within it,
/// even while directories are being renamed. `mode` is used only if `flags` create a file.
///
/// # Errors
///
/// The kernel's: `ELOOP` for a magic link on the way, `EAGAIN` after 128 disturbed tries.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: Mode,
) -> Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    open_beneath(root, path, flags, mode, resolve)
}

/// `int openat2(int dirfd, const char *path, struct open_how *how, size_t size)`, openat2(2), since
/// Linux 5.6, with the `RESOLVE_…` flags in `resolve`.
///
/// Despite the name, the function adds no flag: pass `RESOLVE_BENEATH` to stay below `dir`. `mode`
/// is used only if `flags` create a file.
///
/// # Errors
///
/// The kernel's: `EXDEV` for a path that leaves the directory or the mount, `ELOOP` for a link
/// that `resolve` forbids, `EAGAIN` after 128 disturbed tries.
pub fn open_beneath(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: Mode,
    resolve: ResolveFlag,
) -> Result<OwnedFd> {
    // openat2 refuses a mode that would not be used; openat ignores it.
    let creates = flags.intersects(OFlag::O_CREAT | (OFlag::O_TMPFILE - OFlag::O_DIRECTORY));
    let mode = if creates { mode } else { Mode::empty() };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(resolve);
    let mut tries = TRIES;
    loop {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) if tries > 1 => tries -= 1,
            answer => return answer,
        }
    }
}

/// `int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *buf)`,
/// statx(2) with `STATX_MNT_ID`, since Linux 5.8.
///
/// Returns the id of the mount that the file was opened through, as in mountinfo. The kernel may
/// reuse the id after the mount is gone.
///
/// # Errors
///
/// The kernel's; `ENOSYS` if the kernel does not return the id.
pub fn mount_id(file: BorrowedFd<'_>) -> Result<u64> {
    // SAFETY: `statx` consists of plain numbers: all zeroes is a value.
    let mut buffer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the file is open for the borrow, the path is an empty C string, and the kernel writes
    // at most one `statx` into a whole one.
    done(unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_MNT_ID,
            &raw mut buffer,
        )
    })?;
    if buffer.stx_mask & libc::STATX_MNT_ID == 0 {
        return Err(Errno::ENOSYS);
    }
    Ok(buffer.stx_mnt_id)
}

/// What [`inode_at`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InodeKind {
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// The number of a device node, as `st_rdev`; 0 for other files.
    pub device: u64,
}

/// `int statx(AT_FDCWD, const char *path, int flags, STATX_TYPE | STATX_MODE, struct statx *buf)`,
/// statx(2), since Linux 4.11.
///
/// Returns what is at `path`. With `O_NOFOLLOW` in `flags` a link at the end is not followed.
/// Unlike stat(2) it triggers an automount there.
///
/// # Errors
///
/// The kernel's.
pub fn inode_at(path: &CStr, flags: OFlag) -> Result<InodeKind> {
    // SAFETY: `statx` consists of plain numbers: all zeroes is a value.
    let mut buffer: libc::statx = unsafe { std::mem::zeroed() };
    let follow = match flags.contains(OFlag::O_NOFOLLOW) {
        true => libc::AT_SYMLINK_NOFOLLOW,
        false => 0,
    };
    // SAFETY: the path ends in NUL and is only read, and the kernel writes at most one `statx` into
    // a whole one.
    done(unsafe {
        libc::syscall(
            libc::SYS_statx,
            libc::AT_FDCWD,
            path.as_ptr(),
            follow,
            libc::STATX_TYPE | libc::STATX_MODE,
            &raw mut buffer,
        )
    })?;
    Ok(InodeKind {
        mode: u32::from(buffer.stx_mode),
        device: libc::makedev(buffer.stx_rdev_major, buffer.stx_rdev_minor),
    })
}

/// `int fstatfs(int fd, struct statfs *buf)`, statfs(2): the file system's type, as in
/// [`PROC_MAGIC`].
///
/// # Errors
///
/// The kernel's.
#[allow(
    clippy::useless_conversion,
    reason = "the C libraries give the number different types"
)]
pub fn file_system_magic(file: BorrowedFd<'_>) -> Result<i64> {
    let magic = nix::sys::statfs::fstatfs(file)?.filesystem_type().0;
    i64::try_from(magic).map_err(|_| Errno::EOVERFLOW)
}

/// `int fstatvfs(int fd, struct statvfs *buf)`, fstatvfs(3): the flags of the mount, `ST_RDONLY`
/// and so on, including those that the C library has no name for.
///
/// # Errors
///
/// The kernel's.
pub fn mount_flags(file: BorrowedFd<'_>) -> Result<u64> {
    let mut buffer = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the file is open for the borrow, and one whole `statvfs` is written or nothing.
    let answer = unsafe { libc::fstatvfs(file.as_raw_fd(), buffer.as_mut_ptr()) };
    done(answer.into())?;
    // SAFETY: the structure is plain numbers, for which zeroes are values, too.
    Ok(unsafe { buffer.assume_init() }.f_flag)
}

/// `int renameat2(int olddirfd, const char *old, int newdirfd, const char *new, RENAME_NOREPLACE)`,
/// rename(2), since Linux 3.15. (What nix has for it is for some C libraries only.)
///
/// # Errors
///
/// The kernel's: `EEXIST` if there is something of the new name.
pub fn rename_no_replace(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new: &CStr,
) -> Result<()> {
    // SAFETY: both descriptors are open for the borrow, and both names end in NUL and are only
    // read.
    done(unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from.as_raw_fd(),
            name.as_ptr(),
            to.as_raw_fd(),
            new.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    })
}

/// `ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t size)`, readlink(2).
///
/// Fills the buffer with the target of the symbolic link that `link` is open on (`O_PATH |
/// O_NOFOLLOW`), without a NUL and cut to the buffer's length, and returns the number of bytes.
///
/// # Errors
///
/// The kernel's: `ENOENT` if it is no symbolic link.
pub fn read_link(link: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the link is open for the borrow, the path is an empty C string, and the kernel writes
    // at most `len` bytes into the buffer, no NUL.
    size(unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            link.as_raw_fd(),
            c"".as_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })
}

/// `long getcwd(char *buf, unsigned long size)`, getcwd(2), as the kernel returns it: the path of a
/// working directory that is not below the root begins with `(unreachable)`, which the C library
/// reports as an error.
///
/// # Errors
///
/// `ENOENT` for a directory that was removed, `ERANGE` if the buffer is too small.
pub fn getcwd(buffer: &mut [u8]) -> Result<&[u8]> {
    // SAFETY: the kernel writes at most `len` bytes into the buffer, a NUL last.
    let length =
        size(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    buffer.get(..length.saturating_sub(1)).ok_or(Errno::ERANGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn open(path: &str) -> OwnedFd {
        File::open(path)
            .expect("a directory of every machine")
            .into()
    }

    #[test]
    fn a_root_is_not_left() {
        let root = open("/proc/self");
        let flags = OFlag::O_PATH;
        let up = open_in_root(root.as_fd(), c"../../..", flags, Mode::empty()).expect("the root");
        let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).map(|s| s.st_ino);
        assert_eq!(inode(&up), inode(&root));
        let magic = open_in_root(root.as_fd(), c"root/etc", flags, Mode::empty());
        assert_eq!(magic.map(drop), Err(Errno::ELOOP));
    }

    #[test]
    fn a_mode_without_creation_is_no_error() {
        let root = open("/");
        let mode = Mode::from_bits_truncate(0o755);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        assert!(open_in_root(root.as_fd(), c".", flags, mode).is_ok());
    }

    #[test]
    fn beneath_and_mount_borders_are_the_callers_wish() {
        let root = open("/");
        let try_open = |path, resolve| {
            open_beneath(root.as_fd(), path, OFlag::O_PATH, Mode::empty(), resolve).map(drop)
        };
        assert_eq!(
            try_open(c"..", ResolveFlag::RESOLVE_BENEATH),
            Err(Errno::EXDEV)
        );
        assert_eq!(
            try_open(c"proc/self", ResolveFlag::RESOLVE_NO_XDEV),
            Err(Errno::EXDEV)
        );
        assert_eq!(try_open(c"proc/version", ResolveFlag::empty()), Ok(()));
    }

    #[test]
    fn the_working_directory_has_no_nul() {
        let mut buffer = [0; 4096];
        let expected = std::env::current_dir().expect("a working directory");
        let path = getcwd(&mut buffer).map(<[u8]>::to_vec);
        assert_eq!(path, Ok(expected.into_os_string().into_encoded_bytes()));
        assert_eq!(getcwd(&mut [0; 1]), Err(Errno::ERANGE));
    }

    #[test]
    fn links_and_the_working_directory_read_as_procfs_has_them() {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let how = ResolveFlag::empty();
        let link = open_beneath(
            crate::AT_FDCWD,
            c"/proc/self/cwd",
            flags,
            Mode::empty(),
            how,
        );
        let link = link.expect("a link");
        let (mut left, mut right) = ([0; 4096], [0; 4096]);
        let length = read_link(link.as_fd(), &mut left).expect("a target");
        assert_eq!(getcwd(&mut right), Ok(&left[..length]));
        assert_eq!(read_link(link.as_fd(), &mut left[..1]), Ok(1));
        assert_eq!(getcwd(&mut right[..1]), Err(Errno::ERANGE));
        assert_eq!(read_link(open("/").as_fd(), &mut left), Err(Errno::ENOENT));
    }

    #[test]
    fn inodes_are_those_of_stat() {
        for path in [c"/dev/null", c"/proc/self", c"/"] {
            let found = inode_at(path, OFlag::empty()).expect("an inode");
            let stat = nix::sys::stat::stat(path).expect("an inode");
            assert_eq!((found.mode, found.device), (stat.st_mode, stat.st_rdev));
        }
        let link = inode_at(c"/proc/self", OFlag::O_NOFOLLOW).expect("a link");
        assert_eq!(link.mode & libc::S_IFMT, libc::S_IFLNK);
        let answer = inode_at(c"/no/such/file", OFlag::empty());
        assert_eq!(answer, Err(Errno::ENOENT));
    }

    #[test]
    fn magics_and_mount_numbers() {
        let proc = open("/proc");
        assert_eq!(file_system_magic(proc.as_fd()), Ok(PROC_MAGIC));
        let namespace = open("/proc/self/ns/mnt");
        assert_eq!(file_system_magic(namespace.as_fd()), Ok(NSFS_MAGIC));
        let id = mount_id(proc.as_fd()).expect("a mount number");
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
        assert!(
            table
                .lines()
                .any(|line| line.starts_with(&format!("{id} "))),
            "{id}"
        );
    }
}
