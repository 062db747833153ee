//! Binds the container's terminal on /dev/console.

use super::inherited::Inherited;
use super::source::{self, Failure};
use super::target;
use crate::plan::explain::Check;
use crate::plan::{Plan, Step};
use coracle_sys::{Call, Cause, DEVPTS_MAGIC, Fault, OpenTreeFlags, file_system_magic, move_mount};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::os::fd::{AsFd, BorrowedFd};

/// Binds the pty's `slave` on /dev/console, by descriptors and not by paths. For init, between
/// [`pivot`] and [`finish`]. Does nothing if the plan has no terminal. Does not allocate.
///
/// [`pivot`]: crate::pivot
/// [`finish`]: crate::finish
///
/// # Errors
/// The image's /dev/console is neither a file nor a character device; or a call failed.
pub fn console(plan: &Plan, inherited: &mut Inherited, slave: BorrowedFd<'_>) -> Result<(), Fault> {
    for (number, step) in plan.phase(plan.ends.pivot, plan.ends.console) {
        if matches!(step, Step::Console) {
            bind(inherited, slave).map_err(Cause::at(number))?;
            coracle_sys::note_step(number);
        }
    }
    Ok(())
}

/// An image may have made /dev/console a link into procfs (CVE-2025-52565). So /dev is resolved in
/// the root, and `console` in it is not followed.
fn bind(inherited: &Inherited, slave: BorrowedFd<'_>) -> Result<(), Failure> {
    let magic = file_system_magic(slave).map_err(Call::Statfs.failed())?;
    if magic != DEVPTS_MAGIC {
        return Err(Check::NotTerminal.into());
    }
    let directory = target::directory(inherited.root()?, c"/dev")?;
    let place = match target::inode(directory.as_fd(), c"console") {
        Ok(place) => {
            let stat = fstat(&place).map_err(Call::Stat.failed())?;
            if !source::is(&stat, SFlag::S_IFREG) && !source::is(&stat, SFlag::S_IFCHR) {
                return Err(Check::NotConsole.into());
            }
            place
        }
        Err(Errno::ENOENT) => {
            let make = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let made = openat(
                &directory,
                c"console",
                make,
                Mode::from_bits_truncate(0o600),
            );
            made.map_err(Call::Open.failed())?
        }
        Err(errno) => return Err(Cause::Call(Call::Open, errno)),
    };
    let tree = source::clone_mount(slave, OpenTreeFlags::empty())?;
    move_mount(tree.as_fd(), place.as_fd(), c"").map_err(Call::MoveMount.failed())?;
    let again = target::inode(directory.as_fd(), c"console");
    target::same_mount(again.map_err(Call::Open.failed())?.as_fd(), tree.as_fd())
}
