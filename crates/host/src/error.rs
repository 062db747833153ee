//! Errors while facts are gathered.

use crate::{KERNEL_FLOOR, KernelVersion};
use coracle_text::{Code, Detail, errno_text};
use nix::errno::Errno;
use std::path::PathBuf;

/// Why the machine's facts could not be gathered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel lacks system calls that coracle requires.
    #[error("kernel {found} is too old: coracle needs {KERNEL_FLOOR} or newer")]
    KernelTooOld {
        /// The running kernel.
        found: KernelVersion,
    },
    /// The release from uname(2) does not begin with a version.
    #[error("kernel release {release:?} does not begin with a version")]
    KernelRelease {
        /// The release.
        release: String,
    },
    /// The caller's own capabilities could not be read.
    #[error("read the runtime's capabilities: {}", errno_text(*.errno))]
    Capabilities {
        /// The kernel's answer.
        errno: Errno,
    },
    /// `/proc` is missing or not a procfs.
    #[error("/proc: {}", explain_proc(*.errno))]
    Proc {
        /// The kernel's answer; `EXDEV` if it is not a procfs.
        errno: Errno,
    },
    /// A file could not be read.
    #[error("read {}: {}", .path.display(), errno_text(*.errno))]
    Read {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A file of the kernel has another format than documented.
    #[error("{path}: {problem}")]
    Format {
        /// Which.
        path: &'static str,
        /// What was expected.
        problem: &'static str,
    },
    /// systemd runs but does not answer.
    #[error("--systemd-cgroup: {problem}")]
    Systemd {
        /// Why.
        problem: coracle_dbus::Error,
    },
    /// The namespaces of a process could not be looked up.
    #[error("namespaces of process {pid}: {}", errno_text(*.errno))]
    Namespaces {
        /// Which process.
        pid: i32,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A process whose namespaces were to be looked up has ended.
    #[error("namespaces of process {pid}: it has ended")]
    ProcessEnded {
        /// Which process.
        pid: i32,
    },
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let unreadable = || Detail::new(Code::HostUnreadable);
        match self {
            Error::KernelTooOld { .. } => {
                Detail::new(Code::HostUnsupported).hint("boot a newer kernel")
            }
            Error::KernelRelease { .. } => unreadable(),
            Error::Capabilities { errno } => unreadable().errno(*errno),
            Error::Proc { errno } => unreadable()
                .path("/proc")
                .errno(*errno)
                .hint("mount -t proc proc /proc"),
            Error::Read { path, errno } => unreadable().path(path.display()).errno(*errno),
            Error::Format { path, .. } => unreadable().path(path),
            Error::Systemd { .. } => Detail::new(Code::SystemdFailed).path("--systemd-cgroup"),
            Error::ProcessEnded { pid } => unreadable().path(format_args!("/proc/{pid}/ns")),
            Error::Namespaces { pid, errno } => unreadable()
                .path(format_args!("/proc/{pid}/ns"))
                .errno(*errno),
        }
    }
}

fn explain_proc(errno: Errno) -> String {
    match errno {
        Errno::EXDEV => "not a procfs, or a part of one".to_owned(),
        errno => errno_text(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let old = Error::KernelTooOld {
            found: KernelVersion { major: 5, minor: 4 },
        };
        assert_eq!(
            old.to_string(),
            "kernel 5.4 is too old: coracle needs 5.14 or newer"
        );
        let read = Error::Read {
            path: "/etc/subuid".into(),
            errno: Errno::EACCES,
        };
        assert_eq!(
            read.to_string(),
            "read /etc/subuid: permission denied (EACCES)"
        );
        let gone = Error::ProcessEnded { pid: 7 };
        assert_eq!(gone.to_string(), "namespaces of process 7: it has ended");
        let proc = Error::Proc {
            errno: Errno::EXDEV,
        };
        assert_eq!(proc.to_string(), "/proc: not a procfs, or a part of one");
    }
}
