//! Attaching the device program to a v2 cgroup, and replacing it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::{
    bpf_attach_device, bpf_detach_device, bpf_is_named, bpf_load_device_program, bpf_program_by_id,
    bpf_query_device,
};
use nix::errno::Errno;

use super::directory::Age;
use crate::plan::{Program, Refused};
use crate::{Error, Result};

/// The kernel's limit on programs for one cgroup.
const PROGRAMS_MAX: usize = 64;

/// The name of our programs, by which they are known among those of others on the same cgroup: of
/// this release or another.
const NAME: &CStr = c"coracle_devices";

/// Loads the program and attaches it; on a cgroup that was there, in place of one of ours. Programs
/// of others stay: a device needs the consent of all.
pub(super) fn attach(cgroup: BorrowedFd, path: &Path, program: &Program, age: Age) -> Result<()> {
    match load_and_attach(cgroup, program, age) {
        Ok(()) => Ok(()),
        Err((_, Errno::EPERM)) if program.refused == Refused::Skip => Ok(()),
        Err((call, errno)) => Err(failed(path, call, errno)),
    }
}

/// What an update has put in the place of what.
#[derive(Debug)]
pub(super) struct Swapped {
    old: Option<OwnedFd>,
    new: Option<OwnedFd>,
}

/// Puts `new` in the place of our program of before; `old` is the one of before, if any.
pub(super) fn swap(
    cgroup: BorrowedFd,
    path: &Path,
    (old, new): (Option<&Program>, Option<&Program>),
) -> Result<Swapped> {
    let skip = [old, new]
        .into_iter()
        .flatten()
        .any(|program| program.refused == Refused::Skip);
    let at = |(call, errno)| failed(path, call, errno);
    let attached = match find_ours(cgroup) {
        Ok(mut found) => found.pop(),
        // Without the right to a filter at create there is none now.
        Err((_, Errno::EPERM)) if skip => {
            return Ok(Swapped {
                old: None,
                new: None,
            });
        }
        Err(error) => return Err(at(error)),
    };
    if attached.is_none() && old.is_some() && !skip {
        let path = path.to_owned();
        return Err(Error::Replaced { path });
    }
    let new = match new {
        None => None,
        Some(program) => Some(load(program).map_err(at)?),
    };
    let swapped = Swapped { old: attached, new };
    put(cgroup, swapped.old.as_ref(), swapped.new.as_ref()).map_err(at)?;
    Ok(swapped)
}

/// Puts back what [`swap`] replaced.
pub(super) fn swap_back(cgroup: BorrowedFd, path: &Path, swapped: &Swapped) -> Result<()> {
    put(cgroup, swapped.new.as_ref(), swapped.old.as_ref())
        .map_err(|(call, errno)| failed(path, call, errno))
}

fn failed(path: &Path, call: &'static str, errno: Errno) -> Error {
    Error::Devices {
        call,
        path: path.to_owned(),
        errno,
    }
}

type Step<T> = std::result::Result<T, (&'static str, Errno)>;

fn load_and_attach(cgroup: BorrowedFd, program: &Program, age: Age) -> Step<()> {
    let loaded = load(program)?;
    let mut old = match age {
        Age::New => Vec::new(),
        Age::Old => find_ours(cgroup)?,
    };
    // One old program is replaced by ours in one call. Others, which a crash can leave, are
    // detached once ours is in force, so that there is never a moment without a filter.
    put(cgroup, old.pop().as_ref(), Some(&loaded))?;
    for extra in &old {
        put(cgroup, Some(extra), None)?;
    }
    Ok(())
}

fn load(program: &Program) -> Step<OwnedFd> {
    bpf_load_device_program(NAME, &program.instructions).map_err(|errno| ("load program", errno))
}

/// Attaches `new` in the place of `old`, or does the one half that there is.
fn put(cgroup: BorrowedFd, old: Option<&OwnedFd>, new: Option<&OwnedFd>) -> Step<()> {
    match (old, new) {
        (old, Some(new)) => bpf_attach_device(cgroup, new.as_fd(), old.map(AsFd::as_fd))
            .map_err(|errno| ("attach program", errno)),
        (Some(old), None) => match bpf_detach_device(cgroup, old.as_fd()) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(("detach program", errno)),
        },
        (None, None) => Ok(()),
    }
}

/// Our programs among those that are attached to this very cgroup.
fn find_ours(cgroup: BorrowedFd) -> Step<Vec<OwnedFd>> {
    let mut ids = [0; PROGRAMS_MAX];
    let count = bpf_query_device(cgroup, &mut ids).map_err(|errno| ("query programs", errno))?;
    let mut ours = Vec::new();
    for id in ids.iter().take(count) {
        let program = match bpf_program_by_id(*id) {
            Ok(program) => program,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(("open program", errno)),
        };
        match bpf_is_named(program.as_fd(), NAME) {
            Ok(true) => ours.push(program),
            Ok(false) => {}
            Err(errno) => return Err(("look at program", errno)),
        }
    }
    Ok(ours)
}
