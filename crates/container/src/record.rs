//! `record.json` in the container's directory: facts, but no status.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_cni::Plan;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit::Ending;
use crate::identity::Identity;

/// The version that this release writes. It reads this and older ones.
const VERSION: u32 = 1;

/// The facts of one container. Unknown fields, of later releases, are ignored; absent fields, in
/// records of earlier releases, have their default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// When `create` began, RFC 3339.
    pub(crate) created: String,
    /// The effective uid of the user who created the container.
    pub(crate) owner: u32,
    /// Whether `create` has completed.
    pub(crate) complete: bool,
    /// The runtime process that creates the container.
    pub(crate) creator: Option<Identity>,
    pub(crate) init: Option<Identity>,
    /// The cgroup. While `cgroup_made` is false, it is planned: `delete` may remove it but not
    /// signal its processes, since another container could still have this path.
    pub(crate) cgroup: Option<coracle_cgroups::Record>,
    /// Whether the cgroup has been made.
    pub(crate) cgroup_made: bool,
    /// Whether the container has its own pid namespace, so that the kernel kills all its processes
    /// with init.
    pub(crate) own_pid_namespace: bool,
    /// The mount point on the host of a container without a mount namespace.
    pub(crate) host_mount: Option<PathBuf>,
    /// Whether the config has hooks for these points. Verbs that need none do not read it again.
    pub(crate) poststart_hooks: bool,
    pub(crate) poststop_hooks: bool,
    /// Whether the config has a process, so that the container can be started.
    pub(crate) has_process: bool,
    /// Whether it was created with `--no-new-keyring`, which also holds for `exec`.
    pub(crate) no_new_keyring: bool,
    pub(crate) annotations: BTreeMap<String, String>,
    /// The networks that it is attached to, or is about to be: a [`coracle_cni::Plan`].
    pub(crate) network: Option<Value>,
    /// Whether its network namespace is another container's, by a flag or annotation.
    pub(crate) joined_network: bool,
    /// How init ended, if somebody waited for that.
    pub(crate) ended: Option<Ending>,
    /// The names of init's standard streams, for a checkpoint; see [`crate::descriptors`].
    pub(crate) descriptors: Vec<String>,
    /// The mounts that were added while it ran. They end with its mount namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<AddedMount>,
}

/// A mount that a running container was given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddedMount {
    /// Where it was requested.
    pub destination: PathBuf,
    /// The type of the file system, or `bind`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The path or the word that was given.
    pub source: PathBuf,
    /// The options that were given.
    pub options: Vec<String>,
    /// The mount's id, as in mountinfo.
    pub(crate) mount: u64,
    /// Its mount point in the container, without links.
    pub(crate) place: PathBuf,
}

/// The other runtime that wrote this `state.json`, if one did. Runtimes may share a state root, and
/// earlier releases of this one used the same name. A file that cannot be parsed counts as ours.
pub(crate) fn maker(text: &[u8]) -> Option<&'static str> {
    let tree: Value = serde_json::from_slice(text).ok()?;
    let has = |member| tree.get(member).is_some();
    match has("version") {
        true => None,
        false if has("init_process_pid") => Some("runc"),
        false if has("ociVersion") => Some("another runtime"),
        false => None,
    }
}

/// Why a record cannot be used.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The text is not a record.
    Corrupt(String),
    /// A newer release wrote it, so its facts may have another meaning.
    Newer(u32),
}

impl Record {
    /// The container's own cgroup, if it has been made and can hold processes.
    pub(crate) fn own_cgroup(&self) -> Option<&coracle_cgroups::Record> {
        self.own_groups().filter(|groups| groups.has_cgroups())
    }

    /// The container's own cgroup, or only its resctrl group.
    pub(crate) fn own_groups(&self) -> Option<&coracle_cgroups::Record> {
        self.cgroup
            .as_ref()
            .filter(|groups| self.cgroup_made && !groups.is_empty())
    }

    /// The config's annotations, and the results of network plugins.
    pub(crate) fn shown_annotations(&self) -> BTreeMap<String, String> {
        let mut shown = self.annotations.clone();
        let network = self.network.as_ref().and_then(Plan::from_value);
        if let Some((key, value)) = network.as_ref().and_then(Plan::annotation) {
            shown.insert(key.to_owned(), value);
        }
        shown
    }

    pub(crate) fn current_version() -> u32 {
        VERSION
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, Unreadable> {
        let record: Self =
            serde_json::from_slice(text).map_err(|error| Unreadable::Corrupt(error.to_string()))?;
        match record.version {
            1..=VERSION => Ok(record),
            0 => Err(Unreadable::Corrupt("it has no version".to_owned())),
            found => Err(Unreadable::Newer(found)),
        }
    }

    /// Reads as much as possible of a record that is corrupt or of a newer release: what `delete
    /// --force` needs to kill and to remove.
    pub(crate) fn salvage(text: &[u8]) -> Self {
        let tree: Value = serde_json::from_slice(text).unwrap_or_default();
        fn member<T: serde::de::DeserializeOwned>(tree: &Value, name: &str) -> Option<T> {
            serde_json::from_value(tree.get(name)?.clone()).ok()
        }
        Self {
            init: member(&tree, "init"),
            cgroup: member(&tree, "cgroup"),
            cgroup_made: member(&tree, "cgroup_made").unwrap_or_default(),
            own_pid_namespace: member(&tree, "own_pid_namespace").unwrap_or_default(),
            host_mount: member(&tree, "host_mount"),
            network: tree.get("network").filter(|it| !it.is_null()).cloned(),
            ..Self::default()
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_earlier_release_reads_and_of_a_newer_one_does_not() {
        let record = Record::parse(br#"{"version":1,"id":"a"}"#).unwrap();
        assert_eq!((record.id.as_str(), record.complete), ("a", false));
        let newer = Record::parse(br#"{"version":2,"id":"a"}"#);
        assert!(matches!(newer, Err(Unreadable::Newer(2))));
        assert!(matches!(Record::parse(b"{"), Err(Unreadable::Corrupt(_))));
        assert!(matches!(Record::parse(b"{}"), Err(Unreadable::Corrupt(_))));
    }

    #[test]
    fn a_record_of_another_runtime_is_known() {
        let runc = br#"{"id":"a","init_process_pid":5,"config":{"rootfs":"/r"}}"#;
        let youki = br#"{"ociVersion":"v1.0.2","id":"a","status":"running","pid":5}"#;
        assert_eq!(maker(runc), Some("runc"));
        assert_eq!(maker(youki), Some("another runtime"));
        for ours in [&br#"{"version":1,"id":"a"}"#[..], b"{", b"", b"[]", b"{}"] {
            assert_eq!(maker(ours), None);
        }
    }

    #[test]
    fn a_group_of_resctrl_is_none_to_kill_by() {
        let text = br#"{"version":1,"cgroup":{"resctrl":[{"path":"/r"}]},"cgroup_made":true}"#;
        let record = Record::parse(text).unwrap();
        assert!(record.own_groups().is_some() && record.own_cgroup().is_none());
        let text = br#"{"version":1,"cgroup":{"unified":{"path":"/c"}},"cgroup_made":true}"#;
        assert!(Record::parse(text).unwrap().own_cgroup().is_some());
    }

    #[test]
    fn what_there_is_to_end_is_salvaged() {
        let text = br#"{"version":1,"id":7,"init":{"pid":5,"start_time":6},"cgroup_made":true}"#;
        assert!(matches!(Record::parse(text), Err(Unreadable::Corrupt(_))));
        let record = Record::salvage(text);
        assert_eq!(
            record.init,
            Some(Identity {
                pid: 5,
                start_time: 6
            })
        );
        assert!(record.cgroup_made);
        assert!(Record::salvage(b"{").init.is_none());
        let none = Record::salvage(br#"{"version":1,"id":7,"network":null}"#);
        assert!(none.network.is_none());
    }
}
