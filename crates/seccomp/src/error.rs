//! Errors before the filter is loaded, and while the listener is sent.

use coracle_text::{Code, Detail, errno_text};
use nix::errno::Errno;

/// Why a filter cannot be made, or its listener cannot be sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// This build is for an architecture without support for filters.
    #[error("linux.seccomp: filters for this machine's architecture are not supported")]
    Machine,
    /// The program that an annotation gives is refused.
    #[error("annotations[{annotation:?}]: {reason}")]
    Program {
        /// The annotation.
        annotation: &'static str,
        /// Why.
        reason: String,
    },
    /// The filter is longer than the kernel accepts.
    #[error(
        "linux.seccomp: the filter has {instructions} instructions, more than the kernel's {}",
        crate::plan::MAX_INSTRUCTIONS
    )]
    TooLong {
        /// The length of the filter.
        instructions: usize,
    },
    /// The profile has more rules than the limit.
    #[error(
        "linux.seccomp.syscalls: more than {} rules, one for each name and each alternative \
         condition",
        crate::plan::MAX_RULES
    )]
    TooManyRules,
    /// Conditions that cannot be translated.
    #[error("linux.seccomp: {0}")]
    Rule(String),
    /// A name is no system call on any architecture, and an annotation makes this an error.
    #[error("linux.seccomp.syscalls[{rule}].names[{index}]: {name:?} is not a system call")]
    UnknownName {
        /// The rule's index.
        rule: usize,
        /// The name's index in the rule.
        index: usize,
        /// As in the config.
        name: String,
    },
    /// The profile notifies calls, but has no path of an agent that would receive them.
    #[error(
        "linux.seccomp.listenerPath: missing, though linux.seccomp.syscalls[{rule}].action is \
         SCMP_ACT_NOTIFY"
    )]
    NoListener {
        /// The first such rule.
        rule: usize,
    },
    /// Init reports the listener by a write(2), which itself would wait for the listener.
    #[error("linux.seccomp.syscalls[{rule}]: SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifiedWrite {
        /// The rule's index.
        rule: usize,
    },
    /// The runtime may not fetch the listener from init, and init cannot send it.
    #[error(
        "linux.seccomp.listenerPath: the runtime has too few privileges to fetch the listener, and \
         init cannot send it, since sendmsg is notified as well"
    )]
    OutOfReach,
    /// The running kernel lacks a flag.
    #[error("linux.seccomp.flags: the kernel does not support {flag}")]
    UnsupportedFlag {
        /// Its name in the specification.
        flag: &'static str,
    },
    /// The running kernel lacks an action.
    #[error("linux.seccomp: the kernel does not support the action \"{action}\"")]
    UnsupportedAction {
        /// A description of the action.
        action: String,
    },
    /// The kernel could not be queried for what it supports.
    #[error("linux.seccomp: seccomp: {}", errno_text(*errno))]
    Query {
        /// The kernel's answer.
        errno: Errno,
    },
    /// No connection to the seccomp agent.
    #[error(
        "linux.seccomp.listenerPath: failed to connect with seccomp agent at {path:?}: {}",
        errno_text(*errno)
    )]
    Connect {
        /// As in the config.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The listener could not be sent to the agent.
    #[error("linux.seccomp.listenerPath: send the listener to {path:?}: {}", errno_text(*errno))]
    Send {
        /// As in the config.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A signal to the runtime ended the wait for the agent.
    #[error("linux.seccomp.listenerPath: {path:?} did not take the listener before a signal came")]
    Interrupted {
        /// As given.
        path: String,
    },
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let listener = || Detail::new(Code::SeccompAgentFailed).path("linux.seccomp.listenerPath");
        let invalid = |path: &str| Detail::new(Code::ConfigInvalid).path(path);
        let lacks = |path: &str| Detail::new(Code::HostUnsupported).path(path);
        const NEWER: &str = "boot a newer kernel, or leave it out of the profile";
        match self {
            Error::Machine => lacks("linux.seccomp"),
            Error::Program { annotation, .. } => invalid(&format!("annotations[{annotation:?}]")),
            Error::TooLong { .. } | Error::Rule(_) => invalid("linux.seccomp"),
            Error::TooManyRules => invalid("linux.seccomp.syscalls"),
            Error::UnknownName { rule, index, .. } => {
                invalid(&format!("linux.seccomp.syscalls[{rule}].names[{index}]"))
            }
            Error::NoListener { .. } => invalid("linux.seccomp.listenerPath"),
            Error::NotifiedWrite { rule } => invalid(&format!("linux.seccomp.syscalls[{rule}]")),
            Error::UnsupportedFlag { .. } => lacks("linux.seccomp.flags").hint(NEWER),
            Error::UnsupportedAction { .. } => lacks("linux.seccomp").hint(NEWER),
            Error::Query { errno } => lacks("linux.seccomp").errno(*errno),
            Error::Connect { errno, .. } => listener()
                .errno(*errno)
                .hint("start the agent before the container, or correct the path of its socket"),
            Error::Send { errno, .. } => listener().errno(*errno),
            Error::OutOfReach => listener(),
            Error::Interrupted { .. } => {
                Detail::new(Code::RuntimeInterrupted).path("linux.seccomp.listenerPath")
            }
        }
    }
}
