//! A signal to every process of the container.

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

/// Rounds of looking for processes that were forked meanwhile. Each round signals all that were
/// there when it began.
const ROUNDS: usize = 32;
/// Descriptors at a time: most callers may have 1024, and a container has as many processes as it
/// likes.
const OPEN_MAX: usize = 256;

/// Sends `signal` to every process of the container, those in cgroups below its own included. No
/// process, or no cgroup left, is success. It does not wait for their end.
///
/// SIGKILL works on a paused container, too, and lets it run on to its death; other signals wait
/// for the resume.
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
        // cgroup.kill spoils a cgroup that stays: the kernel compares its count of kills with that
        // of the forking process's own cgroup, and so kills whatever is later cloned into it, at
        // once (seen on Linux 6.18 and 7.2). One that we made goes after this.
        Some(unified) if unified.made.contains(&unified.path) => kill_cgroup(unified)?,
        _ => false,
    };
    if done {
        // A process of the container that is in its v1 cgroups alone: nobody should be, and whoever
        // is was not killed.
        if !record.hierarchies.is_empty() {
            signal_all(record, signal)?;
        }
    } else {
        signal_frozen(record, signal)?;
    }
    release(record)
}

/// Lets those run on to their death that SIGKILL was sent to: v1's freezer holds even the killed,
/// in cgroups that the container froze itself, too. v2's lets them go.
///
/// # Errors
/// The kernel's; a cgroup that is gone holds nobody.
pub fn release(record: &Record) -> Result<()> {
    let Some(freezer) = record.hierarchy("freezer") else {
        return Ok(());
    };
    // Parents first: below a frozen one nothing thaws.
    let mut enter = |directory: BorrowedFd| {
        if files::read(directory, "freezer.state")?.trim() == "THAWED" {
            return Ok(());
        }
        files::write(directory, "freezer.state", "THAWED")
    };
    let top = files::open_path(&freezer.path);
    match top.and_then(|top| walk(top, &mut enter, &mut |_, _| Ok(()))) {
        Err(errno) if !files::is_gone(errno) => {
            let path = freezer.path.join("freezer.state");
            Err(Error::Open { path, errno })
        }
        _ => Ok(()),
    }
}

/// One write that the kernel carries out on all at once, forks included (Linux 5.14). `false` if it
/// cannot.
fn kill_cgroup(unified: &Directory) -> Result<bool> {
    let directory = files::open_path(&unified.path);
    match directory.and_then(|directory| files::write(directory.as_fd(), "cgroup.kill", "1")) {
        Ok(()) => Ok(true),
        Err(errno) if files::is_gone(errno) => Ok(!unified.path.exists()),
        // A threaded cgroup cannot be killed so.
        Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => Ok(false),
        Err(errno) => Err(Error::Open {
            path: unified.path.join("cgroup.kill"),
            errno,
        }),
    }
}

/// Stops all, signals all, and lets them run on, unless they were stopped before. What cannot be
/// stopped is signalled in rounds.
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

/// Signals each process once, and those that come meanwhile.
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

/// Who ended meanwhile is no error.
fn signal_some(record: &Record, pids: &[i32], signal: i32) -> Result<()> {
    let mut open: Vec<(i32, OwnedFd)> = Vec::new();
    for &pid in pids {
        match pidfd_open(Pid::from_raw(pid)) {
            Ok(descriptor) => open.push((pid, descriptor)),
            // The latter two if the number is a thread's by now.
            Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(Error::Signal { signal, pid, errno }),
        }
    }
    // A pid that is still listed is the process of its pidfd: one that was reused before the pidfd
    // was opened is not in this cgroup.
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
