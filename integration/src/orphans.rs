//! Orphans of which this process is the subreaper. As an engine does, it reaps each when it ends:
//! while a member is a zombie, a pid namespace does not end and its container cannot be deleted.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::leftovers::is_zombie;

#[derive(Debug, Default)]
struct Orphans {
    /// Exit codes of those that ended, or 128 and the number of the signal.
    codes: HashMap<i32, i32>,
    /// Children for which another thread waits.
    reserved: HashSet<i32>,
}

static ORPHANS: LazyLock<Mutex<Orphans>> = LazyLock::new(Mutex::default);

fn orphans() -> MutexGuard<'static, Orphans> {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Becomes a subreaper whose orphans are reaped until the end of the program. Its first thread must
/// start no command: what it starts is taken for an orphan.
pub fn collect_orphans() {
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(20));
            collect_ended();
        }
    });
}

/// Reaps what the kernel gave to the process's first thread: orphans. A command that a test starts
/// is a child of that test's thread, and of the first one only after the test's thread is over.
fn collect_ended() {
    let first = std::process::id();
    let children = fs::read_to_string(format!("/proc/self/task/{first}/children"));
    let children = children.unwrap_or_default();
    let mut orphans = orphans();
    for pid in children.split_whitespace().flat_map(str::parse) {
        if orphans.reserved.contains(&pid) || !may_be_reaped(pid) {
            continue;
        }
        let code = match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            _ => continue,
        };
        orphans.codes.insert(pid, code);
    }
}

/// waitpid(2) by any thread takes the stops of a traced child as well, for which the tracing thread
/// would wait for ever: only what has ended and is not traced is waited for here.
fn may_be_reaped(pid: i32) -> bool {
    is_zombie(&pid.to_string()) && crate::status_field(pid, "TracerPid") == "0"
}

/// The exit code of an orphan that has ended, or 128 and the number of the signal.
pub(crate) fn exit_code(pid: i32) -> Option<i32> {
    orphans().codes.get(&pid).copied()
}

/// Forgets the exit code of an earlier process with the number of one that lives.
pub(crate) fn expect(pid: i32) {
    let mut orphans = orphans();
    if !is_zombie(&pid.to_string()) {
        orphans.codes.remove(&pid);
    }
}

/// A child that is not reaped here: another thread waits for it, or a test needs the zombie.
#[derive(Debug)]
pub(crate) struct Reserved(i32);

impl Reserved {
    pub(crate) fn new(pid: i32) -> Self {
        orphans().reserved.insert(pid);
        Self(pid)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        orphans().reserved.remove(&self.0);
    }
}
