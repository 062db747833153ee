//! The options of the verbs, as plain values.

use std::ffi::OsString;
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
    /// The new container's id.
    pub id: ContainerId,
    /// Where descriptors and pid of init go.
    pub outputs: Outputs,
    /// Who manages the cgroup, what rights it takes, how the root is changed.
    pub launch: LaunchFlags,
    /// Whether the container gets a session keyring of its own.
    pub keyring: Keyring,
    /// How many descriptors from 3 on (after LISTEN_FDS) the container keeps.
    pub preserve_fds: u32,
    /// The network, as the flags request it.
    pub network: Flags,
    /// Where networks and plugins are.
    pub search: Search,
}

/// Where the caller wants a process's terminal, pidfd and pid.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Where the pty's master is sent.
    pub console_socket: Option<PathBuf>,
    /// Where the pidfd is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
}

/// The options of `run`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// As for `create`.
    pub create: CreateOptions,
    /// Whether `run` waits for the container.
    pub attachment: Attachment,
    /// What becomes of the container once it has ended.
    pub after: After,
    /// Whether orphans of the container become ours while we wait.
    pub subreaper: Subreaper,
}

/// Whether the verb waits for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Wait, pass signals and terminal on, end with its exit code.
    Foreground,
    /// Return once it runs.
    Detached,
}

/// What `run` does with the container once it has ended.
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
    /// PR_SET_CHILD_SUBREAPER while waiting.
    Yes,
    /// Leave them to whoever is there.
    No,
}

/// The options of `exec`.
#[derive(Clone, Debug)]
pub struct ExecOptions {
    /// The container.
    pub id: ContainerId,
    /// What to execute.
    pub process: ExecProcess,
    /// Replaces the working directory.
    pub cwd: Option<OsString>,
    /// Appended to the environment, `KEY=VALUE` each.
    pub env: Vec<OsString>,
    /// A terminal is requested.
    pub tty: bool,
    /// Replaces uid, and gid if given.
    pub user: Option<(u32, Option<u32>)>,
    /// Appended to the supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Whether `exec` waits.
    pub attachment: Attachment,
    /// Where its descriptors and its pid go.
    pub outputs: Outputs,
    /// Replaces the SELinux label.
    pub process_label: Option<String>,
    /// Replaces the AppArmor profile.
    pub apparmor: Option<String>,
    /// Sets no_new_privs besides what the config says.
    pub no_new_privs: bool,
    /// Capabilities added, by number.
    pub capabilities: Vec<u8>,
    /// How many descriptors from 3 on (after LISTEN_FDS) the process keeps.
    pub preserve_fds: u32,
    /// Sub-cgroups of the container's, `[CONTROLLER[,…]:]PATH` each.
    pub cgroup: Vec<String>,
    /// Go on in a paused container.
    pub ignore_paused: bool,
}

/// What `exec` executes.
#[derive(Clone, Debug)]
pub enum ExecProcess {
    /// A file with a whole `process` object.
    File(PathBuf),
    /// The config's process with these arguments.
    Command(Vec<OsString>),
}

/// Whom `kill` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Init; with SIGKILL and a shared pid namespace, everything.
    Init,
    /// `--all`: everything, where the pid namespace is shared; no error on a stopped container.
    All,
}

/// Whether `delete` ends a running container first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// `--force`: and an absent container is no error.
    Yes,
    /// Only a container that is stopped, or waits for its start.
    No,
}
