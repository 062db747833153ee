//! Why a process that was killed does not end.
//!
//! Init of a pid namespace ends only after all members of the namespace have ended and were reaped,
//! pid_namespaces(7). A member that came from outside, by `exec` or as init of another container,
//! is reaped by a process outside.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use procfs::process::Stat;

use crate::identity::{self, numbers};

/// What keeps a killed process from ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A member of its pid namespace that has ended and was not reaped.
    Zombie {
        /// The member.
        pid: i32,
        /// The process that has to reap it; 0 if that is outside of the runtime's pid namespace.
        parent: i32,
    },
    /// A process waits in the kernel, for a device, a server or the end of a freeze by cgroup v1,
    /// and no signal ends the wait.
    Uninterruptible {
        /// The process itself or a member of its pid namespace.
        pid: i32,
    },
}

impl Hold {
    /// What keeps this process from ending, if that can be found. Of a pid namespace only the first
    /// process is kept by the other members.
    pub(crate) fn of(pid: i32, is_first: bool) -> Option<Self> {
        if identity::stat(pid).ok()??.state == 'D' {
            return Some(Hold::Uninterruptible { pid });
        }
        if !is_first {
            return None;
        }
        let namespace = pid_namespace(pid)?;
        let is_inside = |pid: i32| pid_namespace(pid).as_ref() == Some(&namespace);
        let others = numbers("/proc")
            .into_iter()
            .filter(|other| *other != pid && is_inside(*other));
        let members: Vec<Stat> = others
            .filter_map(|other| identity::stat(other).ok()?)
            .collect();
        // Who waits reaps no children: they are zombies because of it.
        if let Some(waiting) = members.iter().find(|member| member.state == 'D') {
            return Some(Hold::Uninterruptible { pid: waiting.pid });
        }
        let mut zombies = members.iter().filter(|member| member.state == 'Z');
        let zombie = zombies.find(|member| !is_inside(member.ppid))?;
        Some(Hold::Zombie {
            pid: zombie.pid,
            parent: zombie.ppid,
        })
    }
}

/// `pid:[NUMBER]`, for a zombie as well.
fn pid_namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Zombie { pid, parent } => {
                write!(
                    f,
                    "process {pid} of its pid namespace has ended, and its parent, "
                )?;
                match parent {
                    0 => f.write_str("outside of this pid namespace, ")?,
                    parent => write!(f, "process {parent}, ")?,
                }
                f.write_str("has not reaped it")
            }
            Hold::Uninterruptible { pid } => {
                write!(
                    f,
                    "process {pid} is in an uninterruptible wait of the kernel"
                )
            }
        }
    }
}
