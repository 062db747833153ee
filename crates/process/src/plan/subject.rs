//! The planner's input: the process, the config, the host, and the options.

use coracle_bundle::{Config, ContainerId, Namespace, Process};
use coracle_host::{Host, Setgroups};
use std::ffi::CString;

/// Input from the command line and the caller's environment.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The container's id; its session keyring is called `_ses.<id>`.
    pub id: &'a ContainerId,
    /// Whether the process gets a session keyring of its own.
    pub keyring: Keyring,
    /// Of the process's user namespace. `Unknown`: groups of the config are set, which may fail;
    /// without any, none are dropped.
    pub groups: Setgroups,
    /// Variables that the runtime adds, such as `LISTEN_FDS=1`; each replaces one of the same name.
    pub environment: &'a [CString],
    /// The number of descriptors from 3 on that stay open for the process.
    pub preserved_fds: usize,
}

/// The session keyring of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// A keyring named after the container.
    New,
    /// The caller's (`--no-new-keyring`).
    Inherited,
}

/// The input of all parts of the planner.
pub(crate) struct Subject<'a> {
    pub(crate) process: &'a Process,
    pub(crate) config: &'a Config,
    pub(crate) host: &'a Host,
    pub(crate) options: &'a Options<'a>,
}

impl Subject<'_> {
    /// Whether the process runs in a user namespace other than the runtime's, where init has every
    /// capability after `CLONE_NEWUSER` or `setns` (user_namespaces(7)).
    pub(crate) fn in_new_user_namespace(&self) -> bool {
        self.config.linux.namespaces.user != Namespace::Inherit
    }
}
