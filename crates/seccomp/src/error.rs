//! Everything that can be wrong before the filter is loaded.

use coracle_text::errno_text;
use nix::errno::Errno;

/// Why a filter cannot be made, or its listener not be handed on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Built for a machine whose filters are not written here.
    #[error("linux.seccomp: filters for this machine's architecture are not supported")]
    Machine,
    /// More than the kernel takes.
    #[error(
        "linux.seccomp: the filter has {instructions} instructions, more than the kernel's {}",
        crate::plan::MAX_INSTRUCTIONS
    )]
    TooLong {
        /// How many it would be.
        instructions: usize,
    },
    /// More than are looked at.
    #[error(
        "linux.seccomp.syscalls: more than {} rules, one for each name and each alternative \
         condition",
        crate::plan::MAX_RULES
    )]
    TooManyRules,
    /// Conditions that cannot be translated.
    #[error("linux.seccomp: {0}")]
    Rule(String),
    /// A name that is no system call of any machine, where an annotation asks for an error.
    #[error("linux.seccomp.syscalls[{rule}].names[{index}]: {name:?} is not a system call")]
    UnknownName {
        /// The rule's place.
        rule: usize,
        /// The name's place in it.
        index: usize,
        /// As given.
        name: String,
    },
    /// Calls are to be notified, and nobody would receive them.
    #[error(
        "linux.seccomp.listenerPath: missing, though linux.seccomp.syscalls[{rule}].action is \
         SCMP_ACT_NOTIFY"
    )]
    NoListener {
        /// The first such rule.
        rule: usize,
    },
    /// The call that reports where the listener is would itself wait for the listener.
    #[error("linux.seccomp.syscalls[{rule}]: SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifiedWrite {
        /// The rule's place.
        rule: usize,
    },
    /// Neither can the runtime fetch the listener from init nor init send it.
    #[error(
        "linux.seccomp.listenerPath: the runtime has too few privileges to fetch the listener, and \
         init cannot send it, since sendmsg is notified as well"
    )]
    OutOfReach,
    /// A flag that the running kernel does not have.
    #[error("linux.seccomp.flags: the kernel does not support {flag}")]
    UnsupportedFlag {
        /// By the spec's name.
        flag: &'static str,
    },
    /// An action that the running kernel does not have.
    #[error("linux.seccomp: the kernel does not support the action \"{action}\"")]
    UnsupportedAction {
        /// In words.
        action: String,
    },
    /// The kernel could not be asked what it supports.
    #[error("linux.seccomp: seccomp: {}", errno_text(*errno))]
    Ask {
        /// The kernel's answer.
        errno: Errno,
    },
    /// Nobody listens there.
    #[error(
        "linux.seccomp.listenerPath: failed to connect with seccomp agent at {path:?}: {}",
        errno_text(*errno)
    )]
    Connect {
        /// As given.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The listener's new owner did not take it.
    #[error("linux.seccomp.listenerPath: send the listener to {path:?}: {}", errno_text(*errno))]
    Send {
        /// As given.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
}
