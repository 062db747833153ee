//! The container's state as `state`, `list` and hooks receive it: runtime.md § State.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle_bundle::OCI_VERSION;
use serde::Serialize;

use crate::directory::Directory;
use crate::ending;
use crate::exit::Ending;
use crate::identity::Identity;
use crate::moved;
use crate::record::Record;
use crate::stage::{self, Stage};
use crate::status::Status;

/// A container's state, in JSON as runc prints it.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// The runtime's spec version, not the config's.
    #[serde(rename = "ociVersion")]
    pub oci_version: &'static str,
    /// The container's id.
    pub id: String,
    /// Init's pid in the runtime's pid namespace; 0 if it has ended.
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
    /// How it ended, if it has stopped and that is known. Not of the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ending>,
    /// While it is being created, what that is at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation: Option<Stage>,
    /// The uid of the user who created the container.
    #[serde(skip)]
    pub owner: u32,
}

/// Derives the status from the record, the kernel and the files in the container's directory.
pub(crate) fn status(directory: &Directory, record: &Record) -> Status {
    let is_alive = record.init.as_ref().map(Identity::is_alive);
    hindrance(is_alive, record).unwrap_or_else(|| created_or_running(directory))
}

/// The status, if it is neither created nor running; `is_alive` says whether the recorded init is.
pub(crate) fn hindrance(is_alive: Option<bool>, record: &Record) -> Option<Status> {
    if is_alive == Some(false) {
        return Some(Status::Stopped);
    }
    if is_alive.is_none() || !record.complete {
        // If the creating runtime was killed, the kernel is killing init as well.
        return match record.creator.is_some_and(|creator| creator.is_alive()) {
            true => Some(Status::Creating),
            false => Some(Status::Stopped),
        };
    }
    moved::is_frozen(record).then_some(Status::Paused)
}

/// Which of the two it is.
pub(crate) fn created_or_running(directory: &Directory) -> Status {
    match directory.is_awaiting_start() {
        true => Status::Created,
        false => Status::Running,
    }
}

/// The state, with the current status.
pub(crate) fn current(directory: &Directory, record: &Record) -> State {
    let status = status(directory, record);
    let pid = match status {
        Status::Stopped => 0,
        _ => record.init.map_or(0, |init| init.pid),
    };
    let ended = match status {
        Status::Stopped => ending::found(record),
        _ => None,
    };
    let creation = match status {
        Status::Creating => stage::of(record, &directory.record_file()),
        _ => None,
    };
    State {
        oci_version: OCI_VERSION,
        id: record.id.clone(),
        pid,
        status,
        bundle: record.bundle.clone(),
        rootfs: record.rootfs.clone(),
        created: record.created.clone(),
        annotations: record.shown_annotations(),
        ended,
        creation,
        owner: record.owner,
    }
}

/// The JSON for a hook's standard input, on one line, with only the members of the specification:
/// runtime.md § State, config.md § POSIX-platform Hooks.
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
    // This cannot fail: the paths were checked to be UTF-8.
    serde_json::to_vec(&state).unwrap_or_default()
}
