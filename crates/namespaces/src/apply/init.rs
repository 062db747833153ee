//! What the intermediate and init do. Nothing here allocates.

use super::inherited::Inherited;
use crate::reason::Check;
use crate::{Plan, Step};
use coracle_sys::{Call, Cause, Fault, NamespaceFlags};
use nix::errno::Errno;
use nix::sys::prctl;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Carries out the intermediate's steps. It then clones init as a sibling, with `plan.final_clone`.
///
/// If `plan.first_clone` has a user namespace, its id maps must have been written.
///
/// # Errors
/// The step that failed.
pub fn before_clone(plan: &Plan, inherited: &Inherited) -> Result<(), Fault> {
    run(&plan.before, &inherited.before, inherited, 0)
}

/// Carries out init's steps. If `plan.final_clone` has a user namespace, its id maps must have been
/// written. For a new cgroup namespace init must already be in the cgroup that becomes its root.
///
/// # Errors
/// The step that failed.
pub fn enter(plan: &Plan, inherited: &Inherited) -> Result<(), Fault> {
    let first = plan.clone_step() + 1;
    run(&plan.enter, &inherited.enter, inherited, first)
}

fn run(
    steps: &[Step],
    held: &[Option<Rc<OwnedFd>>],
    inherited: &Inherited,
    first: usize,
) -> Result<(), Fault> {
    for ((step, held), number) in steps.iter().zip(held).zip(first..) {
        match (step, held) {
            (Step::Join(join), Some(fd)) => {
                coracle_sys::setns(fd.as_fd(), join.kind.flag()).map_err(Call::Setns.at(number))?;
            }
            (Step::JoinProcess(flags), Some(pidfd)) => {
                coracle_sys::setns(pidfd.as_fd(), *flags).map_err(Call::Setns.at(number))?;
            }
            // The kernel refuses to join the user namespace that the process is already in.
            (Step::Join(_) | Step::JoinProcess(_), None) => {}
            (Step::DropGroups, _) => {
                coracle_sys::setgroups(&[]).map_err(Call::Setgroups.at(number))?;
            }
            (Step::BecomeRoot, _) => {
                // EPERM: the namespace denies setgroups(2), so the groups cannot be changed.
                unless(coracle_sys::setgroups(&[]), Errno::EPERM)
                    .map_err(Call::Setgroups.at(number))?;
                become_root(number)?;
            }
            (Step::BecomeRootWithGroups, _) => become_root(number)?,
            (Step::Unshare(flags), _) => {
                coracle_sys::unshare(*flags).map_err(Call::Unshare.at(number))?;
            }
            (Step::TimeOffsets(lines), _) => write_offsets(inherited, lines, number)?,
            (Step::Loopback, _) => {
                coracle_sys::loopback_up().map_err(Call::Ioctl.at(number))?;
            }
        }
        coracle_sys::note_step(number);
    }
    Ok(())
}

/// Becomes root of the user namespace. If the namespace does not map id 0, the kernel answers
/// EINVAL and the ids stay as they are.
fn become_root(step: usize) -> Result<(), Fault> {
    unless(coracle_sys::setresgid(0), Errno::EINVAL).map_err(Call::Setgid.at(step))?;
    unless(coracle_sys::setresuid(0), Errno::EINVAL).map_err(Call::Setuid.at(step))
}

fn unless(answer: nix::Result<()>, fine: Errno) -> nix::Result<()> {
    match answer {
        Err(errno) if errno == fine => Ok(()),
        answer => answer,
    }
}

fn write_offsets(inherited: &Inherited, lines: &str, step: usize) -> Result<(), Fault> {
    let Some(procfs) = &inherited.procfs else {
        return Err(Fault::new(step, Check::NotOpened));
    };
    let write = || procfs.write_self(c"timens_offsets", lines.as_bytes());
    let answer = match write() {
        // Joining a user namespace makes the process undumpable, and procfs gives the files of such
        // a process to the host's root. An unprivileged runtime has to be dumpable while it opens
        // this one.
        Err((Call::Openat2, Errno::EACCES)) => {
            prctl::set_dumpable(true).map_err(Call::Prctl.at(step))?;
            let answer = write();
            prctl::set_dumpable(false).map_err(Call::Prctl.at(step))?;
            answer
        }
        answer => answer,
    };
    answer.map_err(Cause::at(step))
}

/// Joins the user namespace and stays until the other end of the socket is closed.
pub(super) fn stay_in_user_namespace(user: &OwnedFd, socket: &OwnedFd) -> nix::Result<()> {
    // After the join, processes of that namespace may have capabilities over this one. Undumpable,
    // it can neither be traced nor have its descriptors opened.
    prctl::set_dumpable(false)?;
    coracle_sys::setns(user.as_fd(), NamespaceFlags::USER)?;
    coracle_sys::send(socket.as_fd(), b"in", None)?;
    coracle_sys::receive(socket.as_fd(), &mut [0; 1]).map(drop)
}
