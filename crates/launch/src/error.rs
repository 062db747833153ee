//! Why a plan was refused or could not be carried out.

use coracle_text::errno_text;
use nix::errno::Errno;
use thiserror::Error;

/// What was attempted between reading the bundle and the running program, and why it failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The namespaces cannot be made as asked.
    #[error(transparent)]
    Namespaces(#[from] coracle_namespaces::Error),
    /// The cgroup cannot be made as asked.
    #[error(transparent)]
    Cgroups(#[from] coracle_cgroups::Error),
    /// The root file system cannot be made as asked.
    #[error(transparent)]
    Rootfs(#[from] coracle_rootfs::Error),
    /// The process cannot be made as asked.
    #[error(transparent)]
    Process(#[from] coracle_process::Error),
    /// The filter of system calls cannot be made as asked, or its listener not be handed on.
    #[error(transparent)]
    Seccomp(#[from] coracle_seccomp::Error),
    /// A call that gives up privileges could seem to succeed.
    #[error(
        "linux.seccomp: {answer} for {call}, which gives up privileges after the filter is loaded, \
         could keep them; set process.noNewPrivileges, or answer it otherwise"
    )]
    FakedCall {
        /// What the profile has for it.
        answer: &'static str,
        /// Its name.
        call: &'static str,
    },
    /// What hooks read or write could not be set up.
    #[error(transparent)]
    Hooks(#[from] coracle_hooks::Error),
    /// The networks cannot be had as asked.
    #[error(transparent)]
    Network(#[from] coracle_cni::Error),
    /// The runtime's own file could not be protected.
    #[error("protect the runtime's own file: {call}: {}", errno_text(*errno))]
    Seal {
        /// The call that failed.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A call on the runtime's side failed.
    #[error("{attempted}: {}", errno_text(*errno))]
    Runtime {
        /// What was attempted.
        attempted: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A signal to us ended the wait for init.
    #[error("container init was killed before it executed the program")]
    Interrupted,
    /// Init reported a failure; the plan made a sentence of it.
    #[error("{sentence}")]
    Init {
        /// What init attempted and why it failed.
        sentence: String,
    },
    /// Init ended without a message.
    #[error("init was ended by {cause} before it was ready{hint}")]
    InitGone {
        /// The signal or exit code.
        cause: String,
        /// What may be behind it; empty, or with punctuation before it.
        hint: &'static str,
    },
    /// Init was killed before its first message, and it was cloned into a cgroup: it has done
    /// nothing. Never returned by [`crate::launch`]: a second clone is into no cgroup.
    #[error("init was killed when it was cloned into the container's cgroup")]
    KilledAtClone,
    /// The container that a process was to enter was killed.
    #[error("the container has ended")]
    ContainerEnded,
    /// Init did not answer in time.
    #[error("init did not answer within {seconds} s")]
    InitSilent {
        /// The limit.
        seconds: u32,
    },
}
