//! What the planner is given: the process, the config around it, the host, and the options.

use coracle_bundle::{Config, ContainerId, Namespace, Process};
use coracle_host::Host;
use std::ffi::CString;

/// What the command line and the caller's own state add to the config.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The container's id; its session keyring is called `_ses.<id>`.
    pub id: &'a ContainerId,
    /// Whether the process gets a session keyring of its own.
    pub keyring: Keyring,
    /// Whether the process's user namespace lets `setgroups(2)` through.
    pub groups: GroupsControl,
    /// Variables of ours such as `LISTEN_FDS=1`; each replaces one of the same name.
    pub environment: &'a [CString],
    /// How many descriptors after 2 stay open for the process.
    pub preserved_fds: u32,
}

/// Which session keyring the process runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// A keyring named after the container.
    New,
    /// The caller's (`--no-new-keyring`).
    Inherited,
}

/// What `/proc/PID/setgroups` of the container's user namespace says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupsControl {
    /// It is seen inside, where the groups that may be dropped are gone already: groups of the
    /// config are set, and may be refused.
    Unknown,
    /// `allow`: the groups become exactly those of the config.
    Allowed,
    /// `deny`: groups in the config are an error.
    Denied,
}

/// What all parts of the planner read.
pub(crate) struct Subject<'a> {
    pub(crate) process: &'a Process,
    pub(crate) config: &'a Config,
    pub(crate) host: &'a Host,
    pub(crate) options: &'a Options<'a>,
}

impl Subject<'_> {
    /// The process runs in a user namespace other than the runtime's, where its root has every
    /// capability (credentials after `CLONE_NEWUSER` and after `setns`).
    pub(crate) fn in_new_user_namespace(&self) -> bool {
        self.config.linux.namespaces.user != Namespace::Inherit
    }
}
