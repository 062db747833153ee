//! The last step: execve(2).

use super::confinement::Ready;
use super::lookup;
use crate::plan::explain::Check;
use crate::plan::steps::{Plan, Section};
use coracle_sys::{Call, Fault, execve, execve_adding};
use nix::errno::Errno;

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
        Errno::ENOENT if !lookup::exists(path) => Fault::new(step, lookup::missing(program)),
        errno => Fault::new(step, (Call::Exec, errno)),
    }
}
