//! Orphans: processes that a verb cloned and left behind because it was killed.
//!
//! What a verb clones asks the kernel to be killed when the verb ends. A process of a shared
//! namespace can stop a clone before it has asked, and again when it has joined a user namespace,
//! where the kernel forgets the request: such an orphan stays for ever. It is in no record, but it
//! has inherited the verb's descriptors, and with them the lock of the container, which flock(2)
//! keeps until the last of them is closed. `/proc/PID/fdinfo/N` shows the locks of a descriptor,
//! with the process that took each.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::{FileStat, stat};
use nix::unistd::Pid;

use crate::directory::{Directory, open_directory};

/// How long a killed orphan may take to end, in milliseconds.
const PATIENCE_MS: u32 = 1_000;

/// A process that has the lock of a container, and did not take it.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
}

/// Finds the orphans that have the container's lock; none as long as the process lives that took
/// it. Those of other users, which /proc does not show to this one, are not found.
pub(crate) fn find(directory: &Directory) -> Vec<Orphan> {
    let Ok(locked) = nix::sys::stat::fstat(directory.handle()) else {
        return Vec::new();
    };
    let mut orphans = Vec::new();
    for pid in numbers("/proc") {
        // Open before anything is read of the process: it cannot be a later one with this pid, if
        // it is alive afterwards.
        let Ok(pidfd) = coracle_sys::pidfd_open(Pid::from_raw(pid)) else {
            continue;
        };
        match taker(pid, &locked) {
            None => {}
            Some(taker) if taker == pid => return Vec::new(),
            Some(_) => orphans.push(Orphan { pid, pidfd }),
        }
    }
    orphans
}

/// Kills the orphans that have the container's lock, and waits for their end.
pub(crate) fn end(directory: &Directory) {
    let orphans = find(directory);
    for orphan in &orphans {
        let _ = coracle_sys::pidfd_send_signal(orphan.pidfd.as_fd(), nix::libc::SIGKILL);
    }
    for orphan in &orphans {
        let _ = coracle_sys::poll_readable(&[orphan.pidfd.as_fd()], Some(PATIENCE_MS));
    }
}

/// The process that took the lock on the file, if a descriptor of the process `pid` has it.
fn taker(pid: i32, locked: &FileStat) -> Option<i32> {
    let directory = format!("/proc/{pid}");
    let mut numbers = numbers(&format!("{directory}/fdinfo")).into_iter();
    numbers.find_map(|number| {
        let text = fs::read_to_string(format!("{directory}/fdinfo/{number}")).ok()?;
        let taker = text.lines().find_map(|line| {
            let lock = line.strip_prefix("lock:")?;
            taker_in(lock, locked.st_ino)
        })?;
        // Another file system may have a file of this number.
        let file = stat(format!("{directory}/fd/{number}").as_str()).ok()?;
        (file.st_dev == locked.st_dev).then_some(taker)
    })
}

/// The process that a line of /proc/locks names for a lock of flock(2) on this inode: 0 if it has
/// ended or is in no pid namespace of the reader's.
pub(crate) fn taker_in(line: &str, inode: u64) -> Option<i32> {
    let mut fields = line.split_whitespace();
    (fields.nth(1)? == "FLOCK").then_some(())?;
    let pid = fields.nth(2)?.parse().ok()?;
    let file = fields.next()?;
    (file.rsplit(':').next()?.parse() == Ok(inode)).then_some(pid)
}

/// The entries of a directory of /proc that are numbers.
fn numbers(directory: &str) -> Vec<i32> {
    let entries = open_directory(Path::new(directory))
        .and_then(|open| coracle_sys::list_directory(open.as_fd()));
    let names = entries.unwrap_or_default().into_iter();
    let number = |(_, name): (u8, OsString)| name.to_str()?.parse().ok();
    names.filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_who_took_the_lock() {
        let line = "2: FLOCK  ADVISORY  WRITE 701 00:18:900 0 EOF";
        assert_eq!(taker_in(line, 900), Some(701));
        assert_eq!(taker_in(line, 90), None);
        assert_eq!(taker_in(line, 00), None);
        let posix = "1: POSIX  ADVISORY  WRITE 700 00:18:900 0 EOF";
        assert_eq!(taker_in(posix, 900), None);
        let waits = "2: -> FLOCK  ADVISORY  WRITE 702 00:18:900 0 EOF";
        assert_eq!(taker_in(waits, 900), None);
    }
}
