//! Signals to every process of the container.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_sys::{pidfd_open, pidfd_send_signal};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::files;
use super::freeze::{freeze, is_frozen, thaw};
use super::processes::processes;
use super::walk::walk;
use crate::record::Directory;
use crate::{Error, Record, Result};

/// How often new processes are looked for. Each round signals all processes that exist when it
/// begins; some may fork meanwhile.
const ROUNDS: usize = 32;
/// The number of pidfds open at a time: the usual limit of descriptors is 1024, and a container may
/// have many more processes.
const OPEN_MAX: usize = 256;

/// Sends `signal` to every process of the container, those in cgroups below its own included. No
/// process or no cgroup is success. Does not wait for the processes to end.
///
/// SIGKILL also works on a paused container, which is thawed so that the processes die; other
/// signals take effect after `resume`.
///
/// # Errors
/// The container has no cgroup; the kernel's answer to a signal.
pub fn kill(record: &Record, signal: i32) -> Result<()> {
    if !record.has_cgroups() {
        return Err(Error::Lacking {
            verb: "kill",
            what: "cgroup that tells its processes",
        });
    }
    if signal != libc::SIGKILL {
        return signal_frozen(record, signal);
    }
    let done = match &record.unified {
        // After a write to cgroup.kill the kernel kills every process that is later cloned into
        // that cgroup: it compares the cgroup's count of kills with that of the cloning process's
        // own cgroup (seen on Linux 6.18 and 7.2). So it is written only to a cgroup that coracle
        // made and will remove.
        Some(unified) if unified.made.contains(&unified.path) => kill_cgroup(unified)?,
        _ => false,
    };
    if done {
        // A process that is only in the container's v1 cgroups was not killed. There should be
        // none.
        if !record.hierarchies.is_empty() {
            signal_all(record, signal)?;
        }
    } else {
        signal_frozen(record, signal)?;
    }
    release(record)
}

/// Thaws the v1 freezer after SIGKILL: it keeps even killed tasks frozen, also in cgroups below
/// that the container froze itself. The v2 freezer lets killed tasks die.
///
/// # Errors
/// The kernel's. A cgroup that is gone is no error.
pub fn release(record: &Record) -> Result<()> {
    let Some(freezer) = record.hierarchy("freezer") else {
        return Ok(());
    };
    // Parents first: a cgroup below a frozen one stays frozen.
    let mut enter = |directory: BorrowedFd| {
        if files::read(directory, "freezer.state")?.trim() == "THAWED" {
            return Ok(());
        }
        files::write(directory, "freezer.state", "THAWED")
    };
    let top = files::open_path(&freezer.path);
    match top.and_then(|top| walk(top, &mut enter, &mut |_, _| Ok(()))) {
        Err(errno) if !files::is_gone(errno) => {
            Err(Error::open(&freezer.path, "freezer.state")(errno))
        }
        _ => Ok(()),
    }
}

/// Kills by cgroup.kill (Linux 5.14): the kernel kills all processes at once, including those being
/// forked. `false` if it cannot.
fn kill_cgroup(unified: &Directory) -> Result<bool> {
    let directory = files::open_path(&unified.path);
    match directory.and_then(|directory| files::write(directory.as_fd(), "cgroup.kill", "1")) {
        Ok(()) => Ok(true),
        Err(errno) if files::is_gone(errno) => Ok(!unified.path.exists()),
        // In a threaded cgroup a write to cgroup.kill fails with EOPNOTSUPP.
        Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => Ok(false),
        Err(errno) => Err(Error::open(&unified.path, "cgroup.kill")(errno)),
    }
}

/// Freezes the container, signals all processes and thaws it again, unless it was frozen before. If
/// it cannot be frozen, the processes are signalled in rounds.
fn signal_frozen(record: &Record, signal: i32) -> Result<()> {
    if is_frozen(record)? == Some(true) {
        return signal_all(record, signal);
    }
    let frozen = freeze(record).is_ok();
    let result = signal_all(record, signal);
    if frozen {
        thaw(record)?;
    }
    result
}

/// Signals each process once, including those that are forked meanwhile.
fn signal_all(record: &Record, signal: i32) -> Result<()> {
    let mut signalled = BTreeSet::new();
    for _ in 0..ROUNDS {
        let mut new = processes(record)?;
        new.retain(|pid| signalled.insert(*pid));
        if new.is_empty() {
            break;
        }
        for some in new.chunks(OPEN_MAX) {
            signal_some(record, some, signal)?;
        }
    }
    Ok(())
}

/// Signals these processes. One that has ended is no error.
fn signal_some(record: &Record, pids: &[i32], signal: i32) -> Result<()> {
    let mut open: Vec<(i32, OwnedFd)> = Vec::new();
    for &pid in pids {
        match pidfd_open(Pid::from_raw(pid)) {
            Ok(descriptor) => open.push((pid, descriptor)),
            // EINVAL and ENOENT if the pid is now that of a thread.
            Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(Error::Signal { signal, pid, errno }),
        }
    }
    // The pids are read again: a pid that was reused by a process outside the container before its
    // pidfd was opened is no longer listed.
    let listed = processes(record)?;
    open.retain(|(pid, _)| listed.binary_search(pid).is_ok());
    for (pid, descriptor) in open {
        match pidfd_send_signal(descriptor.as_fd(), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::Signal { signal, pid, errno }),
        }
    }
    Ok(())
}
