//! The bundle and its `config.json`: read once, validated against the specification, and converted
//! to types that cannot hold what the specification forbids.
//!
//! The text is read once, to [oci-spec](https://docs.rs/oci-spec)'s types. Those accept more than
//! the specification allows (missing numbers become zero) and less (some flags and large numbers
//! are refused): `read/gaps.rs` has all differences. The result needs no second check: paths are
//! absolute and free of NUL, numbers are in range, options are bits, and contradictions were
//! refused. What depends on the host (whether the root exists, or the kernel has a controller) is
//! left to the planners.
//!
//! ```
//! use coracle_bundle::{Namespace, parse};
//! use std::path::Path;
//!
//! let text = br#"{
//!     "ociVersion": "1.3.0",
//!     "root": {"path": "rootfs"},
//!     "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
//!     "mounts": [{"destination": "/proc", "type": "proc", "options": ["nosuid", "ro"]}],
//!     "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
//! }"#;
//! let config = parse(Path::new("/run/bundle"), text)?;
//! assert_eq!(config.root.path, Path::new("/run/bundle/rootfs"));
//! assert_eq!(config.linux.namespaces.pid, Namespace::New);
//!
//! let text = String::from_utf8_lossy(text).replace("proc\",", "proc/sys\",");
//! let error = parse(Path::new("/run/bundle"), text.as_bytes()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "config.json: mounts[0].destination: \"/proc/sys\" cannot be mounted because it is inside \
//!      /proc"
//! );
//! # Ok::<(), coracle_bundle::Error>(())
//! ```
//!
//! # Invariants
//! - Only [`load`] reads a file, once; everything else is a function of text.
//! - No input leads to a panic. Time is at most n log n of the input's size, and memory a small
//!   multiple of it plus 64 MiB.
//! - Every error is one line that names the property by its path, the value, and what was
//!   expected; control characters in it are escaped.
//! - Unknown properties are ignored; a duplicate key is refused, even inside them.
//! - Absent, null, empty and zero are distinguished wherever they have different meanings.
//! - Nothing depends on the host: no environment, clock or user names.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "tests are tables"))]

mod capability;
mod error;
mod hooks;
mod id;
mod linux;
mod load;
mod mount;
mod numbers;
mod options;
mod process;
mod read;
mod resources;
mod seccomp;
mod validate;

#[cfg(test)]
mod fixture;

pub use capability::{capability_name, parse_capability};
pub use error::{Document, Error, member};
pub use hooks::{Hook, HookPoint, Hooks, PerPoint};
pub use id::ContainerId;
pub use linux::*;
pub use load::{
    MAX_CONFIG_BYTES, load, parse, parse_process, parse_resources, parse_tree, text, tree,
};
pub use mount::*;
pub use options::mount_options;
pub use process::*;
pub use resources::*;
pub use seccomp::*;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;

/// A bundle whose `config.json` was read once and is valid in form.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The bundle's directory: absolute.
    pub dir: PathBuf,
    /// `config.json` byte for byte, for the private copy in the state directory.
    pub raw: Vec<u8>,
    /// What the text means.
    pub config: Config,
}

/// `config.json`, typed so that it cannot hold what the spec forbids.
#[derive(Clone, Debug)]
pub struct Config {
    /// A SemVer of major version 1.
    pub oci_version: String,
    /// The container's root file system.
    pub root: Root,
    /// What to run; a container without it can be created, but not started.
    pub process: Option<Process>,
    /// At most 64 bytes; only with a `uts` namespace entry.
    pub hostname: Option<CString>,
    /// The NIS domain name; the same rules.
    pub domainname: Option<CString>,
    /// In the order to mount them in.
    pub mounts: Vec<Mount>,
    /// Commands to run at points of the container's life.
    pub hooks: Hooks,
    /// No key is empty.
    pub annotations: BTreeMap<String, String>,
    /// An absent `linux` object is the default value.
    pub linux: Linux,
    /// What the spec wants warned of (unknown capabilities, relative destinations), one line each.
    pub warnings: Vec<String>,
}

impl Config {
    /// The annotation `run.oci.keep_original_groups` of crun's: the process keeps the groups of the
    /// runtime's caller.
    #[must_use]
    pub fn keeps_groups(&self) -> bool {
        let value = self.annotations.get("run.oci.keep_original_groups");
        value.is_some_and(|value| value == "1")
    }
}

/// `root`: config.md § Root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Absolute: joined with the bundle's directory when relative. Not yet resolved.
    pub path: PathBuf,
    /// The container may not write to it.
    pub readonly: bool,
}
