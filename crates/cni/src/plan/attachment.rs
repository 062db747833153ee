//! Attachments to networks, as they are planned and recorded.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::list::NetworkList;

/// The directories of configurations and plugins, and the time limit of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The directory of the configurations.
    pub conf_dir: PathBuf,
    /// The directories of plugins; the first that has a plugin is used.
    pub bin_dirs: Vec<PathBuf>,
    /// The time in seconds after which a plugin is killed.
    pub timeout_s: u32,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            timeout_s: 60,
        }
    }
}

/// The networks of one container, first as planned, later with their results. The container's
/// record stores this value, so that DEL and CHECK get what ADD got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order of ADD.
    pub attachments: Vec<Attachment>,
    /// The directories and the time limit of plugins.
    pub search: Search,
    /// Requested name servers, which replace those of the results.
    pub servers: Vec<String>,
    /// Whether `resolv.conf` and `hosts` are to be mounted in the container.
    pub files: bool,
    /// Whether the caller lacks CAP_NET_ADMIN.
    pub unprivileged: bool,
}

/// One interface of the container on one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The network as it was configured when the container was created.
    pub network: NetworkList,
    /// The interface's name in the container.
    pub interface: String,
    /// Capability arguments by capability.
    pub arguments: Map<String, Value>,
    /// Whether ADD was called or is about to be, so that DEL must be called.
    pub begun: bool,
    /// The result of ADD, from the last plugin of the list.
    pub result: Option<Value>,
}
