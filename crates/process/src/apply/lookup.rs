//! Where the program is: execvp(3) without the heap and without the exec.

use crate::plan::environment::Program;
use coracle_sys::{AT_FDCWD, Call, Fault};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::{AccessFlags, faccessat};
use std::ffi::CStr;

/// The place among the candidates of the first that the process's user may execute.
///
/// Run as that user, with its capabilities: root may be denied where the user is not (NFS).
pub(crate) fn find(program: &Program, step: u32) -> Result<usize, Fault> {
    let mut best = Errno::ENOENT;
    for (place, path) in program.candidates.iter().enumerate() {
        match check(path) {
            Ok(()) => return Ok(place),
            // A path is what was asked for, so that its own trouble is the answer.
            Err(errno) if program.is_path() => return Err(Fault::new(step, Call::Access, errno)),
            // In PATH, a file that is there but cannot be run says more than one that is not.
            Err(Errno::EACCES) => best = Errno::EACCES,
            Err(_) => {}
        }
    }
    Err(Fault::new(step, Call::Access, best))
}

/// Whether execve(2) would take this file: `EISDIR` for a directory, `EACCES` for what is no
/// regular file or lacks the permission.
fn check(path: &CStr) -> nix::Result<()> {
    match look(path) {
        // No answer of these calls: a seccomp filter denies them, and execve(2) itself will tell.
        Err(Errno::EPERM | Errno::ENOSYS) => Ok(()),
        answer => answer,
    }
}

fn look(path: &CStr) -> nix::Result<()> {
    let status = fstatat(AT_FDCWD, path, AtFlags::empty())?;
    match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS),
        SFlag::S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EACCES),
    }
}

/// Whether the file is there at all.
pub(crate) fn exists(path: &CStr) -> bool {
    fstatat(AT_FDCWD, path, AtFlags::empty()).is_ok()
}
