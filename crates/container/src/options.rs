//! The options of the verbs.

use std::path::PathBuf;

use coracle_bundle::ContainerId;
pub use coracle_cgroups::{Manager as CgroupManager, Rootless};
use coracle_cni::{Flags, Search};
pub use coracle_launch::{ChangeRoot, Flags as LaunchFlags, Keyring};

/// The options of `create`.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The bundle's directory, as the caller names it.
    pub bundle: PathBuf,
    /// The file that is read in place of the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// The new container's id.
    pub id: ContainerId,
    /// The receivers of init's terminal, pidfd and pid.
    pub outputs: Outputs,
    /// The manager of the cgroup, whether permission errors are tolerated, and how the root is
    /// changed.
    pub launch: LaunchFlags,
    /// Whether a user namespace is made that the config does not list.
    pub user_namespace: UserNamespace,
    /// Whether the container gets a session keyring of its own.
    pub keyring: Keyring,
    /// The number of descriptors after LISTEN_FDS, or from 3 on, that the container keeps.
    pub preserve_fds: u32,
    /// The network that the flags request.
    pub network: Flags,
    /// The directories of network configurations and plugins.
    pub search: Search,
}

impl CreateOptions {
    /// For a plan that nobody carries out: as `run` in the foreground if there is a terminal but no
    /// console socket.
    pub(crate) fn attachment(&self) -> Attachment {
        match self.outputs.console_socket {
            Some(_) => Attachment::Detached,
            None => Attachment::Foreground,
        }
    }
}

/// Whether the container has a user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserNamespace {
    /// If the config lists one.
    #[default]
    Configured,
    /// If the config lists one, or the caller may have no container without one.
    Auto,
}

/// The receivers of a process's terminal, pidfd and pid.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// The socket for the pty's master.
    pub console_socket: Option<PathBuf>,
    /// The socket for the pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// The file for the pid.
    pub pid_file: Option<PathBuf>,
}

/// The options of `run`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The options of `create`.
    pub create: CreateOptions,
    /// Whether `run` waits for the container.
    pub attachment: Attachment,
    /// What to do with the container once it has ended.
    pub after: After,
    /// Whether `run` adopts the container's orphans while it waits.
    pub subreaper: Subreaper,
}

/// Whether the verb waits for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Wait, pass on signals and terminal, return its exit code.
    Foreground,
    /// Return once it runs.
    Detached,
}

/// What `run` does with a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Delete it.
    Delete,
    /// Leave it, stopped.
    Keep,
}

/// Whether `run` adopts the container's orphans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subreaper {
    /// Adopt them: PR_SET_CHILD_SUBREAPER of prctl(2).
    Yes,
    /// Leave them to init or another subreaper of the host.
    No,
}

/// The processes that `kill` signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Init; all processes for SIGKILL if the pid namespace is shared.
    Init,
    /// `--all`: all processes if the pid namespace is shared, otherwise init. It is no error if the
    /// container is stopped.
    All,
}

/// Whether `delete` kills a running container first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// `--force`. Also, an absent container is no error.
    Yes,
    /// Delete only a container that is stopped or created.
    No,
}
