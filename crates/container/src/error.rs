//! The errors of verbs.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use coracle_bundle::ContainerId;
use coracle_text::{Code, Detail, errno_text};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use thiserror::Error;

use crate::hold::Hold;
use crate::status::Status;

/// Why a verb failed. The command line puts the verb and the container before it: `start web1:
/// container does not exist`.
///
/// Engines match the texts `does not exist`, `container not running` and `container with given ID
/// already exists`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bundle or its config was refused; nothing was touched.
    #[error(transparent)]
    Bundle(#[from] coracle_bundle::Error),
    /// A fact of the host could not be read, or the kernel is too old.
    #[error(transparent)]
    Host(#[from] coracle_host::Error),
    /// Planning failed, or carrying out the plan.
    #[error(transparent)]
    Launch(#[from] coracle_launch::Error),
    /// A cgroup operation on an existing container failed.
    #[error(transparent)]
    Cgroups(#[from] coracle_cgroups::Error),
    /// The cgroup that `exec --cgroup` names does not exist or cannot be joined.
    #[error("--cgroup {requested}: adding pid of the new process to cgroups: {}", match &**source {
        // Scripts match this text. Engines would take it for a missing program, but do not use
        // --cgroup.
        coracle_cgroups::Error::Open { path, errno: Errno::ENOENT } => {
            format!("open {path:?}: no such file or directory")
        }
        source => source.to_string(),
    })]
    SubCgroup {
        /// The flag's value.
        requested: String,
        /// The cause. Boxed, since it is large and rare.
        source: Box<coracle_cgroups::Error>,
    },
    /// A hook failed.
    #[error(transparent)]
    Hooks(#[from] coracle_hooks::Error),
    /// A checkpoint or a restore failed.
    #[error(transparent)]
    Checkpoint(#[from] coracle_checkpoint::Error),
    /// A network failed or cannot be attached as requested.
    #[error(transparent)]
    Cni(#[from] coracle_cni::Error),
    /// The container whose network is to be shared has no process.
    #[error("network container:{id}: there is no such container with a process")]
    NoNetwork {
        /// The other container.
        id: ContainerId,
    },
    /// Another container publishes the port already.
    #[error("published port {port}: already published by container {holder}")]
    PortTaken {
        /// `127.0.0.1:80/tcp`.
        port: String,
        /// The other container.
        holder: ContainerId,
    },
    /// `network check` for a container that is attached to no network.
    #[error("container is attached to no network")]
    NotAttached,
    /// The lock of the networks was not free in time: a creation with a network and `network gc`
    /// exclude one another.
    #[error("networks of {root:?} are locked by another command")]
    NetworksBusy {
        /// The state root.
        root: PathBuf,
    },
    /// The id is taken.
    #[error("container with given ID already exists{}", match maker {
        Some(maker) => format!(" (it belongs to {maker})"),
        None => String::new(),
    })]
    Exists {
        /// The id asked for.
        id: ContainerId,
        /// The other runtime that made the container, if one did.
        maker: Option<&'static str>,
        /// The status of the container that has it, if it could be read.
        status: Option<Status>,
    },
    /// There is no such container.
    #[error("container does not exist")]
    Absent {
        /// The state root, and where else it may be.
        hint: String,
    },
    /// Another runtime, which shares the state root, made this container.
    #[error("container belongs to {maker}, which has to be used for it")]
    Foreign {
        /// The other runtime.
        maker: &'static str,
    },
    /// The container's status forbids the verb.
    #[error("{refusal}")]
    Status {
        /// Why the verb is refused.
        refusal: &'static str,
        /// The status found.
        status: Status,
    },
    /// `events` or `checkpoint` for a container whose init has ended.
    #[error("container with id {id} is not running")]
    NotRunning {
        /// The container.
        id: ContainerId,
    },
    /// `delete` without force for a container that is not stopped.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped {
        /// The container.
        id: ContainerId,
        /// The status found.
        status: Status,
    },
    /// Another verb held the container's lock for too long.
    #[error("container is locked by {}", match holder {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    })]
    Busy {
        /// The lock's holder, if /proc/locks names it.
        holder: Option<i32>,
    },
    /// A process that a killed verb has left behind has the container's lock.
    #[error("container is locked by process {pid}, which a killed command has left behind")]
    Orphaned {
        /// One of these processes.
        pid: i32,
    },
    /// An operation on a file of the state root failed.
    #[error("{call} {path:?}: {}", errno_text(*errno))]
    Store {
        /// What was attempted.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The record on disk cannot be read.
    #[error("{path:?}: {reason}")]
    Corrupt {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with the record.
        reason: String,
    },
    /// The record cannot be read, and its contents cannot be recovered from the config.
    #[error(
        "the record cannot be read, and {reason}: the container's processes, cgroups, mounts and \
         networks may be left; remove {directory:?} once they are gone"
    )]
    Torn {
        /// The container's directory.
        directory: PathBuf,
        /// Why it cannot be recovered.
        reason: &'static str,
    },
    /// A newer release made the container, whose record this one does not understand.
    #[error("{path:?}: version {version} was written by a newer release than this one")]
    Newer {
        /// The record's file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Init ended between `start` and execve(2).
    #[error("container init ended before it executed the program")]
    Ended {
        /// A possible cause; empty if there is none.
        hint: String,
    },
    /// `start` of a container without `process`.
    #[error("config.json has no process: nothing to start")]
    NoProcess,
    /// A path that the record must hold is not UTF-8.
    #[error("{what}: {path:?} is not UTF-8")]
    NotUtf8 {
        /// The path's JSON path in the config, or `bundle`.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A terminal without a console socket, or the reverse.
    #[error("{0}")]
    Terminal(&'static str),
    /// An operation on the file that a flag names failed.
    #[error("{flag} {path:?}: {call}: {}", errno_text(*errno))]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
        /// The call that failed.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A flag's value was refused.
    #[error("{flag}: {reason}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// The signal could not be delivered.
    #[error("send signal {signal} to init: {}", errno_text(*errno))]
    Signal {
        /// The signal's number.
        signal: i32,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Init did not end in time.
    #[error(
        "container init still running: process {pid}{}",
        hold.map(|hold| format!(": {hold}")).unwrap_or_default()
    )]
    StillRunning {
        /// Init.
        pid: i32,
        /// What keeps it from ending, if that can be found.
        hold: Option<Hold>,
    },
    /// The container has no cgroup that the verb could use.
    #[error("container has no cgroup of its own: cannot {verb}")]
    NoCgroup {
        /// The verb.
        verb: &'static str,
    },
    /// Init was moved by the host into a cgroup with processes of others.
    #[error(
        "cannot {verb}: init was moved out of the container's cgroup, which is gone, into one with \
         processes of others, such as {pid}"
    )]
    Moved {
        /// The verb.
        verb: &'static str,
        /// One of them.
        pid: i32,
    },
    /// A mount in a running container was refused.
    #[error("{path:?}: {reason}")]
    Mount {
        /// The path in the container.
        path: PathBuf,
        /// Why it was refused.
        reason: &'static str,
    },
    /// The container's mounts would not end with it.
    #[error(
        "container has no mount namespace of its own, and a mount in another's would not end with \
         the container"
    )]
    SharedMounts,
    /// The verb failed, and not everything that it made could be undone.
    #[error("{source}; then, when it was taken back: {left}")]
    Leaving {
        /// Why it failed.
        source: Box<Error>,
        /// What is left, and why.
        left: String,
    },
    /// A signal to the runtime ended the verb.
    #[error("interrupted by {signal}: {source}")]
    Interrupted {
        /// The signal.
        signal: Signal,
        /// The error that the signal caused.
        source: Box<Error>,
    },
    /// The kernel killed init for exceeding its memory limit.
    #[error("container init was OOM-killed (memory limit too low?)")]
    OutOfMemory,
    /// A system call of the runtime's own failed.
    #[error("{attempted}: {}", errno_text(*errno))]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// Makes [`Error::Store`] of an errno.
pub(crate) fn with_path<'a>(
    call: &'static str,
    path: &'a Path,
) -> impl Fn(Errno) -> Error + Copy + 'a {
    move |errno| Error::Store {
        call,
        path: path.to_owned(),
        errno,
    }
}

/// Makes [`Error::System`] of an errno.
pub(crate) fn system(attempted: &'static str) -> impl Fn(Errno) -> Error + Copy {
    move |errno| Error::System { attempted, errno }
}

impl Error {
    /// The signal that ended the verb, if it was one.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        match self {
            Error::Interrupted { signal, .. } => Some(*signal),
            Error::Leaving { source, .. } => source.signal(),
            _ => None,
        }
    }

    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        match self {
            Error::Bundle(error) => error.detail(),
            Error::Host(error) => error.detail(),
            Error::Launch(error) => error.detail(),
            Error::Cgroups(error) => error.detail(),
            Error::Hooks(error) => error.detail(),
            Error::Checkpoint(error) => error.detail(),
            Error::Cni(error) => error.detail(),
            Error::SubCgroup { source, .. } => source.detail().path("--cgroup"),
            Error::Leaving { source, .. } => source.detail(),
            Error::Interrupted { source, .. } => Detail {
                code: Code::RuntimeInterrupted,
                ..source.detail()
            },
            own => own.own_detail(),
        }
    }

    fn own_detail(&self) -> Detail {
        let detail = Detail::new(self.code());
        let detail = match self {
            Error::PortTaken { .. } => detail.path("--publish"),
            Error::NetworksBusy { root } => detail.path(root.display()),
            Error::Store { path, errno, .. } | Error::Flag { path, errno, .. } => {
                detail.path(path.display()).errno(*errno)
            }
            Error::Corrupt { path, .. } | Error::Newer { path, .. } => detail.path(path.display()),
            Error::Torn { directory, .. } => detail.path(directory.display()),
            Error::NotUtf8 { what, .. } => detail.path(what),
            Error::Mount { path, .. } => detail.path(path.display()),
            Error::Value { flag, .. } => detail.path(flag),
            Error::NoProcess => detail.path("process"),
            Error::Ended { hint, .. } if !hint.is_empty() => detail.path("linux.seccomp"),
            Error::Signal { errno, .. } | Error::System { errno, .. } => detail.errno(*errno),
            _ => detail,
        };
        detail.hint(self.hint().into_owned())
    }

    fn code(&self) -> Code {
        match self {
            Error::NoNetwork { .. } => Code::NetworkNotFound,
            Error::PortTaken { .. } => Code::NetworkPortTaken,
            Error::Mount { .. } | Error::SharedMounts => Code::MountFailed,
            Error::NotAttached => Code::NetworkInvalid,
            Error::NetworksBusy { .. } | Error::Busy { .. } | Error::Orphaned { .. } => {
                Code::ContainerLocked
            }
            Error::Exists { .. } => Code::ContainerExists,
            Error::Absent { .. } => Code::ContainerNotFound,
            Error::Foreign { .. } => Code::ContainerForeign,
            Error::Status { .. } | Error::NotRunning { .. } | Error::NotStopped { .. } => {
                Code::ContainerWrongStatus
            }
            Error::Store { .. } => Code::StateFailed,
            Error::Corrupt { .. } | Error::Torn { .. } | Error::Newer { .. } => Code::StateCorrupt,
            Error::Ended { hint, .. } if !hint.is_empty() => Code::SeccompBarsRuntime,
            Error::Ended { .. } => Code::InitEnded,
            Error::NoProcess | Error::NotUtf8 { .. } => Code::ConfigInvalid,
            Error::Terminal(_) | Error::Value { .. } => Code::UsageInvalid,
            Error::Flag { .. } => Code::OutputFailed,
            Error::StillRunning { .. } => Code::ContainerStillRunning,
            Error::NoCgroup { .. } | Error::Moved { .. } => Code::ContainerNoCgroup,
            Error::OutOfMemory => Code::ContainerOutOfMemory,
            _ => Code::RuntimeFailed,
        }
    }

    /// What may help.
    fn hint(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Error::Absent { hint, .. } => hint,
            Error::Exists {
                maker: None,
                status: Some(status),
                id,
            } => {
                let force = match status {
                    Status::Stopped => "",
                    _ => "--force ",
                };
                return Cow::Owned(format!(
                    "it is {status}: use another id, or delete it: coracle delete {force}{id}"
                ));
            }
            Error::Store { errno, .. } => match errno {
                Errno::ENOSPC | Errno::EDQUOT => {
                    "the file system of the state root is full, in bytes or inodes: see df -h and \
                     df -i, or use another --root"
                }
                Errno::EROFS => "the state root must be writable: use another --root",
                Errno::EACCES | Errno::EPERM => "be root, or use a --root of your own",
                _ => "",
            },
            Error::Terminal(_) => {
                "name the socket: --console-socket PATH; run without --detach needs none"
            }
            Error::NotStopped { .. } => "kill it first, or delete --force",
            Error::OutOfMemory => "raise linux.resources.memory.limit",
            Error::Ended { hint, .. } => hint,
            Error::Busy { .. } | Error::NetworksBusy { .. } => "try again once it has ended",
            Error::Orphaned { .. } => "end it with delete --force",
            Error::Foreign { .. } => "use that runtime for it, or another --root",
            _ => "",
        })
    }

    /// Adds what is left behind to the error, if anything is.
    pub(crate) fn leaving(self, left: &str) -> Self {
        match left {
            "" => self,
            left => Error::Leaving {
                source: Box::new(self),
                left: left.to_owned(),
            },
        }
    }
}
