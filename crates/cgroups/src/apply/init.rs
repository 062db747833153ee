//! The container side: joining the cgroups whose files the runtime has opened.

use std::os::fd::OwnedFd;

use coracle_sys::{Call, Fault};

/// Joins the cgroups of `tasks` by itself, the step being the index.
///
/// A single-threaded process that writes `0` to `tasks` moves at once; a pid in `cgroup.procs`
/// waits some 10 ms for the kernel's grace period. Allocates nothing.
///
/// # Errors
/// The write's, with the index as step; [`crate::Record::explain`] makes the sentence.
pub fn join(tasks: &[OwnedFd]) -> Result<(), Fault> {
    for (step, file) in (0..).zip(tasks) {
        nix::unistd::write(file, b"0").map_err(Call::Write.at(step))?;
    }
    Ok(())
}
