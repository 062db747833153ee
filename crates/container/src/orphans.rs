//! Orphans: processes that a verb cloned and left behind because it was killed.
//!
//! What a verb clones asks the kernel to be killed when the verb ends. A process of a shared
//! namespace can stop a clone before it has asked, and again when it has joined a user namespace,
//! where the kernel forgets the request: such an orphan stays for ever. It is in no record, but it
//! has inherited the descriptor of the container's lock, which flock(2) keeps until the last copy
//! is closed. `/proc/PID/fdinfo/N` shows the locks of a descriptor, with the process that took
//! each.
//!
//! Others may hold the lock without having taken it: a shell that used flock(1) does. So an orphan
//! also has the name that the runtime gave itself, which a clone keeps until it executes a program.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::stat::{FileStat, stat};
use nix::unistd::Pid;

use crate::directory::{Directory, open_directory};
use crate::identity::numbers;

/// How long killed orphans may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process that has the lock of a container, taken by a process that is gone.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
}

/// Finds the orphans that have the container's lock. Those whose `/proc/PID/fdinfo` this user may
/// not read are not found: without privileges that is each that is not dumpable any more.
pub(crate) fn find(directory: &Directory) -> Vec<Orphan> {
    let Ok(locked) = nix::sys::stat::fstat(directory.handle()) else {
        return Vec::new();
    };
    let named = numbers("/proc").into_iter().filter(|pid| is_named(*pid));
    let found = named.filter_map(|pid| {
        // Open before anything is read of the process: what is read then is not of a later one
        // with this pid, if this one is alive afterwards.
        let pidfd = coracle_sys::pidfd_open(Pid::from_raw(pid)).ok()?;
        let taker = taker_of(pid, &locked)?;
        Some((Orphan { pid, pidfd }, taker))
    });
    let found: Vec<(Orphan, i32)> = found.collect();
    // Only now: a verb that took the lock meanwhile was perhaps looked at before it did.
    let left = found.into_iter().filter(|(orphan, by)| {
        *by != orphan.pid && is_gone(*by, &locked) && taker_of(orphan.pid, &locked) == Some(*by)
    });
    left.map(|(orphan, _)| orphan).collect()
}

/// Kills the orphans that have the container's lock, and waits for their end.
pub(crate) fn end(directory: &Directory) {
    let orphans = find(directory);
    for orphan in &orphans {
        let _ = coracle_sys::pidfd_send_signal(orphan.pidfd.as_fd(), nix::libc::SIGKILL);
    }
    let deadline = Instant::now() + PATIENCE;
    for orphan in &orphans {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait_ms = u32::try_from(left.as_millis()).unwrap_or_default();
        let _ = coracle_sys::poll_readable(&[orphan.pidfd.as_fd()], Some(wait_ms));
    }
}

/// Whether the process has the name of a runtime that clones.
fn is_named(pid: i32) -> bool {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_ascii_end() == coracle_launch::NAME.to_bytes()
}

/// Whether the process that took the lock has ended, or is a later one with its number. One that
/// cannot be looked at counts as alive. In a pid namespace, 0 stands for a process that has ended
/// or is outside.
fn is_gone(taker: i32, locked: &FileStat) -> bool {
    let directory = format!("/proc/{taker}");
    taker == 0
        || !Path::new(&directory).exists()
        || (open_directory(Path::new(&format!("{directory}/fdinfo"))).is_ok()
            && taker_of(taker, locked).is_none())
}

/// The process that took the lock on the file, if a descriptor of the process `pid` has it.
fn taker_of(pid: i32, locked: &FileStat) -> Option<i32> {
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

/// The process that a line of /proc/locks names for a lock of flock(2) on this inode; it may have
/// ended. Outside of the first pid namespace the kernel writes 0 then.
pub(crate) fn taker_in(line: &str, inode: u64) -> Option<i32> {
    let mut fields = line.split_whitespace();
    (fields.nth(1)? == "FLOCK").then_some(())?;
    let pid = fields.nth(2)?.parse().ok()?;
    let file = fields.next()?;
    (file.rsplit(':').next()?.parse() == Ok(inode)).then_some(pid)
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
