//! What can fail before the container's init takes over.

use coracle_sys::Cause;
use coracle_text::{cause_text, errno_text};
use nix::errno::Errno;

/// A config that cannot be carried out, or a source on the host that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host's own root directory would be changed.
    #[error(
        "config.json: root.path: the host's / cannot be the root of a container with a mount \
         namespace"
    )]
    RootIsHost,
    /// The host's own root directory would be changed.
    #[error(
        "config.json: root.path: mounts and readonly need a root other than / or a mount namespace"
    )]
    HostRootChanged,
    /// MS_MOVE needs what `private` takes away.
    #[error("config.json: linux.rootfsPropagation: private cannot be had with --no-pivot")]
    PrivateWithoutPivot,
    /// An id map that would be forgotten.
    #[error("{at}: a remount, cgroups and the host's sysfs cannot be id-mapped")]
    IdMapHere {
        /// `config.json:` and the JSON path.
        at: String,
    },
    /// What is reached through a procfs, and none was mounted.
    #[error(
        "{at}: {destination:?} cannot be mounted because it is inside /proc, and no earlier mount \
         is a procfs there"
    )]
    NoProcfs {
        /// `config.json:` and the JSON path.
        at: String,
        /// Where it was to go.
        destination: &'static str,
    },
    /// An option that none of the many mounts of cgroup v1 could be given.
    #[error("{at}.options: {option:?} is no option of the cgroup v1 hierarchies")]
    CgroupOption {
        /// `config.json:` and the JSON path.
        at: String,
        /// As given, without its value.
        option: String,
    },
    /// Without a mount namespace the second mount on the root's path would stay on the host.
    #[error("{at}.destination: a mount on / needs a mount namespace")]
    RootOnHost {
        /// `config.json:` and the JSON path.
        at: String,
    },
    /// mount(2) would take the first of them and say nothing.
    #[error("{at}.options: more than 4095 bytes")]
    LongData {
        /// `config.json:` and the JSON path.
        at: String,
    },
    /// The kernel leaves this to the owner of the file system.
    #[error("{at}: id-mapped mounts need CAP_SYS_ADMIN on the host")]
    IdMapUnprivileged {
        /// `config.json:` and the JSON path.
        at: String,
    },
    /// SELinux has four kinds of label options.
    #[error(
        "config.json: annotations[\"run.oci.mount_context_type\"]: {value:?} is none of context, \
         fscontext, defcontext, rootcontext"
    )]
    ContextType {
        /// As given.
        value: String,
    },
    /// A cgroup mount on a host without cgroups.
    #[error("{at}: the host has no cgroup file system mounted")]
    NoCgroups {
        /// `config.json:` and the JSON path.
        at: String,
    },
    /// open_tree(2) of a source.
    #[error("{at}: {path}: {}", errno_text(*errno))]
    Source {
        /// `config.json:` and the JSON path.
        at: String,
        /// On the host.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The source is there, and is not what the config says.
    #[error("{at}: {path}: {expected}")]
    SourceKind {
        /// `config.json:` and the JSON path.
        at: String,
        /// On the host.
        path: String,
        /// What it should have been.
        expected: String,
    },
    /// The user namespace of an id-mapped mount.
    #[error("{at}: make the user namespace of the id map: {}", cause_text(*cause))]
    IdMap {
        /// `config.json:` and the JSON path.
        at: String,
        /// Why not.
        cause: Cause,
    },
    /// The socket that sources of mounts come through.
    #[error("make a socket pair for the sources of mounts: {}", errno_text(*errno))]
    Stream {
        /// The kernel's answer.
        errno: Errno,
    },
    /// The host's mounts, which `--no-pivot` has to cover, could not be listed.
    #[error("list the host's mounts: {}", errno_text(*errno))]
    HostMounts {
        /// The kernel's answer.
        errno: Errno,
    },
}
