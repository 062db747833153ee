//! The last steps: finds the program as execvp(3) does, without the heap, and executes it.

use super::home::Home;
use crate::plan::explain::Check;
use crate::plan::steps::{Plan, Program, Section};
use crate::plan::working_directory::PATH_MAX;
use coracle_sys::{AT_FDCWD, Call, Cause, Fault, execve, execve_adding};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use nix::unistd::{AccessFlags, faccessat};
use std::ffi::CStr;

/// A process that is ready for execve(2).
#[derive(Debug)]
pub struct Ready {
    /// The program's path, if it was looked up in PATH.
    pub(crate) program: Option<Found>,
    pub(crate) home: Option<Home>,
}

impl Ready {
    /// `HOME=…`, if the plan's environment lacks it.
    #[must_use]
    pub fn home(&self) -> Option<&CStr> {
        self.home.as_ref().and_then(Home::variable)
    }
}

/// Executes the program. Returns only if that fails.
///
/// # Errors
///
/// `ENOENT` of [`Call::Exec`] if the program exists but its interpreter does not; `ENOEXEC` also
/// for a script without `#!`, for which no shell is tried.
#[must_use]
pub fn exec(plan: &Plan, ready: &Ready) -> Fault {
    let step = plan.first(Section::Exec);
    let program = &plan.program;
    let path = match &ready.program {
        Some(found) => found.path(),
        None if program.is_path() => program.name(),
        // The config has no `process`: such a container can be created, but not started.
        None => return Fault::new(step, Check::NoProgram),
    };
    let errno = match ready.home() {
        Some(home) => execve_adding(path, &program.args, &program.env, home),
        None => execve(path, &program.args, &program.env),
    };
    match errno {
        Errno::ENOENT if !exists(path) => Fault::new(step, missing(program)),
        errno => Fault::new(step, (Call::Exec, errno)),
    }
}

/// The path of a program found in a directory of PATH, on the stack.
#[derive(Debug)]
pub(crate) struct Found {
    /// The path, padded with zero bytes.
    bytes: [u8; PATH_MAX],
}

impl Found {
    /// Joins them as execvp(3) does: an empty entry is the working directory. `None` if the path is
    /// longer than PATH_MAX.
    fn new(directory: &[u8], name: &CStr) -> Option<Self> {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let name = name.to_bytes();
        let length = directory.len().saturating_add(name.len()).saturating_add(1);
        let mut bytes = [0; PATH_MAX];
        for (to, from) in bytes
            .iter_mut()
            .zip(directory.iter().chain(b"/").chain(name))
        {
            *to = *from;
        }
        (length < PATH_MAX).then_some(Self { bytes })
    }

    pub(crate) fn path(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// Finds the first file in PATH that the process's user may execute. `None` if `args[0]` is itself
/// a path, and that user may execute it.
///
/// Call it as that user, with its capabilities: root may be denied access where the user is not
/// (NFS with root squash).
pub(crate) fn find(program: &Program, step: usize) -> Result<Option<Found>, Fault> {
    let name = program.name();
    if program.is_path() {
        // There is only this file to try, so its error is the result.
        return check(name).map(|()| None).map_err(Cause::at(step));
    }
    let mut best = missing(program);
    for found in program
        .directories()
        .filter_map(|directory| Found::new(directory, name))
    {
        match check(found.path()) {
            Ok(()) => return Ok(Some(found)),
            // A file that exists but cannot be executed explains more than one that does not exist.
            Err(cause) if is_refusal(cause) => best = cause,
            Err(_) => {}
        }
    }
    Err(Fault::new(step, best))
}

/// The first file in PATH that exists and that the process's user may not execute.
pub(crate) fn refused_in_path(program: &Program) -> Option<Found> {
    let name = program.name();
    let mut all = program.directories();
    all.find_map(|directory| {
        let found = Found::new(directory, name)?;
        matches!(look(found.path()), Err(Cause::Call(Call::Access, _))).then_some(found)
    })
}

/// The cause of a failure if the program does not exist.
fn missing(program: &Program) -> Cause {
    match program.is_path() {
        true => Cause::Call(Call::Stat, Errno::ENOENT),
        false => Check::NotInPath.into(),
    }
}

fn is_refusal(cause: Cause) -> bool {
    matches!(cause, Cause::Call(_, Errno::EACCES)) || cause == Check::NotRegular.into()
}

/// Whether execve(2) would accept this file: a regular file that the caller may execute.
fn check(path: &CStr) -> Result<(), Cause> {
    match look(path) {
        // A seccomp filter denies these calls; execve(2) will report what is wrong.
        Err(Cause::Call(_, Errno::EPERM | Errno::ENOSYS)) => Ok(()),
        answer => answer,
    }
}

fn look(path: &CStr) -> Result<(), Cause> {
    let status = status(path).map_err(|errno| (Call::Stat, errno))?;
    match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => {}
        SFlag::S_IFDIR => return Err(Check::IsDirectory.into()),
        _ => return Err(Check::NotRegular.into()),
    }
    let access = faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS);
    Ok(access.map_err(|errno| (Call::Access, errno))?)
}

/// Whether the file exists.
fn exists(path: &CStr) -> bool {
    status(path).is_ok()
}

/// By newfstatat(2), which a seccomp profile then has to allow. Without a flag musl calls stat(2).
/// The flag changes nothing: neither call triggers an automount.
fn status(path: &CStr) -> nix::Result<FileStat> {
    fstatat(AT_FDCWD, path, AtFlags::AT_NO_AUTOMOUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn directory_and_name_are_joined() {
        let path = |directory: &[u8], name: &CStr| {
            let found = Found::new(directory, name);
            found.map(|found| found.path().to_owned())
        };
        assert_eq!(path(b"/bin", c"sh"), Some(c"/bin/sh".to_owned()));
        assert_eq!(path(b"", c"sh"), Some(c"./sh".to_owned()));
        let longest = path(&[b'a'; 4093], c"b").map(|path| path.count_bytes());
        assert_eq!(longest, Some(4095));
        let name = CString::new([b'b'; 4096]).expect("no NUL");
        assert_eq!([path(&[b'a'; 4094], c"b"), path(b"", &name)], [None, None]);
    }
}
