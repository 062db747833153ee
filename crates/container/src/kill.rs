//! `kill`: a signal for init, or for everything in the container.

use coracle_bundle::ContainerId;
use nix::errno::Errno;
use std::os::fd::AsFd;

use crate::error::Error;
use crate::options::Scope;
use crate::record::Record;
use crate::state;
use crate::status::{Status, Verb, refusal};
use crate::store::Store;

/// Sends `signal`. Takes no lock: a container that hangs in another verb can still be killed.
///
/// # Errors
/// [`Error::Status`] with the text `container not running` when it is stopped (not with
/// [`Scope::All`]), [`Error::Signal`] with the kernel's answer.
pub fn kill(store: &Store, id: &ContainerId, signal: i32, scope: Scope) -> Result<(), Error> {
    let directory = store.open(id)?;
    let record = directory
        .record()?
        .ok_or_else(|| Error::Absent { id: id.clone() })?;
    let status = state::status(&directory, &record);
    let verb = match scope {
        Scope::Init => Verb::Kill,
        Scope::All => Verb::KillAll,
    };
    if let Some(refusal) = refusal(verb, status) {
        return Err(Error::Status {
            id: id.clone(),
            refusal,
            status,
        });
    }
    let everything = scope == Scope::All || signal == nix::libc::SIGKILL;
    if everything && !record.own_pid_namespace && signal_cgroup(&record, signal)? {
        return Ok(());
    }
    if status == Status::Stopped {
        return Ok(());
    }
    signal_init(id, &record, signal)?;
    if signal == nix::libc::SIGKILL && status == Status::Paused {
        // A frozen v1 cgroup delivers nothing; v2 kills frozen processes by itself.
        if let Some(cgroup) = record.own_cgroup() {
            coracle_cgroups::thaw(cgroup)?;
        }
    }
    Ok(())
}

/// Signals every process of the cgroup; whether there is a cgroup for that.
fn signal_cgroup(record: &Record, signal: i32) -> Result<bool, Error> {
    let Some(cgroup) = record.own_cgroup() else {
        return Ok(false);
    };
    coracle_cgroups::kill(cgroup, signal)?;
    Ok(true)
}

/// Signals init through a pidfd whose start time was checked.
pub(crate) fn signal_init(id: &ContainerId, record: &Record, signal: i32) -> Result<(), Error> {
    let failed = |errno| Error::Signal {
        id: id.clone(),
        signal,
        errno,
    };
    let stopped = || Error::Status {
        id: id.clone(),
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
