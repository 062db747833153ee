//! Why a process that was killed does not end.
//!
//! Init of a pid namespace ends only after all members of the namespace have ended and were reaped,
//! pid_namespaces(7). A member that came from outside, by `exec` or as init of another container,
//! is reaped by a process outside.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use crate::identity::{self, numbers};

/// What keeps a killed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A member of its pid namespace that has ended and was not reaped.
    Zombie {
        /// The member.
        pid: i32,
        /// The process that has to reap it.
        parent: i32,
    },
    /// The kernel waits for a device or a server on its behalf, and lets no signal end the wait.
    Uninterruptible,
}

impl Hold {
    /// What keeps this process, if it can be told. Zombies only keep the first process of their pid
    /// namespace.
    pub(crate) fn of(pid: i32, is_first: bool) -> Option<Self> {
        if identity::stat(pid).ok()??.state == 'D' {
            return Some(Hold::Uninterruptible);
        }
        if !is_first {
            return None;
        }
        let namespace = pid_namespace(pid)?;
        let others = numbers("/proc").into_iter().filter(|other| *other != pid);
        let mut zombies = others.filter_map(|other| {
            let stat = identity::stat(other).ok()??;
            (stat.state == 'Z').then_some((other, stat.ppid))
        });
        let (pid, parent) =
            zombies.find(|(zombie, _)| pid_namespace(*zombie).as_ref() == Some(&namespace))?;
        Some(Hold::Zombie { pid, parent })
    }
}

/// `pid:[NUMBER]`, for a zombie as well.
fn pid_namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Zombie { pid, parent } => write!(
                f,
                "process {pid} of its pid namespace has ended, and its parent, process {parent}, \
                 has not reaped it"
            ),
            Hold::Uninterruptible => f.write_str("it is in an uninterruptible wait of the kernel"),
        }
    }
}
