//! `state.json` in the container's directory: facts, never a status.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// The version that this release writes. Readers take it and older ones.
const VERSION: u32 = 1;

/// What one container is. Unknown fields of later releases are ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// When `create` began, RFC 3339.
    pub(crate) created: String,
    /// Effective uid of whoever created the container.
    pub(crate) owner: u32,
    /// `create` reached its end: the container can be started.
    pub(crate) complete: bool,
    /// The runtime that creates the container.
    pub(crate) creator: Option<Identity>,
    pub(crate) init: Option<Identity>,
    /// Before `create` made it: what it will be, to be removed but never signalled, since the
    /// name may be somebody else's still.
    pub(crate) cgroup: Option<coracle_cgroups::Record>,
    /// The cgroup is the container's own.
    pub(crate) cgroup_made: bool,
    /// The container has a pid namespace of its own: the kernel ends all its processes with init.
    pub(crate) own_pid_namespace: bool,
    /// The mount that the container has on the host, since it has no mount namespace.
    #[serde(default)]
    pub(crate) host_mount: Option<PathBuf>,
    /// The config has hooks for these points: verbs that find none need not read it again.
    pub(crate) poststart_hooks: bool,
    pub(crate) poststop_hooks: bool,
    /// The config has a process: the container can be started.
    pub(crate) has_process: bool,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Record {
    /// The container's own cgroup with processes in it, if it has one.
    pub(crate) fn own_cgroup(&self) -> Option<&coracle_cgroups::Record> {
        self.cgroup
            .as_ref()
            .filter(|cgroup| self.cgroup_made && !cgroup.is_empty())
    }

    pub(crate) fn current_version() -> u32 {
        VERSION
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if record.version > VERSION {
            let found = record.version;
            return Err(format!(
                "version {found} was written by a newer release than this one"
            ));
        }
        Ok(record)
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }
}
