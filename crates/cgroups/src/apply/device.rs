//! Attaching the device program to a v2 cgroup.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use coracle_sys::{
    bpf_attach_device, bpf_detach_device, bpf_load_device_program, bpf_program_by_id,
    bpf_query_device,
};
use nix::errno::Errno;

use super::v1::Age;
use crate::plan::{Program, Refused};
use crate::{Error, Result};

/// The kernel's limit on programs for one cgroup.
const PROGRAMS_MAX: usize = 64;

/// Loads the program and attaches it; on a cgroup that was there, in place of what was attached.
pub(super) fn attach(cgroup: BorrowedFd, path: &Path, program: &Program, age: Age) -> Result<()> {
    match load_and_attach(cgroup, program, age) {
        Ok(()) => Ok(()),
        Err((_, Errno::EPERM)) if program.refused == Refused::Skip => Ok(()),
        Err((call, errno)) => Err(Error::Devices {
            call,
            path: path.to_owned(),
            errno,
        }),
    }
}

type Step<T> = std::result::Result<T, (&'static str, Errno)>;

fn load_and_attach(cgroup: BorrowedFd, program: &Program, age: Age) -> Step<()> {
    let at = |call: &'static str| move |errno: Errno| (call, errno);
    let loaded = bpf_load_device_program(&program.instructions).map_err(at("load program"))?;
    let mut ids = [0; PROGRAMS_MAX];
    let count = match age {
        Age::New => 0,
        Age::Old => bpf_query_device(cgroup, &mut ids).map_err(at("query programs"))?,
    };
    let mut old = Vec::with_capacity(count);
    for id in ids.iter().take(count) {
        match bpf_program_by_id(*id) {
            Ok(program) => old.push(program),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(("open program", errno)),
        }
    }
    // One goes in the same instant; others, which only an accident of an earlier life leaves, after
    // ours is in force, so that there is never a moment without a filter.
    let replaced = old.first().map(AsFd::as_fd);
    bpf_attach_device(cgroup, loaded.as_fd(), replaced).map_err(at("attach program"))?;
    for extra in old.iter().skip(1) {
        match bpf_detach_device(cgroup, extra.as_fd()) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(("detach program", errno)),
        }
    }
    Ok(())
}
