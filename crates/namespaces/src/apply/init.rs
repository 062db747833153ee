//! The part of the intermediate and of init: no allocation here.

use super::inherited::Inherited;
use crate::plan::describe::Check;
use crate::{Plan, Step};
use coracle_sys::{Call, Cause, Dumpable, Fault, NamespaceFlags};
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// The intermediate's steps. Afterwards it clones init with `plan.final_clone` as a sibling.
///
/// With a user namespace in `plan.first_clone`, the id maps must be written before.
///
/// # Errors
/// The step that failed.
pub fn before_clone(plan: &Plan, inherited: &Inherited) -> Result<(), Fault> {
    run(&plan.before, &inherited.before, inherited, 0)
}

/// Init's steps. With a user namespace in `plan.final_clone`, the id maps must be written before,
/// and init must be in its cgroup where a new cgroup namespace is to have it as its root.
///
/// # Errors
/// The step that failed.
pub fn enter(plan: &Plan, inherited: &Inherited) -> Result<(), Fault> {
    let first = plan.clone_step().saturating_add(1);
    run(&plan.enter, &inherited.enter, inherited, first)
}

fn run(
    steps: &[Step],
    held: &[Option<OwnedFd>],
    inherited: &Inherited,
    first: u32,
) -> Result<(), Fault> {
    for ((step, held), number) in steps.iter().zip(held).zip(first..) {
        match (step, held) {
            (Step::Join(join), Some(fd)) => {
                coracle_sys::setns(fd.as_fd(), join.kind.flag()).map_err(Call::Setns.at(number))?;
            }
            (Step::JoinProcess(flags), Some(pidfd)) => {
                coracle_sys::setns(pidfd.as_fd(), *flags).map_err(Call::Setns.at(number))?;
            }
            // The runtime's own user namespace: the kernel refuses to enter it once more.
            (Step::Join(_) | Step::JoinProcess(_), None) => {}
            (Step::DropGroups, _) => {
                coracle_sys::setgroups(&[]).map_err(Call::Setgroups.at(number))?;
            }
            (Step::BecomeRoot, _) => {
                // EPERM: the groups are pinned, since setgroups is denied in the namespace.
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
    }
    Ok(())
}

/// The kernel says where a namespace knows no root (EINVAL: 0 is not mapped), and leaves the ids as
/// they are.
fn become_root(step: u32) -> Result<(), Fault> {
    unless(coracle_sys::setresgid(0), Errno::EINVAL).map_err(Call::Setgid.at(step))?;
    unless(coracle_sys::setresuid(0), Errno::EINVAL).map_err(Call::Setuid.at(step))
}

fn unless(answer: nix::Result<()>, fine: Errno) -> nix::Result<()> {
    match answer {
        Err(errno) if errno == fine => Ok(()),
        answer => answer,
    }
}

fn write_offsets(inherited: &Inherited, lines: &str, step: u32) -> Result<(), Fault> {
    let Some(procfs) = &inherited.procfs else {
        return Err(Fault::new(step, Check::NotOpened));
    };
    let write = || procfs.write_self(c"timens_offsets", lines.as_bytes());
    let answer = match write() {
        // The file of a process that cannot be dumped belongs to the machine's root, and joining a
        // user namespace made us one: an unprivileged caller must be a normal process for it.
        Err((Call::Openat2, Errno::EACCES)) => {
            coracle_sys::set_dumpable(Dumpable::Yes).map_err(Call::Prctl.at(step))?;
            let answer = write();
            coracle_sys::set_dumpable(Dumpable::No).map_err(Call::Prctl.at(step))?;
            answer
        }
        answer => answer,
    };
    answer.map_err(Cause::at(step))
}

/// Joins the user namespace and stays until the other end of the socket is closed.
pub(super) fn stay_in_user_namespace(user: &OwnedFd, socket: &OwnedFd) -> nix::Result<()> {
    // A process of that namespace may have power over this one from here on: it must not be traced,
    // nor its descriptors be opened.
    coracle_sys::set_dumpable(Dumpable::No)?;
    coracle_sys::setns(user.as_fd(), NamespaceFlags::USER)?;
    coracle_sys::send(socket.as_fd(), b"in", None)?;
    coracle_sys::receive(socket.as_fd(), &mut [0; 1]).map(drop)
}
