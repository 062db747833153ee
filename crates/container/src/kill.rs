//! `kill`: sends a signal to init, or to every process of the container.

use coracle_bundle::ContainerId;
use nix::errno::Errno;
use std::os::fd::AsFd;

use crate::error::Error;
use crate::identity::Identity;
use crate::inspect::{allow, read};
use crate::moved;
use crate::options::Scope;
use crate::record::Record;
use crate::status::{Status, Verb};
use crate::store::Store;

/// Sends `signal`. Takes no lock: a container that hangs in another verb can still be killed.
///
/// # Errors
/// [`Error::Status`] with the text `container not running` if it is stopped, except with
/// [`Scope::All`]; [`Error::Signal`] if the kernel refuses the signal.
pub fn kill(store: &Store, id: &ContainerId, signal: i32, scope: Scope) -> Result<(), Error> {
    let (directory, record) = read(store, id)?;
    let verb = match scope {
        Scope::Init => Verb::Kill,
        Scope::All => Verb::KillAll,
    };
    let status = allow(verb, &directory, &record)?;
    let everything = scope == Scope::All || signal == nix::libc::SIGKILL;
    let reached = match record.own_cgroup() {
        Some(cgroup) if everything && !record.own_pid_namespace => {
            let reached = signal_cgroup(cgroup, record.init.as_ref(), signal)?;
            let progress = &directory.progress;
            progress.done(format_args!("sent signal {signal} to every process"));
            reached
        }
        _ => false,
    };
    // If init has left the cgroup, it still gets the signal.
    if reached || status == Status::Stopped {
        return Ok(());
    }
    // Looked up before the signal, since an init that has ended is in no cgroup.
    let groups = match signal {
        nix::libc::SIGKILL => moved::groups(&record),
        _ => None,
    };
    signal_init(&record, signal)?;
    let progress = &directory.progress;
    progress.done(format_args!("sent signal {signal} to init"));
    if let Some(Ok(cgroup)) = groups.as_ref().map(|groups| groups.ours("kill")) {
        coracle_cgroups::release(cgroup)?;
    }
    Ok(())
}

/// Signals every process of the cgroup. Returns whether init was among them.
fn signal_cgroup(
    cgroup: &coracle_cgroups::Record,
    init: Option<&Identity>,
    signal: i32,
) -> Result<bool, Error> {
    let members = coracle_cgroups::processes(cgroup)?;
    coracle_cgroups::kill(cgroup, signal)?;
    Ok(init.is_some_and(|init| members.contains(&init.pid)))
}

/// Signals init by a pidfd, after a check of the start time, so that no other process can get the
/// signal.
fn signal_init(record: &Record, signal: i32) -> Result<(), Error> {
    let failed = |errno| Error::Signal { signal, errno };
    let stopped = || Error::Status {
        refusal: "container not running",
        status: Status::Stopped,
    };
    let Some(init) = &record.init else {
        return Err(stopped());
    };
    let pidfd = init.open().map_err(failed)?.ok_or_else(stopped)?;
    match coracle_sys::pidfd_send_signal(pidfd.as_fd(), signal) {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(stopped()),
        Err(errno) => Err(failed(errno)),
    }
}
