//! Errors of planning and of the runtime's part.

use coracle_text::{Code, Detail, errno_text};
use nix::errno::Errno;

/// Why a process cannot be planned, or the runtime's part of its setup failed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The config has supplementary groups, but `setgroups(2)` is not allowed.
    #[error("process.user.additionalGids: {groups:?} cannot be set, setgroups is not allowed here")]
    GroupsDenied {
        /// The configured groups.
        groups: Vec<u32>,
    },
    /// The working directory is longer than PATH_MAX.
    #[error("process.cwd: {bytes} bytes are more than the 4095 of a path")]
    LongWorkingDirectory {
        /// Its length.
        bytes: usize,
    },
    /// The config names a NUMA node that is not online.
    #[error("linux.memoryPolicy.nodes: invalid memory policy: node {node} is not online")]
    NodeOffline {
        /// Its number.
        node: u32,
    },
    /// The config has an AppArmor profile, but the host has no AppArmor.
    #[error("process.apparmorProfile: {profile:?}: AppArmor is not enabled on this host")]
    AppArmorDisabled {
        /// The profile's name.
        profile: String,
    },
    /// The config has an SELinux label, but the host has no SELinux. Engines know this text from
    /// runc.
    #[error(
        "process.selinuxLabel: {label:?}: selinux label is specified in config, \
         but selinux is disabled or not supported"
    )]
    SelinuxDisabled {
        /// The configured label.
        label: String,
    },
    /// The config has rules of Landlock, but the kernel cannot apply any.
    #[error("annotations[{annotation:?}]: this kernel has no Landlock, or it is not enabled")]
    NoLandlock {
        /// The annotation.
        annotation: &'static str,
    },
    /// The kernel does not know an access or a scope.
    #[error("{property}: {right} takes version {needed} of Landlock, this kernel has {abi}")]
    LandlockRight {
        /// JSON path of the list.
        property: String,
        /// The kernel's name, in small letters.
        right: &'static str,
        /// The version of the ABI that brought it.
        needed: u32,
        /// The kernel's version.
        abi: u32,
    },
    /// The config sets a host name or sysctl, but joins the host's own namespace.
    #[error("{property}: {path} is the host's own, not a separate kernel namespace")]
    NotSeparate {
        /// JSON path of the setting.
        property: String,
        /// The namespace's path.
        path: String,
    },
    /// A joined namespace could not be read by stat(2).
    #[error("look at namespace {path}: {}", errno_text(*errno))]
    StatNamespace {
        /// The namespace's path.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A resource limit of the runtime could not be read or raised.
    #[error("process.rlimits: {limit}: {what}: {}", errno_text(*errno))]
    RaiseLimit {
        /// The limit's name with the configured soft and hard value.
        limit: String,
        /// What was being done.
        what: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The runtime's `/proc/self/oom_score_adj` could not be read or written.
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

/// What helps where the kernel lacks Landlock, or a part of it.
const NEWER: &str = "boot a newer kernel, with landlock in lsm=, or leave it out of the rules";

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let of = Detail::new;
        match self {
            Error::GroupsDenied { .. } => {
                of(Code::CallerUnprivileged).path("process.user.additionalGids")
            }
            Error::LongWorkingDirectory { .. } => of(Code::ConfigInvalid).path("process.cwd"),
            Error::NodeOffline { .. } => of(Code::HostUnsupported).path("linux.memoryPolicy.nodes"),
            Error::AppArmorDisabled { .. } => of(Code::HostUnsupported)
                .path("process.apparmorProfile")
                .hint("boot with apparmor=1 security=apparmor, or leave the profile out"),
            Error::SelinuxDisabled { .. } => of(Code::HostUnsupported)
                .path("process.selinuxLabel")
                .hint("boot with selinux=1 security=selinux, or leave the label out"),
            Error::NoLandlock { annotation } => of(Code::HostUnsupported)
                .path(format_args!("annotations[{annotation:?}]"))
                .hint(NEWER),
            Error::LandlockRight { property, .. } => {
                of(Code::HostUnsupported).path(property).hint(NEWER)
            }
            Error::NotSeparate { property, .. } => of(Code::ConfigInvalid).path(property),
            Error::StatNamespace { path, errno } => {
                of(Code::NamespaceInvalid).path(path).errno(*errno)
            }
            Error::RaiseLimit { errno, .. } => of(Code::ProcessFailed)
                .path("process.rlimits")
                .errno(*errno),
            Error::OomScoreAdj { errno, .. } => of(Code::ProcessFailed)
                .path("process.oomScoreAdj")
                .errno(*errno),
            Error::InitialAffinity { errno, .. } => of(Code::ProcessFailed)
                .path("process.execCPUAffinity.initial")
                .errno(*errno),
        }
    }
}
