//! Why a verb failed, in one line.

use std::path::PathBuf;

use coracle_bundle::ContainerId;
use coracle_text::errno_text;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use thiserror::Error;

use crate::status::Status;

/// What a verb attempted and why it did not come about. Whoever shows it names the verb and the
/// container before it: `start web1: container does not exist`.
///
/// The texts `does not exist`, `container not running` and `container with given ID already exists`
/// are matched by engines.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bundle or its config is refused; nothing was touched.
    #[error(transparent)]
    Bundle(#[from] coracle_bundle::Error),
    /// A fact of the machine could not be read, or the kernel is too old.
    #[error(transparent)]
    Host(#[from] coracle_host::Error),
    /// The plan was refused, or carrying it out failed.
    #[error(transparent)]
    Launch(#[from] coracle_launch::Error),
    /// A cgroup operation on an existing container failed.
    #[error(transparent)]
    Cgroups(#[from] coracle_cgroups::Error),
    /// The cgroup that `exec --cgroup` names is not there, or cannot be joined.
    #[error("--cgroup {requested}: adding pid of the new process to cgroups: {}", match &**source {
        // Scripts match these words. Engines take them for a missing program, but use no --cgroup.
        coracle_cgroups::Error::Open { path, errno: Errno::ENOENT } => {
            format!("open {path:?}: no such file or directory")
        }
        source => source.to_string(),
    })]
    SubCgroup {
        /// As the caller names it.
        requested: String,
        /// Why. Boxed: it is large and rare.
        source: Box<coracle_cgroups::Error>,
    },
    /// A hook failed.
    #[error(transparent)]
    Hooks(#[from] coracle_hooks::Error),
    /// A checkpoint or a restore failed.
    #[error(transparent)]
    Checkpoint(#[from] coracle_checkpoint::Error),
    /// A network failed, or cannot be had as asked.
    #[error(transparent)]
    Cni(#[from] coracle_cni::Error),
    /// The container whose network is to be shared has none that lives.
    #[error("network container:{id}: there is no such container with a process")]
    NoNetwork {
        /// The other container.
        id: ContainerId,
    },
    /// A port to be published is another container's.
    #[error("published port {port}: already published by container {holder}")]
    PortTaken {
        /// `127.0.0.1:80/tcp`.
        port: String,
        /// The other container.
        holder: ContainerId,
    },
    /// `network check` of a container that is attached to no network.
    #[error("container is attached to no network")]
    NotAttached {
        /// The container.
        id: ContainerId,
    },
    /// A creation with a network and `network gc` exclude one another.
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
        /// Whose it is, if it is another runtime's.
        maker: Option<&'static str>,
    },
    /// There is no such container.
    #[error("container does not exist")]
    Absent {
        /// The id asked for.
        id: ContainerId,
    },
    /// The state root is shared with another runtime, which made this container.
    #[error("container belongs to {maker}, which has to be used for it")]
    Foreign {
        /// The other runtime.
        maker: &'static str,
    },
    /// The container's status forbids the verb.
    #[error("{refusal}")]
    Status {
        /// The container.
        id: ContainerId,
        /// What the verb says of the status.
        refusal: &'static str,
        /// The status found.
        status: Status,
    },
    /// Nothing happens to a container that is stopped.
    #[error("container with id {id} is not running")]
    NotRunning {
        /// The container.
        id: ContainerId,
    },
    /// Only a stopped container is deleted without force.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped {
        /// The container.
        id: ContainerId,
        /// The status found.
        status: Status,
    },
    /// Another verb works on the container for longer than one waits.
    #[error("container is locked by {}", match holder {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    })]
    Busy {
        /// The container.
        id: ContainerId,
        /// Who holds the lock, where the kernel names it.
        holder: Option<i32>,
    },
    /// A file of the state root could not be handled.
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
        /// What is wrong with it.
        reason: String,
    },
    /// The record cannot be read, and nothing else says what there is to end.
    #[error(
        "the record cannot be read, and {reason}: the container's processes, cgroups, mounts and \
         networks may be left; remove {directory:?} once they are gone"
    )]
    Torn {
        /// The container's directory.
        directory: PathBuf,
        /// Why nothing else helps.
        reason: &'static str,
    },
    /// A newer release made the container: what its record means is not known here.
    #[error("{path:?}: version {version} was written by a newer release than this one")]
    Newer {
        /// The record's file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Init ended between its release and its exec.
    #[error("container init ended before it executed the program{hint}")]
    Ended {
        /// The container.
        id: ContainerId,
        /// What may be behind it; empty, or with punctuation before it.
        hint: &'static str,
    },
    /// `start` of a container without `process`.
    #[error("config.json has no process: nothing to start")]
    NoProcess {
        /// The container.
        id: ContainerId,
    },
    /// A path that the state file must hold is not UTF-8.
    #[error("{what}: {path:?} is not UTF-8")]
    NotUtf8 {
        /// Whose path it is.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A terminal was asked for where there can be none, or the reverse.
    #[error("{0}")]
    Terminal(&'static str),
    /// A flag's file could not be handled.
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
    /// A flag's value cannot be served.
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
        /// The container.
        id: ContainerId,
        /// The signal's number.
        signal: i32,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Init did not end in time.
    #[error("container init still running: process {pid}")]
    StillRunning {
        /// The container.
        id: ContainerId,
        /// Init.
        pid: i32,
    },
    /// The container has no cgroup that the verb could use.
    #[error("container has no cgroup of its own: cannot {verb}")]
    NoCgroup {
        /// The container.
        id: ContainerId,
        /// The verb.
        verb: &'static str,
    },
    /// Somebody has moved init into a cgroup of others.
    #[error(
        "cannot {verb}: init was moved out of the container's cgroup, which is gone, into one with \
         processes of others, such as {pid}"
    )]
    Moved {
        /// The container.
        id: ContainerId,
        /// The verb.
        verb: &'static str,
        /// One of them.
        pid: i32,
    },
    /// It failed, and not all that it had made could be taken back.
    #[error("{source}; then, when it was taken back: {left}")]
    Leaving {
        /// Why it failed.
        source: Box<Error>,
        /// What was attempted and why it failed, for each thing that stays.
        left: String,
    },
    /// A signal to us ended it.
    #[error("interrupted by {signal}: {source}")]
    Interrupted {
        /// The signal.
        signal: Signal,
        /// What it ended.
        source: Box<Error>,
    },
    /// The kernel ended init for its memory limit.
    #[error("container init was OOM-killed (memory limit too low?)")]
    OutOfMemory,
    /// Waiting on descriptors or on the foreground process failed.
    #[error("{attempted}: {}", errno_text(*errno))]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
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

    /// The same with what stays behind, if that is anything.
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
