//! Identifies a process by its pid and start time.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::Pid;
use procfs::FromRead;
use procfs::process::Stat;
use serde::{Deserialize, Serialize};

/// A process, identified so that a later process with the same pid is not mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Its pid in the runtime's pid namespace.
    pub(crate) pid: i32,
    /// Its start time in clock ticks since boot: field 22 of /proc/PID/stat, proc_pid_stat(5).
    pub(crate) start_time: u64,
}

impl Identity {
    /// The process that has `pid` now; `None` when there is none.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        stat(pid).ok().flatten().map(|stat| Self {
            pid,
            start_time: stat.starttime,
        })
    }

    /// Whether the process still runs; a zombie does not. If this cannot be read, for want of a
    /// descriptor for example, it counts as running: its container must not be cleaned up as if it
    /// had ended.
    pub(crate) fn is_alive(&self) -> bool {
        match stat(self.pid) {
            Ok(Some(stat)) => self.is(&stat) && !has_exited(&stat),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// A pidfd of the process, or `None` when it is gone. The start time is compared after the
    /// open, so that the descriptor cannot be of a later process.
    ///
    /// # Errors
    /// The errno of pidfd_open(2), except `ESRCH`, and `EINVAL` and `ENOENT`, which mean that a
    /// thread has the number: the process is gone then. The errno of opening /proc/PID/stat.
    pub(crate) fn open(&self) -> nix::Result<Option<OwnedFd>> {
        Ok(self.find()?.map(|(pidfd, _)| pidfd))
    }

    /// Like [`Identity::open`], but `None` for a zombie, too.
    ///
    /// # Errors
    /// Those of [`Identity::open`].
    pub(crate) fn open_alive(&self) -> nix::Result<Option<OwnedFd>> {
        let found = self.find()?.filter(|(_, stat)| !has_exited(stat));
        Ok(found.map(|(pidfd, _)| pidfd))
    }

    fn find(&self) -> nix::Result<Option<(OwnedFd, Stat)>> {
        let pidfd = match coracle_sys::pidfd_open(Pid::from_raw(self.pid)) {
            Ok(pidfd) => pidfd,
            Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let stat = stat(self.pid)?.filter(|stat| self.is(stat));
        Ok(stat.map(|stat| (pidfd, stat)))
    }

    fn is(&self, stat: &Stat) -> bool {
        stat.starttime == self.start_time
    }
}

fn has_exited(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X' | 'x')
}

/// Whether the process of a pidfd has ended. If it has not, a path below `/proc/PID` that was
/// opened before belongs to this process and not to a later one with its pid.
pub(crate) fn has_ended(pidfd: BorrowedFd) -> nix::Result<bool> {
    coracle_sys::poll_readable(&[pidfd], Some(0)).map(|ready| ready != 0)
}

/// In bytes: longer than any stat line, which has a name of at most 64 bytes and some fifty
/// numbers.
const STAT_BYTES: usize = 2048;

/// Reads /proc/PID/stat; `None` if there is no such process.
pub(crate) fn stat(pid: i32) -> nix::Result<Option<Stat>> {
    let file = match coracle_sys::open(format!("/proc/{pid}/stat").as_str(), OFlag::O_RDONLY) {
        Ok(file) => file,
        // Without a procfs, or with one that hides the process (`hidepid`), it may still be alive.
        Err(errno @ Errno::ENOENT) if may_be_ours(pid) => return Err(errno),
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // procfs returns the whole line to one read that has room for it.
    let mut line = [0; STAT_BYTES];
    let length = match nix::unistd::read(&file, &mut line) {
        Ok(length) => length,
        // The process ended between the two calls.
        Err(Errno::ESRCH) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    Ok(Stat::from_read(line.get(..length).unwrap_or(&[])).ok())
}

/// Whether a process has this pid and may be signalled. The user who made a container may signal
/// its processes, so a refusal means that the pid now belongs to another user's process.
fn may_be_ours(pid: i32) -> bool {
    nix::sys::signal::kill(Pid::from_raw(pid), None).is_ok()
}

/// The entries of a directory of /proc that are numbers.
pub(crate) fn numbers(directory: &str) -> Vec<i32> {
    let entries = coracle_sys::open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        .and_then(|open| coracle_sys::list_directory(open.as_fd()));
    let names = entries.unwrap_or_default().into_iter();
    let number = |(_, name): (u8, OsString)| name.to_str()?.parse().ok();
    names.filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not() {
        let own = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        assert!(own.open().unwrap().is_some());
        let other = Identity {
            start_time: own.start_time + 1,
            ..own
        };
        assert!(!other.is_alive());
        assert!(other.open().unwrap().is_none());
    }
}
