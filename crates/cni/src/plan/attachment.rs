//! Attachments to networks, as they are planned and recorded.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::list::NetworkList;

/// Where configurations and plugins are, and how long a plugin may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The folder of the configurations.
    pub conf_dir: PathBuf,
    /// The folders of plugins; the first that has one counts.
    pub bin_dirs: Vec<PathBuf>,
    /// After so many seconds a plugin is killed.
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

/// The networks of one container, first as they are planned, then as they became: this is also
/// what the container's record remembers, since DEL and CHECK get what ADD got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order of ADD.
    pub attachments: Vec<Attachment>,
    /// Where plugins are.
    pub search: Search,
    /// Requested name servers, before those of the results.
    pub servers: Vec<String>,
    /// `resolv.conf` and `hosts` are requested in the container.
    pub files: bool,
    /// The caller has no power over networks of the host.
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
    /// ADD was called, or is about to be: DEL must be.
    pub begun: bool,
    /// What the last plugin of the list answered to ADD.
    pub result: Option<Value>,
}
