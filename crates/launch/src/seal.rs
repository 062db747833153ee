//! The runtime's own file cannot be written from a container.
//!
//! A process that enters a container can be reached there as /proc/PID/exe, and that link opened
//! for writing was CVE-2019-5736. So the verbs that clone first execute themselves again from a
//! file that nobody can write: a detached read-only mount of the same file, or, without the
//! privilege for that, a sealed copy in memory. The mount shares the page cache and costs two
//! calls; the copy costs the binary's size, so it is the second choice and made before any cgroup
//! is joined.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use coracle_sys::{Depth, MountAttributes, OpenTreeFlags, StringArray, mount_attribute};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::Error;

const OWN: &std::ffi::CStr = c"/proc/self/exe";

/// Returns when the process runs from a sealed file; else executes it once more from one, and does
/// not return.
///
/// Descriptors, arguments and environment stay as they are, so this comes before anything is
/// opened.
///
/// # Errors
/// [`Error::Seal`] when neither way works: the process must not go near a container then.
pub fn seal() -> Result<(), Error> {
    let own = open(OWN, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
        Error::Seal {
            call: "open",
            errno,
        }
    })?;
    if is_sealed(own.as_fd()).map_err(|errno| Error::Seal {
        call: "fstatvfs",
        errno,
    })? {
        // execveat(2) leaves the descriptor's number as the name of the process.
        let _ = coracle_sys::set_name(c"coracle");
        return Ok(());
    }
    let file = match read_only_mount() {
        Ok(mount) => mount,
        Err(_) => {
            coracle_sys::sealed_copy(c"coracle", own.as_fd()).map_err(|errno| Error::Seal {
                call: "memfd_create",
                errno,
            })?
        }
    };
    let arguments = strings(std::env::args_os());
    let environment = strings(std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        key
    }));
    let errno = coracle_sys::execveat(file.as_fd(), &arguments, &environment);
    Err(Error::Seal {
        call: "execveat",
        errno,
    })
}

/// A memfd with its seals, or a file on a mount that is read-only for everyone: nobody else's mount
/// namespace holds it, so nobody can remount it.
fn is_sealed(own: std::os::fd::BorrowedFd) -> nix::Result<bool> {
    Ok(fstatvfs(own)?.flags().contains(FsFlags::ST_RDONLY) || coracle_sys::is_sealed(own)?)
}

fn read_only_mount() -> Result<OwnedFd, Errno> {
    let tree = coracle_sys::open_tree(coracle_sys::AT_FDCWD, OWN, OpenTreeFlags::CLONE)?;
    let read_only = MountAttributes {
        set: mount_attribute::RDONLY,
        ..MountAttributes::default()
    };
    coracle_sys::mount_setattr(tree.as_fd(), &read_only, Depth::Single)?;
    Ok(tree)
}

fn strings(values: impl Iterator<Item = OsString>) -> StringArray {
    // What the kernel handed over at exec holds no NUL.
    StringArray::new(
        values
            .filter_map(|value| CString::new(value.into_vec()).ok())
            .collect(),
    )
}
