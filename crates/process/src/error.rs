//! Everything that can be wrong before the clone.

use coracle_text::errno_text;
use nix::errno::Errno;

/// Why a process cannot be planned, or the runtime's part of its setup failed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Supplementary groups where `setgroups(2)` is not allowed.
    #[error("process.user.additionalGids: {groups:?} cannot be set, setgroups is not allowed here")]
    GroupsDenied {
        /// The groups as given.
        groups: Vec<u32>,
    },
    /// A working directory of which the kernel would say that the name is too long.
    #[error("process.cwd: {bytes} bytes are more than the 4095 of a path")]
    LongWorkingDirectory {
        /// How many there are.
        bytes: usize,
    },
    /// A node of memory that this machine has not.
    #[error("linux.memoryPolicy.nodes: invalid memory policy: node {node} is not online")]
    NodeOffline {
        /// Its number.
        node: u32,
    },
    /// An AppArmor profile on a host without AppArmor.
    #[error("process.apparmorProfile: {profile:?}: AppArmor is not enabled on this host")]
    AppArmorDisabled {
        /// The profile's name.
        profile: String,
    },
    /// An SELinux label on a host without SELinux; callers know the text from other runtimes.
    #[error(
        "process.selinuxLabel: {label:?}: selinux label is specified in config, \
         but selinux is disabled or not supported"
    )]
    SelinuxDisabled {
        /// The label as given.
        label: String,
    },
    /// A setting of a joined namespace that turned out to be the host's.
    #[error("{property}: {path} is the host's own, not a separate kernel namespace")]
    NotSeparate {
        /// JSON path of the setting.
        property: String,
        /// The namespace's path.
        path: String,
    },
    /// A joined namespace could not be looked at.
    #[error("look at namespace {path}: {}", errno_text(*errno))]
    StatNamespace {
        /// The namespace's path.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A resource limit could not be read or its hard value not be raised.
    #[error("process.rlimits: {limit}: {what}: {}", errno_text(*errno))]
    RaiseLimit {
        /// The limit's name with the configured soft and hard value.
        limit: String,
        /// What was being done.
        what: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// `/proc/self/oom_score_adj` of the runtime could not be read or written.
    #[error("process.oomScoreAdj: {value}: {what}: {}", errno_text(*errno))]
    OomScoreAdj {
        /// The configured value.
        value: i32,
        /// What was being done.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// `process.execCPUAffinity.initial` was refused.
    #[error(
        "process.execCPUAffinity.initial: set CPU affinity {cpus}: {}",
        errno_text(*errno)
    )]
    InitialAffinity {
        /// The CPUs in list format.
        cpus: String,
        /// The kernel's answer.
        errno: Errno,
    },
}
