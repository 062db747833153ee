//! Looks for the reason of a failed execve(2): in init, after the failure, as the process's user.
//!
//! The file is the image's, and may be anything. Init reads it with no more rights than the program
//! would have had, so that a link or a device of the image leads to nothing that the program could
//! not have opened. Nothing here allocates.

use super::exec::{Ready, refused_in_path};
use crate::plan::examined::{self, Examined, HEAD, interpreter};
use crate::plan::steps::{Plan, Program};
use coracle_sys::{AT_FDCWD, Call, Cause, Fault, Remark};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{AccessFlags, faccessat, getegid, geteuid};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// What the errno of a failed lookup or execution of the program does not tell; empty if nothing
/// was found. `ready` has the program's path, once it was looked up.
#[must_use]
pub fn examine(plan: &Plan, ready: Option<&Ready>, fault: &Fault) -> Remark {
    let program = &plan.program;
    let path = match ready.and_then(|ready| ready.program.as_ref()) {
        Some(found) => found.path(),
        None if program.is_path() => program.name(),
        None => return in_path(program, fault).unwrap_or_default(),
    };
    match fault.cause {
        Cause::Call(Call::Access, Errno::EACCES) if plan.is_about_program(fault.step) => {
            refused(path)
        }
        Cause::Call(Call::Exec, errno) => match errno {
            Errno::EACCES => refused(path),
            Errno::ENOENT | Errno::ENOEXEC => contents(path, errno),
            _ => None,
        },
        _ => None,
    }
    .unwrap_or_default()
}

/// Which file of PATH was found and may not be executed, and why.
fn in_path(program: &Program, fault: &Fault) -> Option<Remark> {
    let Cause::Call(Call::Access, Errno::EACCES) = fault.cause else {
        return None;
    };
    let found = refused_in_path(program)?;
    let reason = refused(found.path()).unwrap_or_default();
    Some(examined::of_found(found.path(), &reason))
}

/// Why the file may not be executed: its mount, its mode, or its interpreter's.
fn refused(path: &CStr) -> Option<Remark> {
    let file = regular(path, OFlag::O_PATH)?;
    let mount = fstatvfs(&file).ok()?;
    if mount.flags().contains(FsFlags::ST_NOEXEC) {
        return Some(Examined::NoExec.remark());
    }
    if faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_err() {
        let status = fstat(&file).ok()?;
        let numbers = [
            status.st_mode & 0o7777,
            status.st_uid,
            status.st_gid,
            geteuid().as_raw(),
            getegid().as_raw(),
        ];
        return Some(Examined::Mode(numbers).remark());
    }
    let mut head = [0; HEAD];
    let head = read(path, &mut head)?;
    Some(Examined::Interpreter(interpreter(head)?, Errno::EACCES).remark())
}

/// What the file is, if not a program of this machine with all that it needs.
fn contents(path: &CStr, errno: Errno) -> Option<Remark> {
    let mut head = [0; HEAD];
    let head = read(path, &mut head)?;
    Some(match errno {
        Errno::ENOENT => Examined::Interpreter(interpreter(head)?, errno).remark(),
        _ => Examined::of(head)?.remark(),
    })
}

fn regular(path: &CStr, flags: OFlag) -> Option<OwnedFd> {
    let kind = fstatat(AT_FDCWD, path, AtFlags::AT_NO_AUTOMOUNT).ok()?;
    if SFlag::from_bits_truncate(kind.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return None;
    }
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    openat(AT_FDCWD, path, flags, Mode::empty()).ok()
}

/// The beginning of the file.
fn read<'a>(path: &CStr, head: &'a mut [u8; HEAD]) -> Option<&'a [u8]> {
    let file = regular(path, OFlag::O_RDONLY)?;
    let length = nix::unistd::read(&file, head).ok()?;
    head.get(..length)
}
