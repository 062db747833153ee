//! What `state`, `list` and the hooks receive. runtime.md § State.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::moved;
use crate::record::Record;
use crate::status::Status;
use crate::store::Directory;

/// The spec version that this release speaks.
pub const OCI_VERSION: &str = "1.3.0";

/// One container's state in runc's JSON shape.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// The runtime's spec version, not the config's.
    #[serde(rename = "ociVersion")]
    pub oci_version: &'static str,
    /// The container's id.
    pub id: String,
    /// Init's pid in the runtime's pid namespace; 0 when it is gone.
    pub pid: i32,
    /// Derived from the kernel at the time of the call.
    pub status: Status,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// When the container was created, RFC 3339.
    pub created: String,
    /// The config's annotations, and the results of network plugins.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Uid of whoever created the container: `list` turns it into a name.
    #[serde(skip)]
    pub owner: u32,
}

/// The status of the container, from the kernel and from what is there, never from a stored word.
pub(crate) fn status(directory: &Directory, record: &Record) -> Status {
    let Some(init) = &record.init else {
        let creating = record.creator.is_some_and(|creator| creator.is_alive());
        return if creating {
            Status::Creating
        } else {
            Status::Stopped
        };
    };
    if !init.is_alive() {
        return Status::Stopped;
    }
    if !record.complete {
        // An init whose creator was killed is being killed by the kernel.
        let creating = record.creator.is_some_and(|creator| creator.is_alive());
        return if creating {
            Status::Creating
        } else {
            Status::Stopped
        };
    }
    if moved::is_frozen(record) {
        return Status::Paused;
    }
    if directory.is_awaiting_start() {
        Status::Created
    } else {
        Status::Running
    }
}

/// The state to show, with the status derived now.
pub(crate) fn current(directory: &Directory, record: &Record) -> State {
    let status = status(directory, record);
    let pid = match status {
        Status::Stopped => 0,
        _ => record.init.map_or(0, |init| init.pid),
    };
    with(record, status, pid)
}

/// The state with a given status and pid, as a hook receives it.
pub(crate) fn with(record: &Record, status: Status, pid: i32) -> State {
    State {
        oci_version: OCI_VERSION,
        id: record.id.clone(),
        pid,
        status,
        bundle: record.bundle.clone(),
        rootfs: record.rootfs.clone(),
        created: record.created.clone(),
        annotations: record.shown_annotations(),
        owner: record.owner,
    }
}

/// What [`for_hook`] made, for whoever listens to a seccomp filter: config-linux.md § Seccomp, the
/// container process state.
pub(crate) fn with_version(json: Vec<u8>) -> coracle_launch::ContainerState {
    coracle_launch::ContainerState {
        oci_version: OCI_VERSION,
        json,
    }
}

/// What a hook gets on its standard input: the spec's members only, on one line. runtime.md §
/// State, config.md § POSIX-platform Hooks.
pub(crate) fn for_hook(record: &Record, status: Status, pid: i32) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct HookState<'a> {
        oci_version: &'static str,
        id: &'a str,
        status: Status,
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
        bundle: &'a std::path::Path,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        annotations: BTreeMap<String, String>,
    }
    let state = HookState {
        oci_version: OCI_VERSION,
        id: &record.id,
        status,
        pid: (pid != 0).then_some(pid),
        bundle: &record.bundle,
        annotations: record.shown_annotations(),
    };
    // Strings, numbers and paths that were checked to be UTF-8: this cannot fail.
    serde_json::to_vec(&state).unwrap_or_default()
}
