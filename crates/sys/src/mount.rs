//! The system calls that mount by descriptor, not by path.

use crate::Result;
use crate::kernel::{done, new_descriptor};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

bitflags::bitflags! {
    /// Flags of [`open_tree`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OpenTreeFlags: u32 {
        /// `OPEN_TREE_CLONE`: a detached copy instead of the mount itself.
        const CLONE = 0x1;
        /// `AT_SYMLINK_NOFOLLOW`: a symbolic link at the end of the path is not followed.
        const NOFOLLOW = 0x100;
        /// `AT_EMPTY_PATH`: the path is empty; the call works on `dir` itself.
        const EMPTY_PATH = 0x1000;
        /// `AT_RECURSIVE`: with all mounts below it.
        const RECURSIVE = 0x8000;
    }
}

/// The bits of `struct mount_attr` and of [`fsmount`]: linux/mount.h.
pub mod mount_attribute {
    /// `MOUNT_ATTR_RDONLY`.
    pub const RDONLY: u64 = 0x1;
    /// `MOUNT_ATTR_NOSUID`.
    pub const NOSUID: u64 = 0x2;
    /// `MOUNT_ATTR_NODEV`.
    pub const NODEV: u64 = 0x4;
    /// `MOUNT_ATTR_NOEXEC`.
    pub const NOEXEC: u64 = 0x8;
    /// `MOUNT_ATTR__ATIME`: a field of several bits. Clear it whenever one of its values is set.
    pub const ATIME_MASK: u64 = 0x70;
    /// `MOUNT_ATTR_RELATIME`: the value zero of [`ATIME_MASK`].
    pub const RELATIME: u64 = 0x0;
    /// `MOUNT_ATTR_NOATIME`: a value of [`ATIME_MASK`].
    pub const NOATIME: u64 = 0x10;
    /// `MOUNT_ATTR_STRICTATIME`: a value of [`ATIME_MASK`].
    pub const STRICTATIME: u64 = 0x20;
    /// `MOUNT_ATTR_NODIRATIME`.
    pub const NODIRATIME: u64 = 0x80;
    /// `MOUNT_ATTR_IDMAP`: since Linux 5.12, needs a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// `MOUNT_ATTR_NOSYMFOLLOW`: since Linux 5.14.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;

    /// Each attribute that is a single bit, with its `MS_*` of mount(2) and `ST_*` of statfs(2).
    /// libc has neither `MS_NOSYMFOLLOW` nor `ST_NOSYMFOLLOW`; they are in linux/mount.h and
    /// linux/statfs.h since Linux 5.10.
    pub const FLAGS: [(u64, u64, u64); 6] = [
        (RDONLY, libc::MS_RDONLY, libc::ST_RDONLY),
        (NOSUID, libc::MS_NOSUID, libc::ST_NOSUID),
        (NODEV, libc::MS_NODEV, libc::ST_NODEV),
        (NOEXEC, libc::MS_NOEXEC, libc::ST_NOEXEC),
        (NODIRATIME, libc::MS_NODIRATIME, libc::ST_NODIRATIME),
        (NOSYMFOLLOW, 0x100, 0x2000),
    ];
}

/// What mount(2) takes of its data, with the final NUL: one page. It cuts a longer text silently.
pub const MOUNT_DATA_BYTES: usize = 4096;

/// What [`mount_setattr`] changes; the default changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttributes<'a> {
    /// Bits of [`mount_attribute`] to set.
    pub set: u64,
    /// Bits of [`mount_attribute`] to clear; cleared first.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave it unchanged.
    pub propagation: u64,
    /// The user namespace whose id maps the mount gets; requires [`mount_attribute::IDMAP`].
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// Whether a call also applies to the mounts below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The mount only.
    Single,
    /// The mount and all mounts below it; if one cannot be changed, none is.
    Recursive,
}

/// `struct mount_attr` of linux/mount.h (`MOUNT_ATTR_SIZE_VER0`).
#[repr(C)]
struct KernelMountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const FSOPEN_CLOEXEC: u32 = 0x1;
const FSMOUNT_CLOEXEC: u32 = 0x1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

/// `int open_tree(int dirfd, const char *path, unsigned int flags)`, open_tree(2), since Linux 5.2.
///
/// Without [`OpenTreeFlags::CLONE`] the result is an `O_PATH` descriptor. A symbolic link at the
/// end is followed unless [`OpenTreeFlags::NOFOLLOW`] is given; a clone of a descriptor that is
/// already open triggers no automount.
///
/// # Errors
///
/// The kernel's: `EPERM`, `EINVAL` if the mount is not in the caller's mount namespace.
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, flags: OpenTreeFlags) -> Result<OwnedFd> {
    let flags = flags.bits() | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: `dir` is open for the borrow (or AT_FDCWD), `path` ends in NUL and is only read.
    let answer =
        unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) };
    // SAFETY: the call makes a new descriptor for its caller.
    unsafe { new_descriptor(answer) }
}

/// `int move_mount(int from_dirfd, const char *from_path, int to_dirfd, const char *to_path,
/// unsigned int flags)`, move_mount(2), since Linux 5.2.
///
/// Attaches `mount` at `path`, relative to `dir`; with an empty path, on `dir` itself. A symbolic
/// link at the end is not followed.
///
/// # Errors
///
/// The kernel's: `ENOTDIR` for a directory on a file or the reverse, `EINVAL` below a shared mount.
pub fn move_mount(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    let target = if path.is_empty() {
        MOVE_MOUNT_T_EMPTY_PATH
    } else {
        0
    };
    // SAFETY: both descriptors are open for the borrow, both paths end in NUL and are only read.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            dir.as_raw_fd(),
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | target,
        )
    })
}

/// `int fsopen(const char *fsname, unsigned int flags)`, fsopen(2), since Linux 5.2.
///
/// # Errors
///
/// The kernel's: `ENODEV` for an unknown file system, `EPERM`.
pub fn fsopen(file_system: &CStr) -> Result<OwnedFd> {
    // SAFETY: the name ends in NUL and is only read.
    let answer = unsafe { libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), FSOPEN_CLOEXEC) };
    // SAFETY: the call makes a new descriptor for its caller.
    unsafe { new_descriptor(answer) }
}

/// `int fsconfig(int fd, FSCONFIG_SET_STRING, const char *key, const char *value, 0)`,
/// fsconfig(2), since Linux 5.2.
///
/// # Errors
///
/// The kernel's: `EINVAL` for a key or value that the file system refuses, and for values of
/// more than 255 bytes.
pub fn fsconfig_string(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<()> {
    fsconfig(context, FSCONFIG_SET_STRING, Some(key), Some(value))
}

/// `int fsconfig(int fd, FSCONFIG_SET_FLAG, const char *key, NULL, 0)`, fsconfig(2), since
/// Linux 5.2.
///
/// # Errors
///
/// The kernel's: `EINVAL` for a key that the file system refuses.
pub fn fsconfig_flag(context: BorrowedFd<'_>, key: &CStr) -> Result<()> {
    fsconfig(context, FSCONFIG_SET_FLAG, Some(key), None)
}

/// `int fsconfig(int fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0)`, fsconfig(2), since Linux 5.2.
///
/// # Errors
///
/// The file system's, if it refuses the combination of options or cannot be mounted.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> Result<()> {
    fsconfig(context, FSCONFIG_CMD_CREATE, None, None)
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: u32,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> Result<()> {
    let text = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the context is open for the borrow, key and value end in NUL and are only read; the
    // kernel refuses a null where the command needs a text, and a text where it must be null.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            text(key),
            text(value),
            0,
        )
    })
}

/// `int fsmount(int fd, unsigned int flags, unsigned int attr_flags)`, fsmount(2), since Linux 5.2.
///
/// Returns a detached mount: it disappears when the descriptor is closed, unless it was attached.
///
/// # Errors
///
/// The kernel's: `EPERM` for procfs and sysfs in a user namespace that sees no fully visible one;
/// `EINVAL` for a bad combination of attributes.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    // SAFETY: takes three numbers; the context is open for the borrow.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes,
        )
    };
    // SAFETY: the call makes a new descriptor for its caller.
    unsafe { new_descriptor(answer) }
}

/// `int mount_setattr(int dirfd, const char *path, unsigned int flags, struct mount_attr *attr,
/// size_t size)`, mount_setattr(2), since Linux 5.12.
///
/// Changes the mount that `mount` is open on.
///
/// # Errors
///
/// The kernel's: `EPERM` for clearing a flag that a more privileged namespace locked, `EINVAL` for
/// a bad combination of attributes or a mount that cannot be id-mapped.
pub fn mount_setattr(
    mount: BorrowedFd<'_>,
    attributes: &MountAttributes<'_>,
    depth: Depth,
) -> Result<()> {
    let flags = match depth {
        Depth::Single => libc::AT_EMPTY_PATH,
        Depth::Recursive => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    };
    let user_namespace = attributes.user_namespace.map_or(0, |fd| fd.as_raw_fd());
    let attributes = KernelMountAttributes {
        set: attributes.set,
        clear: attributes.clear,
        propagation: attributes.propagation,
        user_namespace: u64::from(user_namespace.cast_unsigned()),
    };
    // SAFETY: the mount is open for the borrow, the path is an empty C string, and `attributes` is
    // a whole `mount_attr` of the size passed along, only read during the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<KernelMountAttributes>(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn attributes_have_the_kernels_size() {
        assert_eq!(size_of::<KernelMountAttributes>(), 32);
    }

    #[test]
    fn flags_are_the_kernels() {
        assert_eq!(
            OpenTreeFlags::NOFOLLOW.bits(),
            libc::AT_SYMLINK_NOFOLLOW.cast_unsigned()
        );
        assert_eq!(
            OpenTreeFlags::EMPTY_PATH.bits(),
            libc::AT_EMPTY_PATH.cast_unsigned()
        );
        assert_eq!(
            OpenTreeFlags::RECURSIVE.bits(),
            libc::AT_RECURSIVE.cast_unsigned()
        );
    }

    #[test]
    fn an_unknown_file_system_is_named_so() {
        let answer = fsopen(c"no-such-file-system").map(drop);
        assert!(
            matches!(answer, Err(Errno::ENODEV | Errno::EPERM)),
            "{answer:?}"
        );
    }

    #[test]
    fn a_path_opens_close_on_exec_without_privileges() {
        let tree = open_tree(crate::AT_FDCWD, c"/", OpenTreeFlags::empty()).expect("the root");
        let flags = nix::fcntl::fcntl(&tree, nix::fcntl::FcntlArg::F_GETFD);
        assert_eq!(flags, Ok(libc::FD_CLOEXEC));
    }
}
