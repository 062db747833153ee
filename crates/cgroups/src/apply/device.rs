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

/// The kernel's limit on programs attached to one cgroup.
const PROGRAMS_MAX: usize = 64;

/// The name of coracle's programs, in every release. It distinguishes them from other programs on
/// the same cgroup.
const NAME: &CStr = c"coracle_devices";

/// Loads the program and attaches it; on an existing cgroup it replaces an earlier one of
/// coracle's. Other programs stay attached: an access needs the consent of all.
pub(super) fn attach(cgroup: BorrowedFd, path: &Path, program: &Program, age: Age) -> Result<()> {
    match load_and_attach(cgroup, program, age) {
        Ok(()) => Ok(()),
        Err((_, Errno::EPERM)) if program.refused == Refused::Skip => Ok(()),
        Err((call, errno)) => Err(failed(path, call, errno)),
    }
}

/// The programs that an update has exchanged.
#[derive(Debug)]
pub(super) struct Swapped {
    old: Option<OwnedFd>,
    new: Option<OwnedFd>,
}

/// Replaces coracle's program `old`, if any, by `new`.
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
        // If `create` had no right to attach a program, there is none.
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

/// Undoes [`swap`].
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
    // The kernel replaces one old program atomically. A crash can leave more; they are detached
    // once the new one is in force, so that there is always a filter.
    put(cgroup, old.pop().as_ref(), Some(&loaded))?;
    for extra in &old {
        put(cgroup, Some(extra), None)?;
    }
    Ok(())
}

fn load(program: &Program) -> Step<OwnedFd> {
    bpf_load_device_program(NAME, &program.instructions).map_err(|errno| ("load program", errno))
}

/// Replaces `old` by `new`, or only attaches or detaches.
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

/// Coracle's programs among those attached to this cgroup itself.
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
