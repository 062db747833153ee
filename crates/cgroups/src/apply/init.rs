//! Init's part: joining the cgroups whose files the runtime has opened.

use std::os::fd::OwnedFd;

use coracle_sys::{Call, Fault};

/// Moves the calling process into the cgroups of `tasks`. The step is the index.
///
/// A single-threaded process that writes `0` to `tasks` is moved at once; writing a pid to
/// `cgroup.procs` takes some 10 ms, the kernel's grace period. Does not allocate.
///
/// # Errors
/// That of the write, with the index as step; [`crate::Record::explain`] makes the message.
pub fn join(tasks: &[OwnedFd]) -> Result<(), Fault> {
    for (step, file) in (0..).zip(tasks) {
        nix::unistd::write(file, b"0").map_err(Call::Write.at(step))?;
    }
    Ok(())
}
