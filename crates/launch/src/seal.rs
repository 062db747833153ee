//! The seal: the runtime executes from a file that no container can write.
//!
//! A process inside a container can open the binary of a runtime process there through
//! /proc/PID/exe and overwrite it on the host (CVE-2019-5736). Verbs that clone therefore first
//! execute themselves again from a file that nobody can write: a detached read-only mount of the
//! same file or, without the privilege for that, a sealed copy in memory (memfd_create(2)). The
//! mount costs two calls and shares the page cache. The copy costs the binary's size in memory, so
//! it is only the fallback, and is made before any cgroup is joined, which would be charged for it.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use coracle_sys::{Depth, MountAttributes, OpenTreeFlags, StringArray, mount_attribute};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::error::Error;

const OWN: &CStr = c"/proc/self/exe";

/// The name that [`seal`] gives the process, as `/proc/PID/comm` shows it. What the runtime clones
/// has it until it executes a program.
pub const NAME: &CStr = c"coracle";

/// Returns if the process runs from a sealed file; otherwise executes the program again from one.
///
/// Descriptors, arguments and environment stay as they are. Call it before any file is opened.
///
/// # Errors
/// [`Error::Seal`] when neither way works: the process must not enter a container then.
pub fn seal() -> Result<(), Error> {
    let file = match is_on_read_only_mount()? {
        true => None,
        false => match read_only_mount() {
            Ok(mount) => Some(mount),
            Err(_) => copy_unless_sealed()?,
        },
    };
    let Some(file) = file else {
        // After execveat(2) the process is named after the descriptor's number.
        let _ = prctl::set_name(NAME);
        return Ok(());
    };
    let arguments = coracle_sys::arguments().map(CStr::to_owned).collect();
    let environment = strings(std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        key
    }));
    let errno = coracle_sys::execveat(file.as_fd(), &arguments, &environment);
    Err(failed("execveat")(errno))
}

/// Whether the runtime's own file is protected as it is, so that [`seal`] has nothing to do.
///
/// # Errors
/// [`Error::Seal`] when the file cannot be looked at.
pub fn is_protected() -> Result<bool, Error> {
    Ok(is_on_read_only_mount()? || is_sealed(own_file()?.as_fd())?)
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Seal { call, errno }
}

/// Whether the runtime's own file is on a read-only mount. The detached mount is in no mount
/// namespace, so nobody can remount it writable.
fn is_on_read_only_mount() -> Result<bool, Error> {
    let mount = statvfs(OWN).map_err(failed("statvfs"))?;
    Ok(mount.flags().contains(FsFlags::ST_RDONLY))
}

/// A sealed copy in memory, or `None` if the runtime is executed from one already.
fn copy_unless_sealed() -> Result<Option<OwnedFd>, Error> {
    let own = own_file()?;
    if is_sealed(own.as_fd())? {
        return Ok(None);
    }
    let copy = coracle_sys::sealed_copy(NAME, own.as_fd());
    copy.map(Some).map_err(failed("memfd_create"))
}

fn own_file() -> Result<OwnedFd, Error> {
    coracle_sys::open(OWN, OFlag::O_RDONLY).map_err(failed("open"))
}

fn is_sealed(own: BorrowedFd) -> Result<bool, Error> {
    coracle_sys::is_sealed(own).map_err(failed("fcntl"))
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
    // Arguments and environment came from execve(2) and hold no NUL byte: nothing is left out.
    StringArray::new(
        values
            .filter_map(|value| CString::new(value.into_vec()).ok())
            .collect(),
    )
}
