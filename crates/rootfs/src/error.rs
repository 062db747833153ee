//! Errors before the clone of init.

use coracle_sys::{Cause, MOUNT_DATA_BYTES};
use coracle_text::{Code, Detail, cause_errno, cause_text, errno_text};
use nix::errno::Errno;

/// A config that cannot be carried out, or a failed preparation in the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `private` with `--no-pivot`, whose MS_MOVE needs the propagation of the host's root.
    #[error("config.json: linux.rootfsPropagation: private cannot be had with --no-pivot")]
    PrivateWithoutPivot,
    /// A mount on a file in procfs, but no procfs was mounted.
    #[error(
        "{at}: {destination:?} cannot be mounted because it is inside /proc, and no earlier mount \
         is a procfs there"
    )]
    NoProcfs {
        /// `config.json:` and the JSON path.
        at: String,
        /// Its destination.
        destination: &'static str,
    },
    /// An option that mounts of cgroup v1 hierarchies do not have.
    #[error("{at}.options: {option:?} is no option of the cgroup v1 hierarchies")]
    CgroupOption {
        /// `config.json:` and the JSON path.
        at: String,
        /// The configured option, without its value.
        option: String,
    },
    /// The options are too long for mount(2), which would silently cut them.
    #[error("{at}.options: more than {} bytes", MOUNT_DATA_BYTES - 1)]
    LongData {
        /// `config.json:` and the JSON path.
        at: String,
    },
    /// An id-mapped mount without CAP_SYS_ADMIN in the filesystem's user namespace.
    #[error("{at}: id-mapped mounts need CAP_SYS_ADMIN on the host")]
    IdMapUnprivileged {
        /// `config.json:` and the JSON path.
        at: String,
    },
    /// The annotation is not the name of a label option of SELinux.
    #[error(
        "config.json: annotations[\"run.oci.mount_context_type\"]: {value:?} is none of context, \
         fscontext, defcontext, rootcontext"
    )]
    ContextType {
        /// The configured value.
        value: String,
    },
    /// Only `create` can mount this.
    #[error("{at}: {what} cannot be added to a running container")]
    NotAddable {
        /// `config.json:` and the JSON path.
        at: String,
        /// What was asked for.
        what: &'static str,
    },
    /// A cgroup mount, but the host has no cgroups.
    #[error("{at}: the host has no cgroup file system mounted")]
    NoCgroups {
        /// `config.json:` and the JSON path.
        at: String,
    },
    /// A source cannot be opened.
    #[error("{at}: {path}: {}", errno_text(*errno))]
    Source {
        /// `config.json:` and the JSON path.
        at: String,
        /// Its path on the host.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The source exists but is not what the config requires.
    #[error("{at}: {path}: {expected}")]
    SourceKind {
        /// `config.json:` and the JSON path.
        at: String,
        /// Its path on the host.
        path: String,
        /// What was found or expected.
        expected: String,
    },
    /// The user namespace of an id-mapped mount could not be made.
    #[error("{at}: make the user namespace of the id map: {}", cause_text(*cause))]
    IdMap {
        /// `config.json:` and the JSON path.
        at: String,
        /// The cause.
        cause: Cause,
    },
    /// The socket for sources of mounts could not be made.
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

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let of = Detail::new;
        match self {
            Error::PrivateWithoutPivot => of(Code::ConfigInvalid).path("linux.rootfsPropagation"),
            Error::NoProcfs { at, .. } | Error::NotAddable { at, .. } => {
                of(Code::ConfigInvalid).path(at)
            }
            Error::CgroupOption { at, .. } | Error::LongData { at } => {
                of(Code::ConfigInvalid).path(format_args!("{at}.options"))
            }
            Error::IdMapUnprivileged { at } => of(Code::CallerUnprivileged)
                .path(at)
                .hint("be root, or leave the id map out"),
            Error::ContextType { .. } => {
                of(Code::ConfigInvalid).path("annotations[\"run.oci.mount_context_type\"]")
            }
            Error::NoCgroups { at } => of(Code::HostUnsupported)
                .path(at)
                .hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup, or leave the mount out"),
            Error::Source { at, errno, .. } => of(source_code(*errno))
                .path(at)
                .errno(*errno)
                .hint("make what is to be mounted, or correct its path"),
            Error::SourceKind { at, .. } => of(Code::MountFailed)
                .path(at)
                .hint("make what is to be mounted, or correct its path"),
            Error::IdMap { at, cause } => of(Code::IdMapFailed).path(at).errno(cause_errno(*cause)),
            Error::Stream { errno } | Error::HostMounts { errno } => {
                of(Code::RuntimeFailed).errno(*errno)
            }
        }
    }
}

fn source_code(errno: Errno) -> Code {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => Code::MountSourceNotFound,
        _ => Code::MountFailed,
    }
}
